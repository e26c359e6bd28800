#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# mutants.sh - proves that the tests of racy and fragile paths can fail: compiles each bug of tests/mutants.txt in, and
# demands that its test fails, after the same test has passed without the bug.
#
#   scripts/mutants.sh [NAME...]     all mutants, or those named
#
# One build directory serves all; of the tests only the files that hold the named suites are built. A bug in a source costs
# that file and a link, a bug in a header the library and its test. A test that hangs is stopped and counts as failed: a deadlock is a way to notice a bug.
# Also refused: a mutant in the sources that the list lacks, and one in the list that the sources lack.
set -euo pipefail
cd "$(dirname "$0")/.."

list=tests/mutants.txt
build=build/mutants
limit_seconds=${MUTANT_SECONDS:-120}

mapfile -t lines < <(grep -vE '^[[:space:]]*(#|$)' "$list")

in_sources=$({ grep -rhoE 'MMKIT_MUTANT_[A-Za-z0-9_]+' include src tests --include='*.hpp' --include='*.cpp' || true; } |
  sed 's/^MMKIT_MUTANT_//' | sort -u)
in_list=$(printf '%s\n' ${lines[@]+"${lines[@]%%[[:space:]]*}"} | sort)
if [[ $in_sources != "$in_list" ]]; then
  echo "mutants: the sources and $list disagree ('<' only in the sources, '>' only in the list):" >&2
  diff <(echo "$in_sources") <(echo "$in_list") | grep '^[<>]' >&2
  exit 1
fi

# The test files, joined by '|', that define the suites of a filter.
files_of() {
  local kind=$1 filter=$2 suite found=() -
  set -f # a filter's asterisks are not files
  for suite in ${filter//:/ }; do
    suite=${suite#-}
    suite=${suite%.*}   # the suite, of an instantiation Prefix/Suite
    suite=${suite#*/}
    mapfile -t -O ${#found[@]} found < <(grep -rlE "TEST(_F|_P)?\($suite," "tests/$kind" --include='*_test.cpp' || true)
  done
  printf '%s\n' ${found[@]+"${found[@]##*/}"} | sort -u | paste -sd '|'
}

# build_with MUTANT FILES EXECUTABLE...: configures and builds test executables, of those files, with a bug or with none.
# Assertions are off: a test must notice the bug by what the library does.
build_with() {
  local mutant=$1 files=$2
  shift 2
  if ! cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1" -DMMKIT_CHECK_LEVEL=0 \
    -DMMKIT_BUILD_BENCH=OFF -DMMKIT_BUILD_TOOLS=OFF -DMMKIT_BUILD_EXAMPLES=OFF -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON \
    -DMMKIT_MUTANT="$mutant" -DMMKIT_TEST_ONLY="$files" >"$build.log" 2>&1 ||
    ! cmake --build "$build" --target "$@" >"$build.log" 2>&1; then
    cat "$build.log" >&2
    echo "mutants: the build with mutant '$mutant' failed" >&2
    exit 1
  fi
}
# passes EXECUTABLE FILTER: the test passes. A seed of its own each time, as in any run. The outer shell keeps bash's own
# note of a crash off the screen: to crash is a way to fail.
passes() {
  (
    timeout "$limit_seconds" "$build/tests/$1" --gtest_filter="$2" --gtest_brief=1 >"$build.log" 2>&1
    exit $?
  ) 2>/dev/null
}

mkdir -p build
names=() executables=() filters=() files=()
for line in "${lines[@]}"; do
  read -r name executable filter <<<"$line"
  if (($# > 0)) && [[ " $* " != *" $name "* ]]; then continue; fi
  if [[ ! $executable =~ ^mmkit_([a-z]+)_tests$ || -z $filter ]]; then
    echo "mutants: '$line' is not NAME EXECUTABLE FILTER" >&2
    exit 1
  fi
  names+=("$name") executables+=("$executable") filters+=("$filter")
  files+=("$(files_of "${BASH_REMATCH[1]}" "$filter")")
  if [[ -z ${files[-1]} ]]; then
    echo "mutants: no file of tests/${BASH_REMATCH[1]} defines the suite of '$filter'" >&2
    exit 1
  fi
done
if ((${#names[@]} == 0)); then
  echo "mutants: nothing to do" >&2
  exit 1
fi

# Every test passes, and exists, without a bug: one build for all of them.
mapfile -t distinct < <(printf '%s\n' "${executables[@]}" | sort -u)
build_with "" "$(printf '%s\n' "${files[@]}" | tr '|' '\n' | sort -u | paste -sd '|')" "${distinct[@]}"
declare -A passed
for i in "${!names[@]}"; do
  test="${executables[i]} ${filters[i]}"
  if [[ -v passed[$test] ]]; then continue; fi
  passed[$test]=1
  if ! passes "${executables[i]}" "${filters[i]}"; then
    cat "$build.log" >&2
    echo "mutants: ${executables[i]} --gtest_filter=${filters[i]} fails without any mutant" >&2
    exit 1
  fi
  if ! grep -qE '^\[  PASSED  \] [1-9]' "$build.log"; then
    echo "mutants: ${executables[i]} has no test '${filters[i]}'" >&2
    exit 1
  fi
done

survived=0
for i in "${!names[@]}"; do
  build_with "${names[i]}" "${files[i]}" "${executables[i]}"
  if passes "${executables[i]}" "${filters[i]}"; then
    echo "SURVIVED  ${names[i]}: ${executables[i]} --gtest_filter=${filters[i]} passes with the bug in"
    survived=$((survived + 1))
  else
    echo "killed    ${names[i]} by ${executables[i]} ${filters[i]}"
  fi
done
echo "mutants: $((${#names[@]} - survived)) killed, $survived survived"
((survived == 0))
