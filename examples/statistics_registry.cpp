// SPDX-License-Identifier: MIT
//
// A registry of statistics: any part of a program names a counter, every thread counts at the cost
// of a plain addition, and a report sums over the CPUs now and then.
//
// Counters are looked up by name once; what a hot path holds is the per-CPU pointer.
#include <cstdint>
#include <cstdio>
#include <map>
#include <mmkit/percpu.hpp>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

class Statistics {
 public:
  // The counter of that name, made when it is asked for first. Null when there is no memory.
  mmkit::PercpuPtr<std::uint64_t> counter(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = counters_.find(name);
    if (found != counters_.end()) return found->second.get();
    auto made = mmkit::Percpu<std::uint64_t>::create();
    if (!made) return {};
    return counters_.emplace(name, std::move(*made)).first->second.get();
  }

  std::map<std::string, std::uint64_t> totals() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::uint64_t> all;
    for (const auto& [name, numbers] : counters_) all[name] = numbers.sum();
    return all;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, mmkit::Percpu<std::uint64_t>> counters_;
};

// For what every file of a program counts there is the static form; nothing to register.
constinit mmkit::StaticPercpu<std::uint64_t> requests;

// What is held against a limit at each request is a PercpuCounter: its central number is nearly right
// at any moment, and comparing it is one load as long as it is not a close thing.
constexpr std::int64_t kMostBuffered = std::int64_t{256} * 1024;

void serve(Statistics& statistics, mmkit::PercpuCounter& buffered, unsigned worker) {
  const mmkit::PercpuPtr<std::uint64_t> hits = statistics.counter("cache hits");
  const mmkit::PercpuPtr<std::uint64_t> bytes = statistics.counter("bytes sent");
  const mmkit::PercpuPtr<std::uint64_t> flushes = statistics.counter("flushes");
  std::int64_t mine = 0;  // this worker's share of what is buffered
  for (unsigned request = 0; request < 100000; ++request) {
    mmkit::this_cpu_inc(requests.get());
    if ((request + worker) % 4 != 0) mmkit::this_cpu_inc(hits);
    const unsigned size = 100 + request % 10;
    mmkit::this_cpu_add(bytes, size);
    buffered.add(size);
    mine += size;
    if (buffered.compare(kMostBuffered) > 0) {
      buffered.add(-std::exchange(mine, 0));
      mmkit::this_cpu_inc(flushes);
    }
  }
  buffered.add(-mine);
}

}  // namespace

int main() {
  constexpr unsigned kWorkers = 4;
  Statistics statistics;
  auto buffered = mmkit::PercpuCounter::create(0, /*batch=*/1024);
  if (!buffered) return 1;
  std::vector<std::thread> workers;
  for (unsigned i = 0; i < kWorkers; ++i) {
    workers.emplace_back([&, i] { serve(statistics, *buffered, i); });
  }
  for (std::thread& worker : workers) worker.join();

  const std::uint64_t served =
      mmkit::percpu_sum(requests.get(), mmkit::PercpuAllocator::instance().units());
  std::map<std::string, std::uint64_t> totals = statistics.totals();
  std::printf("%llu requests\n", static_cast<unsigned long long>(served));
  for (const auto& [name, total] : totals) {
    std::printf("%12llu %s\n", static_cast<unsigned long long>(total), name.c_str());
  }
  return served == kWorkers * 100000 && totals["cache hits"] == kWorkers * 75000 &&
                 totals["bytes sent"] == kWorkers * 10450000 && totals["flushes"] != 0 &&
                 buffered->sum() == 0
             ? 0
             : 1;
}
