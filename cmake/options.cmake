# SPDX-License-Identifier: MIT
#
# Every option of the build, with its default. Whatever is not the library itself defaults to ON only for the top project.
include(GNUInstallDirs)

# The tests look into the library, and a shared one shows nothing but what it exports.
set(mmkit_can_test ${PROJECT_IS_TOP_LEVEL})
if(BUILD_SHARED_LIBS)
  set(mmkit_can_test OFF)
endif()
option(MMKIT_BUILD_TESTS "Build the tests; the library must be static" ${mmkit_can_test})
option(MMKIT_BUILD_BENCH "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_BUILD_TOOLS "Build the mmkit command" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_BUILD_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_INSTALL "Make install rules" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_WERROR "Treat our own warnings as errors" OFF)
option(MMKIT_LONE_HEADERS "With the tests, compile every header by itself" ON)
option(MMKIT_FUZZ "Build the libFuzzer targets (clang only)" OFF)
option(MMKIT_COVERAGE "Instrument for line coverage" OFF)

set(MMKIT_CHECK_LEVEL AUTO CACHE STRING
    "Checks compiled in: 0 memory safety only, 1 assertions, 2 audits that walk structures; AUTO is 1 in Debug, else 0")
set_property(CACHE MMKIT_CHECK_LEVEL PROPERTY STRINGS AUTO 0 1 2)
set(MMKIT_SANITIZE "" CACHE STRING "Sanitizers for -fsanitize=, such as address,undefined")
set(MMKIT_MUTANT "" CACHE STRING "A known bug of tests/mutants.txt to compile in; a test must then fail")

if(NOT MMKIT_CHECK_LEVEL MATCHES "^(AUTO|0|1|2)$")
  message(FATAL_ERROR "MMKIT_CHECK_LEVEL is '${MMKIT_CHECK_LEVEL}'; it must be AUTO, 0, 1 or 2")
endif()
if(MMKIT_BUILD_TESTS AND BUILD_SHARED_LIBS)
  message(FATAL_ERROR "MMKIT_BUILD_TESTS needs a static library, because tests look into it; BUILD_SHARED_LIBS is ON")
endif()
if(MMKIT_FUZZ AND NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "MMKIT_FUZZ needs clang, whose libFuzzer it uses; the compiler is ${CMAKE_CXX_COMPILER_ID}")
endif()

get_property(mmkit_multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT mmkit_multi_config)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()
