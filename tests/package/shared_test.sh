#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# shared_test.sh SOURCE WORK CMAKE COMPILER GENERATOR [CMake options] - the shared library and the Debian packages.
#
# Builds a shared library, several sources at a time to save minutes. It exports what the list says; installed and moved it
# serves consumers by find_package and by pkg-config. Then cpack makes packages of it, which put into an empty root serve the
# same consumers, and do not lay hands on each other's files.
# The command is packed and run if it is built: scripts/full.sh package does that, for it takes minutes.
source_dir=$1 work=$2 cmake=$3 compiler=$4 generator=$5
. "$source_dir/tests/package/support.sh"
shift 5

build=$work/build
expect "configure a shared library" "$cmake" -S "$source_dir" -B "$build" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_SHARED_LIBS=ON -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_UNITY_BUILD=ON \
  -DMMKIT_BUILD_TOOLS=OFF -DMMKIT_BUILD_BENCH=OFF -DMMKIT_BUILD_EXAMPLES=OFF "$@"
expect "build a shared library" "$cmake" --build "$build" --parallel 2
refused "MMKIT_BUILD_TESTS needs a static library" "$cmake" -S "$source_dir" -B "$work/refused" -G "$generator" \
  -DCMAKE_CXX_COMPILER="$compiler" -DBUILD_SHARED_LIBS=ON -DMMKIT_BUILD_TESTS=ON
expect "compare the exported symbols with the list" python3 "$here/exports_test.py" --library "$build/libmmkit.so" \
  --list "$source_dir/cmake/exports.txt" --include "$source_dir/include" --compiler "$compiler"
cat "$log"

# ---------------------------------------------------------------- installed
install_and_move "$build"
soname=$(readelf -d "$prefix"/lib/*/libmmkit.so | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[[ $soname == "libmmkit.so.$(project_version | cut -d. -f1,2)" ]] || fail "the library's name is '$soname'"
found_consumers consumer_20_whole consumer_23_bare
expect "look at what a consumer needs" readelf -d "$work/found/consumer_20_whole"
grep -qF "Shared library: [$soname]" "$log" || fail "the consumer does not need $soname"
pkg_consumer

# ---------------------------------------------------------------- packed
rm -rf "$work/packages" "$work/root"
mkdir "$work/root"
expect "make packages" "${cmake%cmake}cpack" --config "$build/CPackConfig.cmake" -B "$work/packages"
packages=("$work"/packages/*.deb)
names=$(for package in "${packages[@]}"; do dpkg-deb --field "$package" Package; done | sort | tr '\n' ' ')
expected="libmmkit-dev ${soname/.so./} "
if grep -q '^MMKIT_BUILD_TOOLS:.*=ON' "$build/CMakeCache.txt"; then expected+="mmkit "; fi
[[ $names == "$expected" ]] || fail "the packages are: $names; expected: $expected"
: >"$work/files"
for package in "${packages[@]}"; do
  expect "unpack $package" dpkg-deb --extract "$package" "$work/root"
  dpkg-deb --contents "$package" | awk '$1 !~ /^d/ { print $6 }' >>"$work/files"
  case $(dpkg-deb --field "$package" Package) in
    "${soname/.so./}") needs="libc6" ;;
    *) needs="${soname/.so./} (= $(project_version)" ;;
  esac
  dpkg-deb --field "$package" Depends >"$log"
  grep -qF "$needs" "$log" || fail "$package does not depend on $needs"
done
sort "$work/files" | uniq -d >"$log"
[[ ! -s $log ]] || fail "files in two packages"
prefix=$work/root/usr
found_consumers consumer_20_whole
pkg_consumer
if [[ -x $prefix/bin/mmkit ]]; then
  library=$(dirname "$(find "$prefix" -name "$soname")")
  expect "the command of the package" env LD_LIBRARY_PATH="$library" "$prefix/bin/mmkit" drivers
  grep -q zheap "$log" || fail "the packed command does not know its drivers"
fi
echo "package: the shared library exports, installs and packs as promised"
