# SPDX-License-Identifier: MIT
#
# Which symbols leave the library: of a shared one those of cmake/exports.txt, of a static one none.
#
# The list and not marks in the sources, because one page shows what is promised. It becomes a version script, whose symbols
# carry the version MMKIT_<major>.<minor>: a program is refused at its start by a library that breaks its promises, and two
# libraries of different minor versions can be in one process.
# A static library has only hidden symbols: a shared object made with it exports nothing of mmkit and shares nothing with
# another one that has a mmkit of its own (docs/package.md).
function(mmkit_exports target)
  get_target_property(kind ${target} TYPE)
  if(NOT kind STREQUAL "SHARED_LIBRARY")
    set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
    # The standard library's templates stay visible all the same; g++ would make their statics one in the process, and the
    # dynamic linker would keep whatever object has one.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
    return()
  endif()

  set(list "${PROJECT_SOURCE_DIR}/cmake/exports.txt")
  set(script "${CMAKE_CURRENT_BINARY_DIR}/mmkit.map")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${list}")
  file(STRINGS "${list}" names REGEX "^[^#]")
  set(cxx)
  set(plain)
  foreach(name IN LISTS names)
    # Version scripts know wildcards, but no name with a space, a parenthesis or a tilde: '?' stands for each of these.
    string(REGEX REPLACE "[^A-Za-z0-9_:]" "?" pattern "${name}")
    if(NOT name MATCHES "::")
      string(APPEND plain "    ${pattern};\n")
    elseif(name MATCHES "^typeinfo |^mmkit::detail::percpu_open_units$")
      string(APPEND cxx "      ${pattern};\n")
    else()
      string(APPEND cxx "      ${pattern}[^A-Za-z0-9_]*;\n") # the name ends: a parenthesis, or [abi:cxx11]
    endif()
  endforeach()
  file(CONFIGURE OUTPUT "${script}" CONTENT "MMKIT_@PROJECT_VERSION_MAJOR@.@PROJECT_VERSION_MINOR@ {
  global:
@plain@    extern \"C++\" {
@cxx@    };
  local:
    *;
};
" @ONLY)
  # All symbols are visible to the linker, whatever visibility the parent prefers; the script hides those not listed.
  # Calls from the library to itself stay in it: nobody is to put his own function in the place of one of ours.
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET default VISIBILITY_INLINES_HIDDEN OFF)
  target_compile_options(${target} PRIVATE -fno-semantic-interposition)
  target_link_options(${target} PRIVATE "LINKER:--version-script=${script}" LINKER:-Bsymbolic-functions)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${script}")
endfunction()
