// SPDX-License-Identifier: MIT
//
// genalloc - what a range costs.
//
//   trace         on what real programs ask for, beside sorted sets, Boost's heap, std::pmr, malloc
//   tail          the slowest allocations of these, words touched, metadata; counts decide the code
//   smallest      the smallest heap for each trace, by policy; the same everywhere
//   churn         random ranges in heaps of 2^12 to 2^24 granules, 50 to 99 % full
//   adversarial   workloads that mislead searches
//   threads       two and four threads on one pool, beside pools behind locks
#include "genalloc/adversarial.hpp"
#include "genalloc/churn.hpp"
#include "genalloc/smallest.hpp"
#include "genalloc/tails.hpp"
#include "genalloc/threads.hpp"
#include "genalloc/traces.hpp"
#include "support/harness.hpp"

int main(int argc, char** argv) {
  namespace bench = mmkit::bench;
  return bench::run_benchmarks(argc, argv, [](const bench::Options& options) {
    std::vector<bench::SharedTrace> traces;
    for (const auto& [name, order] : bench::kGptTraces) {
      traces.push_back(bench::load_gpt(name, order));
    }
    bench::register_traces(options, traces);
    bench::register_tails(options, traces);
    bench::register_smallest(options, traces);
    bench::register_churn(options);
    bench::register_adversarial(options);
    bench::register_pool_threads(options);
  });
}
