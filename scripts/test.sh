#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test.sh - installs what is missing, builds with assertions on, and passes the tests. One command on a fresh clone.
#
#   scripts/test.sh [ctest arguments]     for example: scripts/test.sh -R contract
#
# MMKIT_SCALE shrinks or enlarges the long tests, MMKIT_SEED repeats the random ones.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --test
cmake --preset dev -DMMKIT_BUILD_BENCH=OFF --log-level=WARNING >/dev/null
cmake --build --preset dev -- --quiet
ctest --preset dev "$@"
