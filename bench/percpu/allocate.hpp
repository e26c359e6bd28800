// SPDX-License-Identifier: MIT
//
// Allocate - allocation and free of memory that is zero on every CPU, beside mallocs, which give one
// copy that is not, and beside calloc of a copy for each possible CPU.
//
// With 256 possible CPUs the machine still has as many as it has: the units above are not open, so
// they cost neither zeroing nor memory. That is what is measured.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "percpu/loops.hpp"
#include "support/opaque.hpp"
#include "support/peers.hpp"

namespace mmkit::bench {
namespace detail {

inline constexpr unsigned kManyUnits = 256;

inline auto percpu_pair(std::shared_ptr<PercpuAllocator> allocator, std::size_t size_bytes) {
  return [allocator, size_bytes] {
    const Result<PercpuPtr<std::byte>> made = allocator->allocate(size_bytes, 8);
    use(made->unit0);
    allocator->free(*made);
  };
}
inline auto calloc_pair(std::size_t size_bytes) {
  return [size_bytes] {
    void* const made = std::calloc(kManyUnits, size_bytes);
    use(made);
    std::free(made);
  };
}
inline auto malloc_pair(const Malloc& heap, std::size_t size_bytes) {
  return [&heap, size_bytes] {
    void* const made = heap.allocate(size_bytes);
    use(made);
    heap.free(made);
  };
}

struct Allocators {
  std::shared_ptr<PercpuAllocator> possible, many;
};
inline Allocators make_allocators() {
  return {new_percpu_allocator(0), new_percpu_allocator(kManyUnits)};
}

}  // namespace detail

/// Registers allocate/64/1; with a second thread about glibc's malloc takes its locks, as it does in
/// most programs.
inline void register_allocate_small(const Options& options, Company company) {
  const std::size_t count = options.scale(1 << 14, 1 << 10);
  Comparison one;
  one.name = "allocate/64/1";
  one.title = "ns for allocate + free of 64 B, one thread; mmkit's are zero on every CPU";
  one.columns = {"pair"};
  one.references = {"glibc"};
  one.make = [count] {
    const detail::Allocators allocators = detail::make_allocators();
    std::vector<Contender> all;
    all.push_back(timed("mmkit", count, detail::percpu_pair(allocators.possible, 64)));
    all.push_back(timed("mmkit, 256 possible", count, detail::percpu_pair(allocators.many, 64)));
    for (const Malloc& heap : peers().present) {
      all.push_back(timed(heap.name, count, detail::malloc_pair(heap, 64)));
    }
    all.push_back(timed("calloc(256, 64)", count / 8, detail::calloc_pair(64)));
    return all;
  };
  one.targets = {{"mmkit", "glibc", 1.2},
                 {"mmkit, 256 possible", "glibc", 1.2},
                 {"calloc(256, 64)", "mmkit, 256 possible", 10, Target::Kind::at_least}};
  one.company = company;
  register_percpu_comparison(std::move(one), options);
}

/// Registers allocate/1024.
inline void register_allocate_large(const Options& options) {
  const std::size_t count = options.scale(1 << 14, 1 << 10);
  Comparison large;
  large.name = "allocate/1024";
  large.title = "ns for allocate + free of 1 KiB, one thread";
  large.columns = {"pair"};
  large.references = {"calloc(256, 1024)"};
  large.make = [count] {
    const detail::Allocators allocators = detail::make_allocators();
    std::vector<Contender> all;
    all.push_back(timed("mmkit", count, detail::percpu_pair(allocators.possible, 1024)));
    all.push_back(timed("mmkit, 256 possible", count, detail::percpu_pair(allocators.many, 1024)));
    for (const Malloc& heap : peers().present) {
      all.push_back(timed(heap.name, count, detail::malloc_pair(heap, 1024)));
    }
    all.push_back(timed("calloc(256, 1024)", count / 64, detail::calloc_pair(1024)));
    return all;
  };
  large.targets = {{"calloc(256, 1024)", "mmkit, 256 possible", 20, Target::Kind::at_least}};
  register_percpu_comparison(std::move(large), options);
}

/// Registers allocate/64/2.
inline void register_allocate_by_two(const Options& options) {
  const std::size_t count = options.scale(1 << 14, 1 << 10);
  Comparison two;
  two.name = "allocate/64/2";
  two.title = "ns for allocate + free of 64 B, per thread, two threads";
  two.columns = {"pair"};
  two.references = {"glibc"};
  two.repeats_interrupted = false;
  two.make = [count] {
    const detail::Allocators allocators = detail::make_allocators();
    const auto threads = std::make_shared<TwoThreads>();
    std::vector<Contender> all;
    const auto add = [&](const std::string& name, std::size_t pairs, auto pair) {
      all.push_back(timed_by_two(name, threads, pairs, [pair](unsigned) { return pair; }));
    };
    add("mmkit", count, detail::percpu_pair(allocators.possible, 64));
    add("mmkit, 256 possible", count, detail::percpu_pair(allocators.many, 64));
    for (const Malloc& heap : peers().present) add(heap.name, count, detail::malloc_pair(heap, 64));
    add("calloc(256, 64)", count / 8, detail::calloc_pair(64));
    return all;
  };
  two.targets = {{"mmkit", "glibc", 0.8},
                 {"mmkit, 256 possible", "glibc", 0.8},
                 {"calloc(256, 64)", "mmkit, 256 possible", 10, Target::Kind::at_least}};
  register_percpu_comparison(std::move(two), options);
}

}  // namespace mmkit::bench
