# SPDX-License-Identifier: MIT
#
# A vcpkg port, used as an overlay from a clone: vcpkg install mmkit --overlay-ports=<clone>/packaging/vcpkg
#
# The sources are those it lies among, so that nothing is downloaded. For a registry, vcpkg_from_git() takes this line's place.
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH packaging)
cmake_path(GET packaging PARENT_PATH SOURCE_PATH)

# One check level, as vcpkg has one set of headers and targets for the debug library and the other.
vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS -DMMKIT_CHECK_LEVEL=0 -DMMKIT_INSTALL=ON -DMMKIT_BUILD_TESTS=OFF -DMMKIT_BUILD_BENCH=OFF
          -DMMKIT_BUILD_TOOLS=OFF -DMMKIT_BUILD_EXAMPLES=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/mmkit)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
