#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# full.sh - what is too slow for every change: all presets, coverage, valgrind, long model and stress runs, mutants, fuzzing,
# the package with the command in it, the ABI, the site.
#
#   scripts/full.sh            all stages
#   scripts/full.sh STAGE...   those named: presets coverage valgrind model stress mutants fuzz package abi docs
#
# FUZZ_SECONDS is the time for each fuzz target (60). Coverage below COVERAGE_PERCENT of the lines of include and src (90)
# is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
export CTEST_OUTPUT_ON_FAILURE=1

build_preset() {
  cmake --preset "$1" --log-level=WARNING >/dev/null
  cmake --build --preset "$1" -- --quiet
}

stage_presets() {
  local name
  for name in dev release asan-ubsan tsan audit clang14 clang19 coverage fuzz; do
    echo "-- $name"
    build_preset "$name"
  done
  ctest --preset release
  MMKIT_SCALE=${MMKIT_SCALE:-0.2} ctest --preset clang14 -L '^(unit|contract)$'
}

# Tests alone count, not the tool or what is compiled into the tests themselves. A line that only a fatal misuse reaches is
# run in a child that aborts and leaves no counts; GCOVR_EXCL_* marks in the sources say so where it matters.
stage_coverage() {
  build_preset coverage
  find build/coverage -name '*.gcda' -delete
  MMKIT_SCALE=${MMKIT_SCALE:-0.1} ctest --preset coverage -LE lint
  gcovr --root . --object-directory build/coverage --filter 'include/' --filter 'src/' \
    --exclude 'include/mmkit/testing/' --exclude-unreachable-branches --exclude-throw-branches \
    --txt build/coverage/coverage.txt --html-details build/coverage/coverage.html --print-summary \
    --fail-under-line "${COVERAGE_PERCENT:-90}" || {
    cat build/coverage/coverage.txt
    return 1
  }
}

# Leaks are left to the ASan build: a forked child has lost its siblings' stacks, which memcheck would report as leaks and
# turn into the child's exit code. Left out are tests of what valgrind has not: 64 GiB of addresses, faults that can be counted.
# Fair to threads, or one that spins keeps the others out. The library tells valgrind which memory is free, as it tells AddressSanitizer in the builds with that.
stage_valgrind() {
  cmake --preset release -B build/valgrind -DMMKIT_VALGRIND_ANNOTATIONS=ON -DMMKIT_BUILD_BENCH=OFF --log-level=WARNING >/dev/null
  cmake --build build/valgrind --target mmkit_unit_tests mmkit_contract_tests -- --quiet
  local kind
  for kind in unit contract; do
    echo "-- memcheck $kind"
    MMKIT_SCALE=${MMKIT_SCALE:-0.01} valgrind --quiet --fair-sched=yes --error-exitcode=99 --leak-check=no \
      "build/valgrind/tests/mmkit_${kind}_tests" --gtest_brief=1 \
      --gtest_filter='-*SimPage*:*Fork*:*LivePools*:*Mapped*'
  done
}

# Ten million operations on pools of zheap, among others at tenfold length.
stage_model() {
  build_preset release
  MMKIT_SCALE=${MMKIT_SCALE:-10} build/release/tests/mmkit_model_tests --gtest_brief=1 \
    --gtest_filter='-PercpuModel.*:ZsmallocModel.*'
  # Ten million operations on each backing, and in each of the 24 configurations of zsmalloc.
  MMKIT_SCALE=${MMKIT_SCALE:-34} build/release/tests/mmkit_model_tests --gtest_brief=1 \
    --gtest_filter='PercpuModel.*'
  MMKIT_SCALE=${MMKIT_SCALE:-24} build/release/tests/mmkit_model_tests --gtest_brief=1 \
    --gtest_filter='ZsmallocModel.*'
  # A million interleavings of each kind.
  MMKIT_SCALE=${MMKIT_SCALE:-50} build/release/tests/mmkit_schedule_tests --gtest_brief=1
}

# A thousand million per-CPU operations under signals, moves and forks: none may be lost. As many of genalloc's where nobody may
# be refused. A hundred million each on the pools of zsmalloc and zheap; their races and genalloc's at tenfold length.
stage_stress() {
  build_preset release
  MMKIT_SCALE=${MMKIT_SCALE:-100} build/release/tests/mmkit_stress_tests --gtest_brief=1 \
    --gtest_filter='PercpuOpsStress.*:Shape/Z*Stress.KeepsEveryObjectWholeWhateverThreadsDo/*:GenPoolStress.Nobody*'
  MMKIT_SCALE=${MMKIT_SCALE:-10} build/release/tests/mmkit_stress_tests --gtest_brief=1 \
    --gtest_filter='CpuStacksStress.*:Shape/Z*Stress.*Move*:Shape/Z*Stress.*Shrink*:Shape/Z*Stress.AFork*:Zsmalloc*:Zheap*:GenPoolStress.*-*Nobody*'
}

stage_mutants() { scripts/mutants.sh; }

# New inputs go to the build directory; a crash leaves its input there too, named by libFuzzer's last lines.
stage_fuzz() {
  build_preset fuzz
  local target name found=0
  for target in build/fuzz/tests/fuzz/mmkit_*_fuzz; do
    [[ -x $target ]] || continue
    name=${target##*/mmkit_}
    name=${name%_fuzz}
    echo "-- fuzz $name for ${FUZZ_SECONDS:-60} s"
    mkdir -p "build/fuzz/corpus/$name"
    "$target" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=20 -print_final_stats=1 -verbosity=0 \
      -artifact_prefix="build/fuzz/crash-$name-" "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name"
    found=$((found + 1))
  done
  if ((found == 0)); then
    echo "no fuzz target was built" >&2
    return 1
  fi
}

# The .debs with the command among them; and whatever links to the library by its headers does so with the shared one.
stage_package() {
  local work=build/full-package
  mkdir -p "$work"
  tests/package/shared_test.sh "$PWD" "$PWD/$work" "$(command -v cmake)" g++ Ninja -DCMAKE_UNITY_BUILD=OFF \
    -DMMKIT_BUILD_TOOLS=ON -DMMKIT_BUILD_EXAMPLES=ON -DMMKIT_BUILD_BENCH=ON
  local example
  for example in "$work"/build/examples/mmkit_example_*; do "$example" >/dev/null; done
  LD_LIBRARY_PATH="$work/build" python3 tests/lint/doc_snippets.py --root . --compiler g++ --library "$work/build/libmmkit.so" \
    --include include --define MMKIT_CHECK_LEVEL=0 --work "$work/snippets"
}

stage_abi() { scripts/abi.sh; }

stage_docs() { scripts/docs.sh; }

all=(presets coverage valgrind model stress mutants fuzz package abi docs)
stages=("$@")
if ((${#stages[@]} == 0)); then stages=("${all[@]}"); fi

scripts/setup.sh
for stage in "${stages[@]}"; do
  if [[ " ${all[*]} " != *" $stage "* ]]; then
    echo "no stage '$stage'; there are: ${all[*]}" >&2
    exit 2
  fi
  echo
  echo "==== $stage"
  stage_begun=$SECONDS
  "stage_$stage"
  echo "==== $stage passed in $((SECONDS - stage_begun)) s"
done
