#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# abi.sh - whether the shared library can take the place of an earlier one in programs that were linked with that.
#
#   scripts/abi.sh          compares with the latest tag v* behind the commit that is checked out
#   scripts/abi.sh REF      compares with that tag or commit
#
# Both are built as shared libraries with debug information, from what is committed there and from the working tree, and
# abidiff says what differs. Within a minor version nothing may be taken away or changed; a new minor version has a new
# SOVERSION, with which old programs are not run, so that differences are only shown.
# Exit codes: 0 compatible, or nothing to compare with; 1 incompatible; 2 a build or abidiff itself failed.
set -euo pipefail
cd "$(dirname "$0")/.."

ref=${1:-$(git describe --tags --match 'v*' --abbrev=0 2>/dev/null || true)}
if [[ -z $ref ]]; then
  echo "abi: there is no tag v* yet, so there is no earlier library to compare with: NOT CHECKED"
  exit 0
fi
command -v abidiff >/dev/null || { echo "abi: no abidiff; scripts/setup.sh installs abigail-tools" >&2 && exit 2; }

work=build/abi
rm -rf "$work/before" "$work/build-before"
mkdir -p "$work/before"
git archive "$ref" | tar -x -C "$work/before"

# shared_library SOURCE BUILD
shared_library() {
  {
    cmake -S "$1" -B "$2" -G Ninja -DCMAKE_CXX_COMPILER=g++ -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_SHARED_LIBS=ON \
      -DMMKIT_CHECK_LEVEL=0 -DMMKIT_BUILD_TESTS=OFF -DMMKIT_BUILD_TOOLS=OFF -DMMKIT_BUILD_BENCH=OFF -DMMKIT_BUILD_EXAMPLES=OFF
    cmake --build "$2"
  } >"$work/log" 2>&1 || { cat "$work/log" >&2 && echo "abi: $1 does not build" >&2 && exit 2; }
}
shared_library "$work/before" "$work/build-before"
shared_library . "$work/build-after"

soname() { readelf -d "$1" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p'; }
before=$work/build-before/libmmkit.so after=$work/build-after/libmmkit.so
names="$(soname "$before"), $(soname "$after")"

# Only types that the installed headers declare; what is behind them may change. What was added harms nobody and is shown first.
compare() {
  local code=0
  abidiff --headers-dir1 "$work/before/include" --headers-dir2 include --drop-private-types --no-show-locs "$@" \
    "$before" "$after" >"$work/report" 2>&1 || code=$?
  # Bits of the exit code: 1 an error, 2 wrong usage, 4 a difference, 8 one that breaks for certain.
  if ((code & 3)); then
    cat "$work/report" >&2
    echo "abi: abidiff failed ($code)" >&2
    exit 2
  fi
  return "$code"
}
if compare; then
  echo "abi: the same as $ref ($names)"
  exit 0
fi
cat "$work/report"
if compare --no-added-syms; then
  echo "abi: has more than $ref, and all of that ($names)"
elif [[ ${names%, *} != "${names#*, }" ]]; then
  echo "abi: differs from $ref, which programs tell apart by name ($names)"
else
  echo "abi: INCOMPATIBLE with $ref under the same name ($names): needs a new minor version" >&2
  exit 1
fi
