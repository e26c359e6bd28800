#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What the package tests share: how a step passes or fails, an installed tree that was moved, and its consumers.
#
# Sourced with these set: source_dir, cmake, compiler, generator; `work` is a directory of the test's own. Builds in it stay for
# the next run, what is installed is removed first.
set -euo pipefail
here=$source_dir/tests/package
log=$work/log
mkdir -p "$work"
: >"$log"

fail() {
  echo "package: $*" >&2
  [[ -s $log ]] && tail -n 60 "$log" >&2
  exit 1
}
# expect WHAT COMMAND...: the command succeeds.
expect() {
  local what=$1
  shift
  "$@" >"$log" 2>&1 || fail "$what: failed"
}
# refused TEXT COMMAND...: the command fails, and its message says TEXT (CMake breaks lines where it likes).
refused() {
  local text=$1
  shift
  if "$@" >"$log" 2>&1; then fail "expected a refusal: $text"; fi
  [[ $(tr -s ' \n' ' ' <"$log") == *"$text"* ]] || fail "the refusal does not say: $text"
}
# greets PROGRAM...: it runs, and found everything as it should be.
greets() {
  expect "run $1" "$@"
  grep -qxF "consumer: objects, ranges and counters are as they should be" "$log" || fail "$1 did not say what it found"
}

# install_and_move BUILD: installs a build, moves the tree to $prefix, and looks whether any file remembers an earlier place.
install_and_move() {
  local build=$1 type options=(-rlP)
  # Whole paths: sources in /mmkit are not what every include/mmkit names.
  local where="(?<![a-z0-9_.}])(\\Q$source_dir\\E|\\Q$1\\E|\\Q$work/first\\E)(?![a-z0-9_.-])"
  rm -rf "$work/first" "$work/elsewhere"
  expect "install" "$cmake" --install "$build" --prefix "$work/first/prefix"
  mkdir "$work/elsewhere"
  mv "$work/first/prefix" "$work/elsewhere/moved"
  rmdir "$work/first"
  prefix=$work/elsewhere/moved
  # A debug build's debug information names the sources; all else is looked at byte by byte.
  type=$(sed -n 's/^CMAKE_BUILD_TYPE:[A-Z]*=//p' "$build/CMakeCache.txt")
  if [[ $type == Debug ]]; then options+=(-I); fi
  if LC_ALL=C grep "${options[@]}" "$where" "$prefix" >"$log"; then fail "installed files remember where they were made"; fi
  (cd "$source_dir/include" && find . -name '*.hpp' | sort) >"$work/headers"
  (cd "$prefix/include" && find . -type f | sort) | diff "$work/headers" - >"$log" ||
    fail "the installed headers are not those of include/"
}

# find_configure VERSION COMPONENTS [options]: configures the consumers of the package in $prefix.
find_configure() {
  local version=$1 components=$2
  shift 2
  "$cmake" -S "$here/found" -B "$work/found" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF -DCMAKE_BUILD_TYPE=Debug \
    -DVERSION="$version" -DCOMPONENTS="$components" "$@"
}
# found_consumers [NAME...]: builds and runs them, or those named.
found_consumers() {
  local name names=("$@")
  if ((${#names[@]} == 0)); then names=(consumer_{20,23}_{whole,bare}); fi
  rm -rf "$work/found"
  expect "configure the consumers" find_configure 0.1 ""
  expect "build the consumers" "$cmake" --build "$work/found" --parallel 2 --target "${names[@]}"
  for name in "${names[@]}"; do greets "$work/found/$name"; done
}

# pkg_consumer [pkg-config options]: compiles a consumer with what pkg-config says, and no other flag.
pkg_consumer() {
  local libdir flags
  libdir=$(dirname "$(find "$prefix" -name mmkit.pc)")
  export PKG_CONFIG_PATH=$libdir
  expect "the version pkg-config knows" pkg-config --exact-version="$(project_version)" mmkit
  read -ra flags <<<"$(pkg-config --cflags --libs "$@" mmkit)"
  expect "compile by pkg-config" "$compiler" -std=c++20 "$here/consumer.cpp" "${flags[@]}" -o "$work/pkg_consumer"
  LD_LIBRARY_PATH=${libdir%/pkgconfig} greets "$work/pkg_consumer"
}

project_version() { sed -n 's/^project(mmkit VERSION \([0-9.]*\).*/\1/p' "$source_dir/CMakeLists.txt"; }
