// SPDX-License-Identifier: MIT
//
// Seed - the seed of a random test: printed, and taken from MMKIT_SEED when that is set.
//
// A failure of a random test is repeated with `MMKIT_SEED=<printed> <test>`.
// Units:      a 64-bit seed, decimal or 0x-hexadecimal in the environment
// Invariants: the same within one process, so that a test and its printed seed agree
// Locking:    none needed; safe from any thread
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace mmkit::testing {

/// The seed of this run. Each test derives its own with `test_seed(n)`.
/// An unreadable MMKIT_SEED ends the program: a run with another seed would pass for the repetition.
inline std::uint64_t run_seed() {
  static const std::uint64_t seed = [] {
    std::uint64_t value = 0;
    if (const char* text = std::getenv("MMKIT_SEED"); text != nullptr && *text != '\0') {
      char* end = nullptr;
      value = std::strtoull(text, &end, 0);
      if (*end != '\0') {
        std::fprintf(stderr, "MMKIT_SEED is '%s': not a number\n", text);
        std::exit(2);
      }
    } else {
      std::random_device device;
      value = (std::uint64_t{device()} << 32) | device();
    }
    std::printf("[ SEED     ] MMKIT_SEED=%llu\n", static_cast<unsigned long long>(value));
    std::fflush(stdout);
    return value;
  }();
  return seed;
}

/// A seed of its own for each `stream`, so that tests and threads of one run differ (splitmix64's finisher).
inline std::uint64_t test_seed(std::uint64_t stream) {
  std::uint64_t mixed = run_seed() + (stream + 1) * 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

}  // namespace mmkit::testing
