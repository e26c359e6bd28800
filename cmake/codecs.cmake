# SPDX-License-Identifier: MIT
#
# The compressors that tool, benchmarks and examples use, as imported targets. Debian ships no CMake package for lz4.
find_package(PkgConfig REQUIRED)
if(NOT TARGET PkgConfig::lz4)
  pkg_check_modules(lz4 REQUIRED IMPORTED_TARGET liblz4)
endif()
if(NOT TARGET PkgConfig::zstd)
  pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
endif()
