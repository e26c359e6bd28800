// SPDX-License-Identifier: MIT
//
// Field work - many threads on one ObjectField: until all is done, or while the process forks.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>

#include "support/child_process.hpp"
#include "support/object_field.hpp"
#include "support/percpu_threads.hpp"
#include "support/race.hpp"
#include "support/seed.hpp"

namespace mmkit::testing {

/// Shares the operations out among threads; the field is consistent after that, and can be emptied.
inline void work_together(ObjectField& field, unsigned threads, std::uint64_t operations,
                          const FieldMix& mix) {
  {
    Crew crew;
    for (unsigned t = 0; t < threads; ++t) {
      crew.add([&, t] { field.work(operations / threads, test_seed(t), mix); });
    }
  }
  field.expect_consistent();
  field.free_all();
}

/// Forks again and again while threads work: no child finds an operation half done.
inline void fork_beside_work(ObjectField& field, unsigned threads, std::uint64_t forks) {
  std::atomic<bool> stop{false};
  int code = 0;
  {
    Crew crew;
    const StopAtEnd stop_at_end(stop);
    for (unsigned t = 0; t < threads; ++t) {
      crew.add([&, t] {
        for (std::uint64_t seed = test_seed(t); !stop; ++seed) {
          field.work(100, seed, {.shrink = 6, .compact = 4});
        }
      });
    }
    crew.start();
    for (std::uint64_t i = 0; i < forks && code == 0; ++i) {
      code = run_in_child([&field] { return field.use_in_child(); });
      EXPECT_EQ(code, 0) << "fork " << i;
    }
  }
  field.expect_consistent();
  field.free_all();
}

}  // namespace mmkit::testing
