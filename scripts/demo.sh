#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# demo.sh - installs what is missing, builds the mmkit command, and packs this machine's own files: its shared libraries and
# its documents, page by page, in every driver, read back and compared. One command on a fresh clone.
#
#   scripts/demo.sh [arguments of mmkit pack]     for example: scripts/demo.sh --codec zstd ~/pictures
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --minimal
echo "building the mmkit command"
cmake --preset release -B build/demo -DMMKIT_BUILD_TESTS=OFF -DMMKIT_BUILD_BENCH=OFF -DMMKIT_BUILD_EXAMPLES=OFF \
  --log-level=WARNING >/dev/null
cmake --build build/demo -- --quiet
mmkit=build/demo/tools/mmkit

if (($#)); then
  exec "$mmkit" pack "$@"
fi

# Enough bytes for steady figures, few enough to end in less than a minute on a small machine.
readonly max_mib=96
for directory in "/usr/lib/$(uname -m)-linux-gnu" /usr/share/doc; do
  if [[ -d $directory ]]; then
    echo
    echo "mmkit pack $directory --max-bytes ${max_mib}M"
    "$mmkit" pack "$directory" --max-bytes "${max_mib}M"
  fi
done
