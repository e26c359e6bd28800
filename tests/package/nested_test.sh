#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# nested_test.sh SOURCE WORK CMAKE COMPILER GENERATOR - the sources taken into somebody else's build.
#
# By add_subdirectory, static; by FetchContent from a local directory, shared, in a project that hides its own symbols.
# The parent gets no test, no install rule, no flag: its CMakeLists.txt looks at its settings, this script at what was made.
source_dir=$1 work=$2 cmake=$3 compiler=$4 generator=$5
. "$source_dir/tests/package/support.sh"

# nest WAY [options]
nest() {
  local way=$1 build=$work/$1
  shift
  expect "$way: configure" "$cmake" -S "$here/nested" -B "$build" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" \
    -DMMKIT_ROOT="$source_dir" -DWAY="$way" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DCMAKE_UNITY_BUILD=ON "$@"
  expect "$way: build" "$cmake" --build "$build" --parallel 2
  greets "$build/consumer"
  expect "$way: list tests" "${cmake%cmake}ctest" --test-dir "$build" -N
  grep -qx "Total Tests: 0" "$log" || fail "$way: mmkit added tests to its parent"
  rm -rf "$work/installed"
  expect "$way: install" "$cmake" --install "$build" --prefix "$work/installed"
  [[ ! -e $work/installed ]] || fail "$way: mmkit added install rules to its parent"
  # Of the file that does not use mmkit: the compiler, an output, and -c. Of the one that does: also what the target carries.
  expect "$way: flags" python3 - "$build/compile_commands.json" "$source_dir" <<'EOF'
import json, re, shlex, sys
commands, root = json.load(open(sys.argv[1])), sys.argv[2]
def flags(part):
    words = next(shlex.split(c["command"]) for c in commands if part in c["command"] and "CMakeFiles/mmkit" not in c["command"])
    return [w for w in words[1:] if w.startswith("-") and not re.fullmatch(r"-o|-c|-fvisibility=hidden|-fvisibility-inlines-hidden", w)]
assert flags("bystander") == [], flags("bystander")
carried = [f for f in flags("consumer.dir") if not re.fullmatch(rf"-I{re.escape(root)}/include|-DMMKIT_CHECK_LEVEL=\d|-std=(c|gnu)\+\+20", f)]
assert carried == [], carried
library = [c["command"] for c in commands if "CMakeFiles/mmkit.dir" in c["command"]]
assert library and not any(" -W" in c for c in library), "the library is compiled with warnings in a parent's build"
EOF
}
nest add_subdirectory
nest FetchContent -DBUILD_SHARED_LIBS=ON -DCMAKE_CXX_VISIBILITY_PRESET=hidden -DCMAKE_VISIBILITY_INLINES_HIDDEN=ON
echo "package: nested as promised"
