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

void serve(Statistics& statistics, unsigned worker) {
  const mmkit::PercpuPtr<std::uint64_t> hits = statistics.counter("cache hits");
  const mmkit::PercpuPtr<std::uint64_t> bytes = statistics.counter("bytes sent");
  for (unsigned request = 0; request < 100000; ++request) {
    mmkit::this_cpu_inc(requests.get());
    if ((request + worker) % 4 != 0) mmkit::this_cpu_inc(hits);
    mmkit::this_cpu_add(bytes, 100 + request % 10);
  }
}

}  // namespace

int main() {
  constexpr unsigned kWorkers = 4;
  Statistics statistics;
  std::vector<std::thread> workers;
  for (unsigned i = 0; i < kWorkers; ++i) {
    workers.emplace_back([&statistics, i] { serve(statistics, i); });
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
                 totals["bytes sent"] == kWorkers * 10450000
             ? 0
             : 1;
}
