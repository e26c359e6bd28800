// SPDX-License-Identifier: MIT
#include "pool_replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "console.hpp"
#include "event_log.hpp"
#include "exit_code.hpp"
#include "progress.hpp"
#include "stopwatch.hpp"
#include "trial.hpp"

namespace mmkit::tool {
namespace {

using replay::SizeOp;
using replay::SizeStep;
using replay::SizeTrace;

constexpr std::size_t kEvenPoints = 64;      // enough for a smooth line
constexpr std::size_t kMostPoints = 1024;    // snapshots of which figures are kept
constexpr std::size_t kSectionSteps = 4096;  // between two looks at the clock
// A third of a second a driver for the rounds, but one more at least and no more than fifteen.
constexpr double kRoundsNs = 3e8;
constexpr double kMostRounds = 15;

/// Contents that can be told: noise, and a number at both ends.
class Contents {
 public:
  Contents() {
    std::mt19937_64 random(1);
    for (std::byte& byte : noise_) byte = std::byte(random() & 0xff);
    bytes_ = noise_;
  }
  /// Valid until the next call. Costs two stamps and no copy of a page: it is timed with the store.
  std::span<const std::byte> of(std::uint64_t number, std::size_t size_bytes) {
    // An odd factor: different numbers stay different in all eight bytes.
    const std::uint64_t stamp = (number + 1) * 0x9e3779b97f4a7c15;
    std::memcpy(bytes_.data() + last_end_, noise_.data() + last_end_, sizeof stamp);
    std::memcpy(bytes_.data(), &stamp, sizeof stamp);
    last_end_ = size_bytes < 2 * sizeof stamp ? 0 : size_bytes - sizeof stamp;
    std::memcpy(bytes_.data() + last_end_, &stamp, sizeof stamp);
    return {bytes_.data(), size_bytes};
  }

 private:
  std::array<std::byte, kPageSize> noise_, bytes_;
  std::size_t last_end_ = 0;  // where the stamp at the end was
};

/// What lives in a pool while a trace is replayed.
class Life {
 public:
  Life(const DriverChoice& driver, DriverRegistry& registry, const SizeTrace& trace)
      : driver_(driver),
        trace_(trace),
        live_(trace.slots),
        pool_(driver, registry, {.objects = trace.peak_objects}) {}
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;
  ~Life() {
    for (const Live& one : live_) {
      if (one.handle != Handle::none) pool_->free(one.handle);
    }
  }

  void step(std::size_t number) {
    const SizeStep& step = trace_.steps[number];
    if (step.op == SizeOp::overwrite || step.op == SizeOp::drop) drop(live_[step.slot]);
    if (step.op == SizeOp::overwrite || step.op == SizeOp::store) store(number, step);
  }

  DensityPoint figures(std::size_t operation) const {
    const ZpoolStats stats = pool_->stats();
    return {operation,        stats.objects, payload_bytes_, stats.pages, stats.metadata_bytes,
            refused_objects_, refused_bytes_};
  }
  std::uint64_t refused() const noexcept { return refused_; }
  Zpool& pool() const noexcept { return *pool_; }

  std::string fault() {
    std::uint64_t wrong = 0;
    for (const Live& one : live_) {
      if (one.handle == Handle::none) continue;
      const std::size_t size_bytes = trace_.steps[one.step].size_bytes;
      const Mapping object = pool_->map(one.handle, MapMode::read_only);
      const std::span<const std::byte> wanted = contents_.of(one.step, size_bytes);
      if (std::memcmp(object.const_bytes().data(), wanted.data(), size_bytes) != 0) ++wrong;
    }
    if (wrong != 0) return fmt::format("{} of {} objects did not come back", wrong, objects_);
    return fault_in(*pool_, objects_);
  }

 private:
  struct Live {
    Handle handle = Handle::none;
    std::size_t step = 0;
  };

  void store(std::size_t number, const SizeStep& step) {
    const Result<Handle> handle = pool_->store(contents_.of(number, step.size_bytes));
    if (!handle) {
      if (handle.error() != Errc::no_space) driver_failed(driver_.name, "store", handle.error());
      ++refused_;
      ++refused_objects_;
      refused_bytes_ += step.size_bytes;
      live_[step.slot] = {Handle::none, number};
      return;
    }
    live_[step.slot] = {*handle, number};
    payload_bytes_ += step.size_bytes;
    ++objects_;
  }
  void drop(Live& one) {
    const std::uint64_t size_bytes = trace_.steps[one.step].size_bytes;
    if (one.handle == Handle::none) {
      --refused_objects_;
      refused_bytes_ -= size_bytes;
      return;
    }
    pool_->free(one.handle);
    payload_bytes_ -= size_bytes;
    --objects_;
    one.handle = Handle::none;
  }

  const DriverChoice& driver_;
  const SizeTrace& trace_;
  std::vector<Live> live_;  // by slot
  Contents contents_;
  std::uint64_t payload_bytes_ = 0;
  std::uint64_t refused_ = 0;  // ever; the two below: that would live now
  std::uint64_t refused_objects_ = 0, refused_bytes_ = 0;
  std::size_t objects_ = 0;
  DriverPool pool_;
};

class Follower {
 public:
  Follower(const SizeTrace& trace, DriverRegistry& registry, Console& console, EventLog* log)
      : trace_(trace),
        points_(points_of(trace)),
        registry_(registry),
        console_(console),
        log_(log) {}

  DriverReplay follow(const DriverChoice& driver, unsigned& rounds) {
    DriverReplay row;
    row.driver = driver.name;
    const unsigned lane = log_ == nullptr ? 0 : log_->lane(driver.name);
    std::vector<double> times{first_round(driver, row, lane)};
    if (rounds == 0) {
      rounds = 1 + static_cast<unsigned>(
                       std::clamp(kRoundsNs / std::max(1.0, times[0]), 1.0, kMostRounds - 1));
    }
    Progress progress(console_, driver.name + ": timing", (rounds - 1) * trace_.steps.size(),
                      ProgressUnit::objects);
    while (times.size() < rounds) {
      const double begin_us = log_ == nullptr ? 0 : log_->now_us();
      Life life(driver, registry_, trace_);
      times.push_back(steps(life, 0, trace_.steps.size(), progress));
      if (log_ != nullptr) {
        log_->span(lane, fmt::format("round {}", times.size()), begin_us, log_->now_us());
      }
    }
    row.operation_ns = *median_of(times) / static_cast<double>(trace_.steps.size());
    return row;
  }

 private:
  /// Nanoseconds of the steps from `begin` to `end`.
  double steps(Life& life, std::size_t begin, std::size_t end, Progress& progress) {
    double total_ns = 0;
    while (begin < end) {
      const std::size_t stop = std::min(end, begin + kSectionSteps);
      const Stopwatch watch;
      for (std::size_t step = begin; step < stop; ++step) life.step(step);
      total_ns += watch.elapsed_ns();
      progress.advance(stop - begin);
      begin = stop;
    }
    return total_ns;
  }

  double first_round(const DriverChoice& driver, DriverReplay& row, unsigned lane) {
    Life life(driver, registry_, trace_);
    Progress progress(console_, driver.name + ": replaying", trace_.steps.size(),
                      ProgressUnit::objects);
    const double begin_us = log_ == nullptr ? 0 : log_->now_us();
    double total_ns = 0;
    std::size_t done = 0;
    for (const std::size_t point : points_) {
      total_ns += steps(life, done, point, progress);
      done = point;
      row.points.push_back(life.figures(point));
      note(driver, row.points.back());
    }
    row.refused = life.refused();
    row.moved = life.pool().stats().moved;
    row.fault = life.fault();
    if (log_ != nullptr) log_->span(lane, "round 1, with figures", begin_us, log_->now_us());
    compact(life, driver, row, lane);
    return total_ns;
  }

  void compact(Life& life, const DriverChoice& driver, DriverReplay& row, unsigned lane) {
    const double begin_us = log_ == nullptr ? 0 : log_->now_us();
    const Result<std::size_t> pages = life.pool().compact();
    if (!pages) {
      if (pages.error() == Errc::not_supported) return;
      driver_failed(driver.name, "compact", pages.error());
    }
    row.compacted = life.figures(trace_.steps.size());
    if (row.fault.empty()) row.fault = life.fault();
    if (log_ != nullptr) {
      log_->span(lane, "compact, verify", begin_us, log_->now_us(), {{"pages", *pages}});
    }
  }

  void note(const DriverChoice& driver, const DensityPoint& point) {
    if (log_ == nullptr) return;
    const double now_us = log_->now_us();
    log_->counter(driver.name + ": density", now_us,
                  {{"with metadata", point.density_with_metadata().value_or(0)}});
    log_->counter(driver.name + ": pages", now_us, {{"pages", point.pages}});
  }

  const SizeTrace& trace_;
  const std::vector<std::size_t> points_;
  DriverRegistry& registry_;
  Console& console_;
  EventLog* log_;
};

}  // namespace

std::vector<std::size_t> even_points(std::size_t operations) {
  std::vector<std::size_t> points;
  const std::size_t count = std::min(operations, kEvenPoints);
  for (std::size_t i = 1; i <= count; ++i) points.push_back(operations * i / count);
  return points;
}

std::vector<std::size_t> points_of(const SizeTrace& trace) {
  if (trace.snapshots == 0) return even_points(trace.steps.size());
  const std::size_t each = (trace.snapshots + kMostPoints - 1) / kMostPoints;
  std::vector<std::size_t> points;
  for (std::size_t i = 0; i < trace.steps.size(); ++i) {
    const SizeStep& step = trace.steps[i];
    if (step.op == SizeOp::snapshot && (step.slot + 1) % each == 0) points.push_back(i + 1);
  }
  if (points.empty() || points.back() != trace.steps.size()) points.push_back(trace.steps.size());
  return points;
}

PoolReplay replay_in_pools(const std::string& path, const SizeTrace& trace,
                           std::span<const DriverChoice> drivers, DriverRegistry& registry,
                           Console& console, EventLog* log) {
  PoolReplay result;
  result.path = path;
  result.operations = trace.steps.size();
  result.keys = trace.slots;
  result.snapshots = trace.snapshots;
  result.peak_objects = trace.peak_objects;
  result.peak_payload_bytes = trace.peak_payload_bytes;
  Follower follower(trace, registry, console, log);
  // The first driver says how many rounds there is time for, so that all have as many.
  for (const DriverChoice& driver : drivers) {
    result.rows.push_back(follower.follow(driver, result.rounds));
  }
  return result;
}

}  // namespace mmkit::tool
