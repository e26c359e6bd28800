#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# installed_test.sh SOURCE BUILD WORK CMAKE COMPILER GENERATOR - the installed package, used as a stranger would.
#
# Installs the build into a fresh prefix, moves the tree, and from there: no file remembers where it was made; consumers build
# by find_package and by pkg-config, run and say what they found; an unknown component and another version are refused by a
# message that says why.
source_dir=$1 build_dir=$2 work=$3 cmake=$4 compiler=$5 generator=$6
. "$source_dir/tests/package/support.sh"

install_and_move "$build_dir"
found_consumers
pkg_consumer --static

parts="base;page;percpu;genalloc;zpool"
expect "known components" find_configure "$(project_version)" "$parts"
refused "mmkit has no component 'nonsense'; it has: ${parts//;/ }" find_configure 0.1 "zpool;nonsense"
for version in 0.2 1.0 0.0; do
  refused "compatible with requested version \"$version\"" find_configure $version ""
done
echo "package: installed, moved, found and refused as promised"
