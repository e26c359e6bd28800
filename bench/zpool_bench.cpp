// SPDX-License-Identifier: MIT
//
// zpool - how densely the drivers pack, and what an object costs in them.
//
//   density, churn   payload by bytes held; the same everywhere, decides the exit code
//   versus, floor    zheap beside zsmalloc where that is at its best; what a floor costs the callers
//   steady           allocate and free beside the mallocs
//   map              map and unmap beside two atomic additions
//   threads          two threads on one pool
//   compaction       what others notice while one thread compacts, and how fast that moves
#include "support/harness.hpp"
#include "zpool/churn.hpp"
#include "zpool/compaction.hpp"
#include "zpool/density.hpp"
#include "zpool/floor.hpp"
#include "zpool/map.hpp"
#include "zpool/steady.hpp"
#include "zpool/threads.hpp"
#include "zpool/versus.hpp"

int main(int argc, char** argv) {
  namespace bench = mmkit::bench;
  return bench::run_benchmarks(argc, argv, [](const bench::Options& options) {
    bench::register_density();
    bench::register_churn();
    bench::register_versus();
    for (const auto company : {bench::Company::alone, bench::Company::second_thread}) {
      bench::register_steady(options, company);
      bench::register_map(options, company);
    }
    bench::register_threads(options);
    bench::register_compaction(options);
    bench::register_floor(options);
  });
}
