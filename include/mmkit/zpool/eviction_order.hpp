// SPDX-License-Identifier: MIT
//
// Eviction order - which unit of a pool (a zspage, a block) was used longest ago, about, without a list to
// keep in order and without a lock on any fast path.
//
//   UseClock      counts generations: one passes when so many uses were counted
//   age of a unit the generation in which it was last used: a number beside it
//   OldestUnits   the oldest of all units as of some moment, looked for when the last ones are used up
//
// Ages are of 16 bits: a unit that nobody used for 65,535 generations looks young again.
// Locking:    UseClock none, all of it being hints; OldestUnits: caller serialises
// Complexity: O(1); OldestUnits::next() O(units) once for every 32 it gives
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/mutant.hpp>

namespace mmkit {

/// When a unit was used.
using UseAge = std::atomic<std::uint16_t>;

class UseClock {
 public:
  // Relaxed, all of it: a clock that is a little off is as good.
  std::uint16_t now() const noexcept { return generation_.load(std::memory_order_relaxed); }
  /// How many generations ago.
  unsigned distance(std::uint16_t age) const noexcept {
    return static_cast<std::uint16_t>(now() - age);
  }

  /// Notes that a unit is used. True: for the first time in this generation.
  bool mark(UseAge& age) const noexcept {
    const std::uint16_t generation = now();
    if (age.load(std::memory_order_relaxed) == generation) return false;
    age.store(generation, std::memory_order_relaxed);
    return true;
  }
  /// A unit that is about to be used for the first time, so that mark() says so.
  void begin(UseAge& age) const noexcept {
    age.store(static_cast<std::uint16_t>(now() - 1), std::memory_order_relaxed);
  }
  /// One of the uses of which an eighth of the units makes a generation.
  void count(std::size_t units) noexcept {
    constexpr std::size_t kShare = 8;
    const std::uint32_t uses = uses_.load(std::memory_order_relaxed) + 1;
    if (uses <= units / kShare) {
      uses_.store(uses, std::memory_order_relaxed);
      return;
    }
    uses_.store(0, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_relaxed);
  }
  /// Objects of one unit moved to another: that is as young as the youngest in it.
  void take_over(UseAge& to, const UseAge& from) const noexcept {
    const std::uint16_t age = from.load(std::memory_order_relaxed);
    if (distance(age) < distance(to.load(std::memory_order_relaxed))) {
      to.store(age, std::memory_order_relaxed);
    }
  }

 private:
  alignas(64) std::atomic<std::uint16_t> generation_{0};
  alignas(64) std::atomic<std::uint32_t> uses_{0};  // since the generation began
};

class OldestUnits {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;

  /// The oldest of the units below `units` that `may_go(unit)`, of equals that of the lowest number;
  /// kNone: there is none. `age_of(unit)` is asked of those alone.
  template <class MayGo, class AgeOf>
  std::uint32_t next(const UseClock& clock, std::uint32_t units, MayGo&& may_go,
                     AgeOf&& age_of) noexcept {
    for (bool is_fresh = false;; is_fresh = true) {
      while (count_ != 0) {
        const Candidate candidate = candidates_[--count_];
        if (may_go(candidate.number) && age_of(candidate.number) == candidate.age) {
          return candidate.number;
        }
      }
      if (is_fresh) return kNone;
      look(clock, units, may_go, age_of);
    }
  }

 private:
  struct Candidate {
    std::uint32_t number;
    std::uint16_t age;
  };
  static constexpr std::size_t kMost = 32;

  // At all units; the oldest of them last.
  template <class MayGo, class AgeOf>
  void look(const UseClock& clock, std::uint32_t units, MayGo&& may_go, AgeOf&& age_of) noexcept {
    const auto distance = [&clock](const Candidate& one) { return clock.distance(one.age); };
    for (std::uint32_t n = units; n-- != 0;) {
      if (!may_go(n)) continue;
      const Candidate candidate{n, age_of(n)};
      const bool is_full = count_ == kMost;
      const bool is_old = MMKIT_MUTATE(MMKIT_MUTANT_zpool_evicts_the_young,
                                       !is_full || distance(candidate) >= distance(candidates_[0]),
                                       !is_full || distance(candidate) <= distance(candidates_[0]));
      if (!is_old) continue;
      if (is_full) {  // the youngest makes room
        std::copy(candidates_ + 1, candidates_ + kMost, candidates_);
        --count_;
      }
      std::size_t at = count_++;
      for (; at != 0 && distance(candidates_[at - 1]) > distance(candidate); --at) {
        candidates_[at] = candidates_[at - 1];
      }
      candidates_[at] = candidate;
    }
  }

  std::size_t count_ = 0;
  Candidate candidates_[kMost] = {};
};

}  // namespace mmkit
