#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# package_test.sh SOURCE BUILD CMAKE COMPILER GENERATOR - the installed package, used as a stranger would.
#
# Installs the build into a fresh prefix, moves the tree, and from there: no file remembers where it was made; a consumer
# builds, runs and prints; an unknown component and another version are refused by a message that says why. Then a consumer
# takes the sources by add_subdirectory: it gets no test, no install rule and no warning flag of ours.
set -euo pipefail

source_dir=$1 build_dir=$2 cmake=$3 compiler=$4 generator=$5
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log

fail() {
  echo "package: $*" >&2
  [[ -s $log ]] && tail -n 40 "$log" >&2
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

# ---------------------------------------------------------------- the installed tree
expect "install" "$cmake" --install "$build_dir" --prefix "$work/first/prefix"
mkdir "$work/elsewhere"
mv "$work/first/prefix" "$work/elsewhere/moved"
rmdir "$work/first"
prefix=$work/elsewhere/moved

# Debug information names source paths, hence text files only (-I).
if grep -rIlF -e "$source_dir" -e "$build_dir" -e "$work/first" "$prefix" >"$log"; then
  fail "installed files remember where they were made"
fi
headers=$(cd "$source_dir/include" && find . -name '*.hpp' | sort)
[[ $(cd "$prefix/include" && find . -type f | sort) == "$headers" ]] || fail "the installed headers are not those of include/"

# ---------------------------------------------------------------- find_package
configure() {
  "$cmake" -S "$here/find_package" -B "$work/found" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF -DCMAKE_BUILD_TYPE=Debug "$@"
}
expect "configure the consumer" configure -DVERSION=0.1 -DCOMPONENTS=
expect "build the consumer" "$cmake" --build "$work/found"
expect "run the consumer" "$work/found/consumer"
grep -qxF "zbud holds: kept in a pool" "$log" || fail "the consumer did not print what it stored"
expect "known components" configure -DVERSION=0.1.0 "-DCOMPONENTS=base;page;zpool"
refused "mmkit has no component 'nonsense'; it has: base page zpool" configure -DVERSION=0.1 "-DCOMPONENTS=zpool;nonsense"
for version in 0.2 1.0; do
  refused "compatible with requested version \"$version\"" configure -DVERSION=$version -DCOMPONENTS=
done

# ---------------------------------------------------------------- add_subdirectory
expect "configure the parent" "$cmake" -S "$here/add_subdirectory" -B "$work/parent" -G "$generator" \
  -DCMAKE_CXX_COMPILER="$compiler" -DMMKIT_ROOT="$source_dir" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
expect "build the parent" "$cmake" --build "$work/parent" --parallel 2
expect "run the parent's consumer" "$work/parent/consumer"
expect "list the parent's tests" "${cmake%cmake}ctest" --test-dir "$work/parent" -N
grep -qx "Total Tests: 0" "$log" || fail "mmkit added tests to its parent"
expect "install the parent" "$cmake" --install "$work/parent" --prefix "$work/installed"
[[ ! -e $work/installed ]] || fail "mmkit added install rules to its parent"
if grep -q -e ' -W' "$work/parent/compile_commands.json"; then fail "mmkit added warning flags to its parent's build"; fi
echo "package: installed, moved, found, refused and nested as promised"
