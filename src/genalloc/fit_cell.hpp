// SPDX-License-Identifier: MIT
//
// FitCell - a policy that is read and set without a lock.
//
//   current ---> number of a set, how often it changed; and the policy, if its name says all
//   sets         [policy] [policy] [policy] ...      one current, the others for who sets next
//
// A reader copies the current set and looks whether it still is. A writer fills a set that is
// nobody's, and exchanges. One that is stopped in the middle keeps its set; there are eight.
// Locking:    none; lock-free for up to six writers that are stopped for ever
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mmkit/genalloc/fit.hpp>

#include "genalloc/fit_access.hpp"

namespace mmkit::genalloc {

template <class Sync>
class FitCell {
 public:
  explicit FitCell(const Fit& fit) noexcept : current_(name_of(fit)) {
    sets_[0].busy.store(1, std::memory_order_relaxed);
    write(0, fit);
  }

  Fit load() const noexcept {
    while (true) {
      // Acquire: pairs with the exchange in store(), for the words.
      const std::uint64_t now = current_.load(std::memory_order_acquire);
      if (now >> kNameShift != 0) return Access::make(kind_of(now), 0);
      std::uint64_t words[kWords];
      for (unsigned i = 0; i < kWords; ++i) {
        words[i] = sets_[now % kSets].word[i].load(std::memory_order_acquire);
      }
      if (current_.load(std::memory_order_acquire) != now) continue;
      Fit fit;
      std::memcpy(static_cast<void*>(&fit), words, sizeof fit);
      return fit;
    }
  }
  void store(const Fit& fit) noexcept {
    const std::uint64_t mine = claim();
    write(mine, fit);
    std::uint64_t before = current_.load(std::memory_order_relaxed);
    std::uint64_t next = 0;
    do {
      next = (((before << kNameBits >> kNameBits) / kSets + 1) * kSets + mine) | name_of(fit);
    } while (!current_.compare_exchange_weak(before, next, std::memory_order_acq_rel,
                                             std::memory_order_relaxed));
    // Release: pairs with the acquire in claim(): the exchange comes before the next words.
    sets_[before % kSets].busy.store(0, std::memory_order_release);
  }

 private:
  static constexpr std::uint64_t kSets = 8;
  static constexpr std::size_t kWords = (sizeof(Fit) + 7) / 8;
  static_assert(sizeof(Fit) % 8 == 0);
  static constexpr unsigned kNameBits = 8;
  static constexpr unsigned kNameShift = 64 - kNameBits;
  using Access = mmkit::detail::FitAccess;

  // A policy without a number, its kind + 1 in the upper bits; 0 for others.
  static std::uint64_t name_of(const Fit& fit) noexcept {
    using Kind = Access::Kind;
    const Kind kind = Access::kind(fit);
    const bool numbered = kind == Kind::align || kind == Kind::fixed || kind == Kind::custom;
    return numbered ? 0 : (static_cast<std::uint64_t>(kind) + 1) << kNameShift;
  }
  static Access::Kind kind_of(std::uint64_t current) noexcept {
    return static_cast<Access::Kind>((current >> kNameShift) - 1);
  }

  std::uint64_t claim() noexcept {
    for (std::uint64_t set = 0;; set = (set + 1) % kSets) {
      std::uint32_t idle = 0;
      if (sets_[set].busy.compare_exchange_strong(idle, 1, std::memory_order_acquire,
                                                  std::memory_order_relaxed)) {
        return set;
      }
    }
  }
  // Release: a reader that sees these words in the set's former life sees that it is no more.
  void write(std::uint64_t set, const Fit& fit) noexcept {
    std::uint64_t words[kWords];
    std::memcpy(words, &fit, sizeof fit);
    for (unsigned i = 0; i < kWords; ++i) {
      sets_[set].word[i].store(words[i], std::memory_order_release);
    }
  }

  struct Set {
    typename Sync::template Atomic<std::uint32_t> busy{0};
    typename Sync::template Atomic<std::uint64_t> word[kWords] = {};
  };
  typename Sync::template Atomic<std::uint64_t> current_;
  Set sets_[kSets];
};

}  // namespace mmkit::genalloc
