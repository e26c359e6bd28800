# SPDX-License-Identifier: MIT
#
# The two sets of flags: what the library asks of everybody who compiles its headers, and what we ask of our own sources.

# Definitions that headers read, hence the same for the library and its users.
#
# The check level is settled when the library is configured and travels with the package: a Debug program that links an
# installed release library must see the same inline functions as the library does. Only a generator of several
# configurations leaves it to the configuration, which is then the same on both sides. Mutants, sanitizers and coverage
# instrumentation never leave the build tree.
function(mmkit_library_flags target)
  if(NOT MMKIT_CHECK_LEVEL STREQUAL "AUTO")
    set(level ${MMKIT_CHECK_LEVEL})
  elseif(mmkit_multi_config)
    set(level $<IF:$<CONFIG:Debug>,1,0>)
  elseif(CMAKE_BUILD_TYPE STREQUAL "Debug")
    set(level 1)
  else()
    set(level 0)
  endif()
  target_compile_definitions(${target} PUBLIC MMKIT_CHECK_LEVEL=${level})

  # Private headers read the second one, so our tests of them must agree; it stays in the build tree.
  if(MMKIT_USDT)
    target_compile_definitions(${target} PRIVATE MMKIT_USDT=1)
  endif()
  if(MMKIT_VALGRIND_ANNOTATIONS)
    target_compile_definitions(${target} PUBLIC $<BUILD_INTERFACE:MMKIT_VALGRIND_ANNOTATIONS=1>)
  endif()

  if(MMKIT_MUTANT)
    mmkit_mutate(${target} MMKIT_MUTANT_${MMKIT_MUTANT})
  endif()
  set(instrument)
  if(MMKIT_SANITIZE)
    list(APPEND instrument -fsanitize=${MMKIT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  endif()
  if(MMKIT_COVERAGE)
    list(APPEND instrument --coverage -fprofile-update=atomic)
  endif()
  if(MMKIT_FUZZ)
    list(APPEND instrument -fsanitize=fuzzer-no-link)
  endif()
  if(instrument)
    target_compile_options(${target} PUBLIC "$<BUILD_INTERFACE:${instrument}>")
    target_link_options(${target} PUBLIC "$<BUILD_INTERFACE:${instrument}>")
  endif()
endfunction()

# Compiles a known bug in. One that stands in sources alone is defined for these alone, so that going from mutant to mutant
# in one build tree recompiles a file or two; one in a header is defined for everybody.
function(mmkit_mutate target definition)
  get_target_property(sources ${target} SOURCES)
  file(GLOB_RECURSE headers "${PROJECT_SOURCE_DIR}/include/*.hpp" "${PROJECT_SOURCE_DIR}/src/*.hpp")
  set(bearers)
  foreach(file IN LISTS sources headers)
    file(STRINGS "${file}" lines REGEX "${definition}([^A-Za-z0-9_]|$)")
    if(lines)
      list(APPEND bearers "${file}")
    endif()
  endforeach()
  if(NOT bearers)
    message(FATAL_ERROR "MMKIT_MUTANT is '${MMKIT_MUTANT}', but no file of the library mentions ${definition}")
  elseif(bearers MATCHES "\\.hpp")
    target_compile_definitions(${target} PUBLIC $<BUILD_INTERFACE:${definition}=1>)
  else()
    set_property(SOURCE ${bearers} APPEND PROPERTY COMPILE_DEFINITIONS ${definition}=1)
  endif()
endfunction()

# Warnings for our own sources, and only when mmkit is the top project: a parent builds us with its own ideas of warnings.
function(mmkit_own_flags target)
  set_target_properties(${target} PROPERTIES CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF)
  if(NOT PROJECT_IS_TOP_LEVEL)
    return()
  endif()
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    target_compile_options(${target} PRIVATE -Wthread-safety)
  endif()
  if(MMKIT_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
