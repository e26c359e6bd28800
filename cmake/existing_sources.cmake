# SPDX-License-Identifier: MIT
#
# Keeps of a list of sources those that exist, so that the tree configures while its parts arrive one after the other.
function(mmkit_keep_existing list_name)
  set(kept)
  foreach(file IN LISTS ${list_name})
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      list(APPEND kept "${file}")
    endif()
  endforeach()
  if(NOT kept)
    file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/empty.cpp" "namespace mmkit {}\n")
    set(kept "${CMAKE_CURRENT_BINARY_DIR}/empty.cpp")
  endif()
  set(${list_name} "${kept}" PARENT_SCOPE)
endfunction()
