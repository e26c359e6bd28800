# SPDX-License-Identifier: MIT
#
# Every option of the build, with its default. Whatever is not the library itself defaults to ON only for the top project.
include(GNUInstallDirs)

option(MMKIT_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_BUILD_BENCH "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_BUILD_TOOLS "Build the mmkit command" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_BUILD_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_INSTALL "Make install rules" ${PROJECT_IS_TOP_LEVEL})
option(MMKIT_WERROR "Treat our own warnings as errors" OFF)
option(MMKIT_LONE_HEADERS "With the tests, compile every header by itself" ON)
option(MMKIT_FUZZ "Build the libFuzzer targets (clang only)" OFF)
option(MMKIT_COVERAGE "Instrument for line coverage" OFF)
option(MMKIT_USDT "Compile probes for tracers into slow paths (needs sys/sdt.h)" OFF)
option(MMKIT_VALGRIND_ANNOTATIONS "Tell valgrind which memory is free (needs valgrind/memcheck.h)" OFF)

set(MMKIT_CHECK_LEVEL AUTO CACHE STRING
    "Checks compiled in: 0 memory safety only, 1 assertions, 2 audits that walk structures; AUTO is 1 in Debug, else 0")
set_property(CACHE MMKIT_CHECK_LEVEL PROPERTY STRINGS AUTO 0 1 2)
set(MMKIT_SANITIZE "" CACHE STRING "Sanitizers for -fsanitize=, such as address,undefined")
set(MMKIT_MUTANT "" CACHE STRING "A known bug of tests/mutants.txt to compile in; a test must then fail")

if(NOT MMKIT_CHECK_LEVEL MATCHES "^(AUTO|0|1|2)$")
  message(FATAL_ERROR "MMKIT_CHECK_LEVEL is '${MMKIT_CHECK_LEVEL}'; it must be AUTO, 0, 1 or 2")
endif()
if(MMKIT_FUZZ AND NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "MMKIT_FUZZ needs clang, whose libFuzzer it uses; the compiler is ${CMAKE_CXX_COMPILER_ID}")
endif()

include(CheckIncludeFileCXX)
foreach(option_and_header MMKIT_USDT:sys/sdt.h MMKIT_VALGRIND_ANNOTATIONS:valgrind/memcheck.h)
  string(REPLACE ":" ";" pair "${option_and_header}")
  list(GET pair 0 option)
  list(GET pair 1 header)
  if(${option})
    check_include_file_cxx("${header}" ${option}_HEADER)
    if(NOT ${option}_HEADER)
      message(FATAL_ERROR "${option} is on, but there is no <${header}> for this compiler")
    endif()
  endif()
endforeach()

get_property(mmkit_multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT mmkit_multi_config)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()
