# SPDX-License-Identifier: MIT
#
# What ctest asks of the benchmarks: each runs, in its quick form, and what looks at no clock is as it
# must be: densities are those of the baselines; a pool's places and smallest heaps are those of the
# sorted sets, its words touched and metadata within bounds. Times are never tested: they belong to the
# machine and the minute.
#
# Included by bench/CMakeLists.txt when the tests are built, after the programs are known.
enable_testing()

foreach(subject IN ITEMS genalloc page percpu zpool)
  if(TARGET mmkit_bench_${subject})
    add_test(NAME bench_smoke_${subject} COMMAND mmkit_bench_${subject} --quick)
    set_tests_properties(bench_smoke_${subject} PROPERTIES TIMEOUT 300 LABELS bench)
  endif()
endforeach()

# A trace that ends in the middle of a record is refused: file, offset and reason, and exit code 2.
if(TARGET mmkit_bench_zpool)
  set(broken_data "${CMAKE_CURRENT_BINARY_DIR}/broken-data")
  file(WRITE "${broken_data}/mem-node.lz4.u16" "\t\t\t")
  add_test(NAME bench_refuses_truncated_trace COMMAND mmkit_bench_zpool --quick)
  set_tests_properties(
    bench_refuses_truncated_trace
    PROPERTIES TIMEOUT 60
               LABELS bench
               ENVIRONMENT "MMKIT_BENCH_DATA=${broken_data}"
               PASS_REGULAR_EXPRESSION
               "mem-node.lz4.u16: offset 2: the file ends after 1 of the 2 bytes of a record")
endif()

if(TARGET mmkit_bench_genalloc)
  set(broken_traces "${CMAKE_CURRENT_BINARY_DIR}/broken-traces")
  file(WRITE "${broken_traces}/genpool/sqlite.gpt" "GPT1 trace")
  add_test(NAME bench_refuses_truncated_gpt COMMAND mmkit_bench_genalloc --quick)
  set_tests_properties(
    bench_refuses_truncated_gpt
    PROPERTIES TIMEOUT 60
               LABELS bench
               ENVIRONMENT "MMKIT_BENCH_DATA=${broken_traces}"
               PASS_REGULAR_EXPRESSION
               "sqlite.gpt: offset 10: the file ends within its header of 16 bytes")
endif()
