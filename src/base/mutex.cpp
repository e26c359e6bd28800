// SPDX-License-Identifier: MIT
#include <mmkit/base/mutex.hpp>

namespace mmkit::detail {
namespace {

// Deeper than any chain of our ranks; fork handlers, which hold every lock there is, count only.
constexpr unsigned kDeepest = 16;

struct HeldRanks {
  LockRank rank[kDeepest];
  unsigned count = 0;
  unsigned uncounted = 0;  // held beyond kDeepest
};

HeldRanks& held() noexcept {
  static thread_local constinit HeldRanks ranks{};
  return ranks;
}

}  // namespace

void rank_acquired(LockRank rank, bool ordered) noexcept {
  HeldRanks& ranks = held();
  if (ordered) {
    for (unsigned i = 0; i < ranks.count; ++i) {
      if (ranks.rank[i] < rank) continue;
      report_failure({"lock", {}, "taken out of rank order", static_cast<std::uint64_t>(rank)});
    }
  }
  if (ranks.count < kDeepest) {
    ranks.rank[ranks.count++] = rank;
  } else {
    ++ranks.uncounted;
  }
}

void rank_released(LockRank rank) noexcept {
  HeldRanks& ranks = held();
  for (unsigned i = ranks.count; i-- != 0;) {
    if (ranks.rank[i] != rank) continue;
    for (unsigned j = i + 1; j < ranks.count; ++j) ranks.rank[j - 1] = ranks.rank[j];
    --ranks.count;
    return;
  }
  if (ranks.uncounted == 0) {
    report_failure({"lock", {}, "released but not held", static_cast<std::uint64_t>(rank)});
  }
  --ranks.uncounted;
}

}  // namespace mmkit::detail
