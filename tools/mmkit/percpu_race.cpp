// SPDX-License-Identifier: MIT
#include "percpu_race.hpp"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mmkit/percpu.hpp>
#include <system_error>
#include <thread>

#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

constexpr unsigned kBatch = 1024;  // additions between two looks at the clock on the wall

double thread_seconds() {
  ::timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct alignas(128) Shard {
  std::atomic<std::uint64_t> value{0};
};

/// A number per CPU that ends with the race.
class Number {
 public:
  Number() {
    Result<Percpu<std::uint64_t>> made = Percpu<std::uint64_t>::create();
    if (!made) throw Problem(ExitCode::out_of_memory, "no memory for a per-CPU counter");
    number_ = std::make_unique<Percpu<std::uint64_t>>(std::move(*made));
  }
  PercpuPtr<std::uint64_t> get() const { return number_->get(); }
  std::uint64_t sum() const { return number_->sum(); }

 private:
  std::unique_ptr<Percpu<std::uint64_t>> number_;
};

/// One way: `add` does kBatch additions, `sum` says what arrived.
template <class Add, class Sum>
RaceResult race(const std::string& way, unsigned threads, double seconds,
                const std::function<void(double)>& report, Add add, Sum sum) {
  using Clock = std::chrono::steady_clock;
  std::atomic<bool> stop{false};
  RaceResult result{way, 0, 0, 0, std::vector<RaceThread>(threads)};
  std::vector<double> spent(threads, 0);
  std::vector<std::thread> running;
  // Whatever ends the race, the threads end first.
  struct Joiner {
    std::atomic<bool>& stop;
    std::vector<std::thread>& threads;
    ~Joiner() { end(); }
    void end() {
      stop.store(true);
      for (std::thread& thread : threads) {
        if (thread.joinable()) thread.join();
      }
    }
  } joiner{stop, running};
  try {
    for (unsigned i = 0; i < threads; ++i) {
      running.emplace_back([&, i] {
        const Clock::time_point begin_time = Clock::now();
        const double begin = thread_seconds();
        std::uint64_t batches = 0;
        do {
          add();
          ++batches;
        } while (!stop.load(std::memory_order_relaxed));  // a flag, nothing comes with it
        spent[i] = thread_seconds() - begin;
        result.threads[i] = {begin_time, Clock::now(), batches * kBatch};
      });
    }
  } catch (const std::system_error&) {
    throw Problem(ExitCode::out_of_memory, "the system gives no more threads; ask for fewer");
  }
  const auto begin = Clock::now();
  for (double done = 0; done < 1;) {
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(seconds / 10, 0.05)));
    done = std::min(1.0, std::chrono::duration<double>(Clock::now() - begin).count() / seconds);
    report(done);
  }
  joiner.end();
  double spent_seconds = 0;
  for (unsigned i = 0; i < threads; ++i) {
    result.adds += result.threads[i].adds;
    spent_seconds += spent[i];
  }
  result.lost = static_cast<std::int64_t>(result.adds - sum());
  result.ns_per_add = spent_seconds * 1e9 / static_cast<double>(result.adds);
  return result;
}

}  // namespace

std::vector<RaceResult> run_percpu_race(unsigned threads, double seconds,
                                        const std::function<void(double)>& report) {
  constexpr double kWays = 4;
  double before = 0;
  const auto part = [&](double done) { report((before + done) / kWays); };
  std::vector<RaceResult> results;
  const auto run = [&](const std::string& way, auto add, auto sum) {
    results.push_back(race(way, threads, seconds, part, add, sum));
    ++before;
  };

  const Number protected_number, bare_number;
  run(
      "this_cpu_add",
      [number = protected_number.get()] {
        for (unsigned i = 0; i < kBatch; ++i) this_cpu_add(number, 1);
      },
      [&] { return protected_number.sum(); });
  std::vector<Shard> shards(possible_cpus());
  run(
      "atomic of the CPU",
      [&shards] {
        for (unsigned i = 0; i < kBatch; ++i) {
          const auto cpu = static_cast<std::size_t>(::sched_getcpu());
          shards[cpu].value.fetch_add(1, std::memory_order_relaxed);  // a number, no order
        }
      },
      [&] {
        std::uint64_t total = 0;
        for (const Shard& shard : shards) total += shard.value.load();
        return total;
      });
  Shard shared;
  run(
      "one shared atomic",
      [&shared] {
        for (unsigned i = 0; i < kBatch; ++i) {
          shared.value.fetch_add(1, std::memory_order_relaxed);  // a number, no order
        }
      },
      [&] { return shared.value.load(); });
  run(
      "unprotected",
      [number = bare_number.get()] {
        for (unsigned i = 0; i < kBatch; ++i) {
          std::uint64_t* const here = this_cpu_ptr(number);
          // Each in one piece, so that it is no data race; the two are not one, which is the point.
          __atomic_store_n(here, __atomic_load_n(here, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
        }
      },
      [&] { return bare_number.sum(); });
  return results;
}

}  // namespace mmkit::tool
