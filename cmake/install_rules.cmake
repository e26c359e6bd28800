# SPDX-License-Identifier: MIT
#
# What `cmake --install` puts in place: library, headers, licence, and two ways to find them, CMake's and pkg-config's. Both
# work from wherever the tree is moved; no installed file names the place where it was made.
#
# Components: runtime (what a program needs), dev (what a build needs), tool (the command).
include(CMakePackageConfigHelpers)

set(mmkit_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/mmkit")
set(mmkit_pkgconfig_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

install(
  TARGETS mmkit EXPORT mmkit-targets
  LIBRARY COMPONENT runtime NAMELINK_COMPONENT dev
  ARCHIVE COMPONENT dev)
install(DIRECTORY include/mmkit DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT dev FILES_MATCHING PATTERN "*.hpp")
install(FILES share/mmkit/gdb/mmkit_printers.py DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/mmkit/gdb" COMPONENT dev)
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/licenses/mmkit" COMPONENT dev)
install(EXPORT mmkit-targets NAMESPACE mmkit:: DESTINATION "${mmkit_package_dir}" COMPONENT dev)

mmkit_forget_paths(mmkit)

# ---------------------------------------------------------------- CMake
configure_package_config_file(
  cmake/mmkit-config.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/mmkit-config.cmake"
  INSTALL_DESTINATION "${mmkit_package_dir}"
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break its users: 0.1 is satisfied by 0.1.x alone.
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/mmkit-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/mmkit-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/mmkit-config-version.cmake"
        DESTINATION "${mmkit_package_dir}" COMPONENT dev)

# ---------------------------------------------------------------- pkg-config
# From where mmkit.pc lies to the directories it names, also when the parent's are absolute.
file(RELATIVE_PATH mmkit_to_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
file(RELATIVE_PATH mmkit_to_include "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
set(mmkit_pc_libs "-lmmkit")
if(NOT BUILD_SHARED_LIBS)
  string(APPEND mmkit_pc_libs " -pthread -ldl")
endif()
configure_file(cmake/mmkit.pc.in "${CMAKE_CURRENT_BINARY_DIR}/mmkit.pc.in" @ONLY)
# Twice, because the check level may depend on the configuration.
file(GENERATE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/$<CONFIG>/mmkit.pc" INPUT "${CMAKE_CURRENT_BINARY_DIR}/mmkit.pc.in" TARGET mmkit)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/$<CONFIG>/mmkit.pc" DESTINATION "${mmkit_pkgconfig_dir}" COMPONENT dev)
