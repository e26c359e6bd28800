// SPDX-License-Identifier: MIT
//
// percpu - what per-CPU operations, memory and types cost, and that nothing gets lost.
//
//   add        this_cpu_add beside a plain addition and beside atomics
//   losses     additions that get lost under preemption, moves, signals and forks: none
//   allocate   allocation and free beside the mallocs
//   memory     what is resident, how densely small sizes lie
//   ref        PercpuRef beside a shared atomic; kills that come early or never
//   counter    PercpuCounter beside a plain addition; how far off read() is
//   fallback   the same additions in a process that has no restartable sequences
//   sum        a sum over 256 units; last, because it opens them for the whole process
//
// losses, memory, ref/kills and counter/error look at no clock and decide the exit code.
#include "percpu/add.hpp"
#include "percpu/allocate.hpp"
#include "percpu/counter.hpp"
#include "percpu/fallback.hpp"
#include "percpu/losses.hpp"
#include "percpu/memory.hpp"
#include "percpu/ref.hpp"
#include "percpu/sum.hpp"
#include "support/harness.hpp"

int main(int argc, char** argv) {
  namespace bench = mmkit::bench;
  return bench::run_benchmarks(argc, argv, [](const bench::Options& options) {
    bench::register_add(options);
    bench::register_allocate_small(options, bench::Company::alone);
    bench::register_allocate_large(options);
    bench::register_ref(options);
    bench::register_counter(options);
    bench::register_memory();
    bench::register_fallback(options);
    // From here on the process counts as one of several threads.
    bench::register_add_by_two(options);
    bench::register_allocate_small(options, bench::Company::second_thread);
    bench::register_allocate_by_two(options);
    bench::register_ref_by_two(options);
    bench::register_counter_by_two(options);
    bench::register_losses(options);
    bench::register_sum(options);
  });
}
