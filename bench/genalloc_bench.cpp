// SPDX-License-Identifier: MIT
//
// genalloc - what a range costs, on what real programs ask for.
//
//   trace    first and best fit beside sorted sets, Boost's heap in a buffer, std::pmr and malloc
#include "genalloc/traces.hpp"
#include "support/harness.hpp"

int main(int argc, char** argv) {
  namespace bench = mmkit::bench;
  return bench::run_benchmarks(
      argc, argv, [](const bench::Options& options) { bench::register_traces(options); });
}
