# SPDX-License-Identifier: MIT
#
# What `cmake --install` puts in place: library, headers, licence, and a package that works from wherever the tree is moved.
include(CMakePackageConfigHelpers)

set(mmkit_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/mmkit")

install(TARGETS mmkit EXPORT mmkit-targets)
install(DIRECTORY include/mmkit DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES share/mmkit/gdb/mmkit_printers.py DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/mmkit/gdb")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/licenses/mmkit")
install(EXPORT mmkit-targets NAMESPACE mmkit:: DESTINATION "${mmkit_package_dir}")

configure_package_config_file(
  cmake/mmkit-config.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/mmkit-config.cmake"
  INSTALL_DESTINATION "${mmkit_package_dir}"
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break its users: 0.1 is satisfied by 0.1.x alone.
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/mmkit-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/mmkit-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/mmkit-config-version.cmake"
        DESTINATION "${mmkit_package_dir}")
