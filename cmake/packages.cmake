# SPDX-License-Identifier: MIT
#
# `cpack` makes Debian packages of the components: libmmkit<major>.<minor>, libmmkit-dev, and mmkit, the command.
#
# The runtime package is made from a shared library alone, the command's only if it is built. Configure with
# -DBUILD_SHARED_LIBS=ON -DCMAKE_INSTALL_PREFIX=/usr, which also gives Debian's library directory.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME mmkit)
set(CPACK_PACKAGE_VENDOR "the mmkit project")
set(CPACK_PACKAGE_CONTACT "the mmkit maintainers <maintainers@mmkit.invalid>" CACHE STRING "The packages' maintainer")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${PROJECT_BINARY_DIR}")
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION libs)

set(CPACK_COMPONENT_RUNTIME_DESCRIPTION "Memory allocators of the Linux kernel in user space: the shared library")
set(CPACK_COMPONENT_DEV_DESCRIPTION "Memory allocators of the Linux kernel in user space: to build programs with")
set(CPACK_COMPONENT_TOOL_DESCRIPTION "Memory allocators of the Linux kernel in user space: the command mmkit")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libmmkit${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libmmkit-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_TOOL_PACKAGE_NAME mmkit)
set(CPACK_DEBIAN_TOOL_PACKAGE_SECTION utils)

set(CPACK_COMPONENTS_ALL dev)
if(BUILD_SHARED_LIBS)
  list(APPEND CPACK_COMPONENTS_ALL runtime)
  set(CPACK_COMPONENT_DEV_DEPENDS runtime)
  set(CPACK_COMPONENT_TOOL_DEPENDS runtime)
endif()
if(MMKIT_BUILD_TOOLS)
  list(APPEND CPACK_COMPONENTS_ALL tool)
endif()
# Where Debian wants the licence; not part of a plain installation, which has it in one place.
foreach(component IN LISTS CPACK_COMPONENTS_ALL)
  string(TOUPPER ${component} upper)
  install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/${CPACK_DEBIAN_${upper}_PACKAGE_NAME}"
          RENAME copyright COMPONENT ${component} EXCLUDE_FROM_ALL)
endforeach()
include(CPack)
