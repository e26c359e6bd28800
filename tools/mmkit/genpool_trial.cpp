// SPDX-License-Identifier: MIT
#include "genpool_trial.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <utility>

#include "exit_code.hpp"
#include "progress.hpp"
#include "replay/replay.hpp"
#include "stopwatch.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

using replay::GptTrace;
using replay::Places;

// Half a second a policy for the rounds: enough for a median, and nobody waits long.
constexpr double kRoundsNs = 5e8;
constexpr unsigned kLeastRounds = 3, kMostRounds = 15;
constexpr unsigned kLatencyPasses = 3;
// What a search for the smallest heap takes, about; the progress line counts on it.
constexpr unsigned kSearchPasses = 20;

// What can be replayed in some seconds and drawn; a trace that wants more is better in larger granules.
constexpr std::uint64_t kMostGranules = std::uint64_t{1} << 32;

/// A pool over addresses that nobody owns, from 0 on.
class PoolHeap {
 public:
  PoolHeap(const Fit& fit, unsigned order, std::uint64_t bytes) {
    Result<std::unique_ptr<GenPool>> pool =
        GenPool::create({.min_alloc_order = order, .name = "trace", .fit = fit});
    if (pool && (*pool)->add_chunk({.start = 0, .size_bytes = bytes})) pool_ = *std::move(pool);
    if (pool_ == nullptr) {
      throw Problem(ExitCode::out_of_memory,
                    fmt::format("no memory for the books of a heap of {} in granules of {}; a "
                                "coarser --granule or a smaller --heap needs less",
                                format_bytes(bytes), format_bytes(std::uint64_t{1} << order)));
    }
  }
  std::uintptr_t place(std::size_t size) {
    const Result<std::uintptr_t> start = pool_->allocate(size);
    return start ? *start : replay::kNoPlace;
  }
  void free(std::uintptr_t start, std::size_t size) { pool_->free(start, size); }
  const GenPool& pool() const { return *pool_; }

 private:
  std::unique_ptr<GenPool> pool_;
};

double median(std::vector<double> samples) {
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

double wall_ns(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - since).count();
}

/// The least of many: what the clock costs when nothing comes between.
double clock_cost_ns() {
  double least = std::numeric_limits<double>::max();
  for (int i = 0; i < 1000; ++i) least = std::min(least, wall_ns(std::chrono::steady_clock::now()));
  return least;
}

class Trial {
 public:
  Trial(const GptTrace& trace, unsigned order, TraceResult& result,
        const std::vector<PolicyChoice>& policies)
      : trace_(trace), order_(order), result_(result), policies_(policies) {}

  void run(Console& console) {
    // Before the progress line, whose length depends on it.
    double round_ns = 1;
    for (const PolicyChoice& policy : policies_) round_ns += once(policy, nullptr);
    result_.rounds = static_cast<unsigned>(
        std::clamp(kRoundsNs * static_cast<double>(policies_.size()) / round_ns, 1.0 * kLeastRounds,
                   1.0 * kMostRounds));
    const std::uint64_t passes = result_.rounds + kLatencyPasses + kSearchPasses + 1;
    Progress progress(console, "replaying", passes * policies_.size() * trace_.ops.size(),
                      ProgressUnit::objects);
    progress_ = &progress;
    rounds();
    for (std::size_t i = 0; i < policies_.size(); ++i) {
      latencies(policies_[i], result_.rows[i]);
      smallest(policies_[i], result_.rows[i]);
      peak(policies_[i], result_.rows[i]);
    }
  }

 private:
  void passed(std::uint64_t passes = 1) { progress_->advance(passes * trace_.ops.size()); }

  /// Nanoseconds of a whole replay; the pool's own figures go to `row`.
  double once(const PolicyChoice& policy, PolicyRow* row) {
    PoolHeap heap(policy.fit, order_, result_.heap_bytes);
    places_.assign(trace_.sizes.size(), replay::kNoPlace);
    const Stopwatch watch;
    replay::replay(heap, trace_, places_);
    const double elapsed_ns = watch.elapsed_ns();
    const GenPoolStats stats = heap.pool().stats();
    replay::finish(heap, trace_, places_);
    if (row != nullptr) {
      row->words_touched = stats.words_touched;
      row->metadata_bytes = stats.metadata_bytes;
      row->failures = stats.failed_no_space + stats.failed_fragmented;
    }
    return elapsed_ns;
  }

  void rounds() {
    std::vector<std::vector<double>> samples(policies_.size());
    for (unsigned round = 0; round < result_.rounds; ++round) {
      for (std::size_t i = 0; i < policies_.size(); ++i) {
        samples[i].push_back(once(policies_[i], &result_.rows[i]));
        passed();
      }
    }
    for (std::size_t i = 0; i < policies_.size(); ++i) {
      result_.rows[i].operation_ns = median(samples[i]) / static_cast<double>(trace_.ops.size());
    }
  }

  void latencies(const PolicyChoice& policy, PolicyRow& row) {
    std::vector<float> least(trace_.sizes.size(), std::numeric_limits<float>::max());
    for (unsigned pass = 0; pass < kLatencyPasses; ++pass) {
      PoolHeap heap(policy.fit, order_, result_.heap_bytes);
      replay::replay_timed(heap, trace_, places_, [&least](std::size_t number, auto allocate) {
        const auto start = std::chrono::steady_clock::now();
        allocate();
        least[number] = std::min(least[number], static_cast<float>(wall_ns(start)));
      });
      replay::finish(heap, trace_, places_);
      passed();
    }
    const auto place = least.begin() + static_cast<std::ptrdiff_t>((least.size() - 1) * 999 / 1000);
    std::nth_element(least.begin(), place, least.end());
    row.allocate_p999_ns = *place;
    row.allocate_worst_ns = *std::max_element(place, least.end());
  }

  void smallest(const PolicyChoice& policy, PolicyRow& row) {
    unsigned reported = 0;
    const std::uint64_t granules =
        replay::smallest_heap(result_.figures.peak_granules, [&](std::uint64_t size) {
          if (size > kMostGranules) return false;
          PoolHeap heap(policy.fit, order_, size << order_);
          const bool well = replay::fits(heap, trace_, places_);
          passed(reported++ < kSearchPasses ? 1 : 0);
          return well;
        });
    if (granules != 0) row.smallest_heap_bytes = granules << order_;
    passed(kSearchPasses - std::min(reported, kSearchPasses));
  }

  void peak(const PolicyChoice& policy, PolicyRow& row) {
    PoolHeap heap(policy.fit, order_, result_.heap_bytes);
    const std::size_t end = result_.figures.peak_op + 1;
    replay::replay(heap, trace_, places_, end);
    row.occupancy = Occupancy(result_.heap_bytes >> order_);
    heap.pool().for_each_free_run([&](const FreeRun& run) {
      row.occupancy.free_run(run.start >> order_, run.size_bytes >> order_);
    });
    const GenPoolStats stats = heap.pool().stats();
    row.free_runs = stats.free_runs;
    row.largest_free_bytes = stats.largest_free_bytes;
    row.fault = fault_of(heap.pool(), row, end);
    replay::finish(heap, trace_, places_, end);
    if (row.fault.empty() && heap.pool().available_bytes() != heap.pool().size_bytes()) {
      row.fault = "not all is free after everything was freed";
    }
    passed();
  }

  /// Looks at the places that the first `end` operations left, and at what the pool says of them.
  std::string fault_of(const GenPool& pool, const PolicyRow& row, std::size_t end) const {
    std::vector<bool> freed(places_.size(), false);
    for (std::size_t i = 0; i < end; ++i) {
      if (GptTrace::is_free(trace_.ops[i])) freed[GptTrace::number(trace_.ops[i])] = true;
    }
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
    std::uint64_t live_granules = 0;
    for (std::size_t i = 0; i < places_.size(); ++i) {
      if (freed[i] || places_[i] == replay::kNoPlace) continue;
      const std::uint64_t granules = (trace_.sizes[i] + (std::uint64_t{1} << order_) - 1) >> order_;
      ranges.emplace_back(places_[i] >> order_, granules);
      live_granules += granules;
    }
    std::sort(ranges.begin(), ranges.end());
    std::uint64_t reached = 0;
    for (const auto& [start, granules] : ranges) {
      if (start < reached) return fmt::format("two ranges overlap at granule {}", start);
      reached = start + granules;
    }
    if (reached << order_ > result_.heap_bytes) return "a range reaches past the end of the heap";
    if (pool.size_bytes() - pool.available_bytes() != live_granules << order_) {
      return "the pool's free bytes are not what is left";
    }
    if (row.occupancy.taken() != live_granules) return "the free runs are not what is left";
    return pool.validate() ? "" : "validate() found a broken invariant";
  }

  const GptTrace& trace_;
  const unsigned order_;
  TraceResult& result_;
  const std::vector<PolicyChoice>& policies_;
  Progress* progress_ = nullptr;
  Places places_;
};

}  // namespace

std::vector<PolicyChoice> choose_policies(const std::vector<std::string>& names,
                                          std::uint64_t align_bytes) {
  const std::vector<PolicyChoice> all{{"first-fit", FirstFit{}},
                                      {"best-fit", BestFit{}},
                                      {"first-fit-align", FirstFitAlign{align_bytes}},
                                      {"first-fit-order-align", FirstFitOrderAlign{}},
                                      {"relaxed", RelaxedFit{}}};
  if (names.empty()) return all;
  std::vector<PolicyChoice> chosen;
  for (const std::string& name : names) {
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const PolicyChoice& one) { return one.name == name; });
    if (found == all.end()) {
      std::string known;
      for (const PolicyChoice& one : all) known += (known.empty() ? "" : ", ") + one.name;
      throw Problem(ExitCode::usage,
                    fmt::format("there is no policy {}; known: {}", in_quotes(name), known));
    }
    chosen.push_back(*found);
  }
  return chosen;
}

std::optional<double> TraceResult::utilisation(const PolicyRow& row) const noexcept {
  if (!row.smallest_heap_bytes) return std::nullopt;
  return static_cast<double>(figures.peak_bytes) / static_cast<double>(*row.smallest_heap_bytes);
}

TraceResult run_trace(const std::string& path, const GptTrace& trace, unsigned order,
                      std::uint64_t heap_bytes, const std::vector<PolicyChoice>& policies,
                      Console& console) {
  TraceResult result;
  result.path = path;
  result.operations = trace.ops.size();
  result.allocations = trace.sizes.size();
  result.figures = replay::figures_of(trace, order);
  const std::uint64_t peak = result.figures.peak_granules;
  const std::uint64_t granules = heap_bytes != 0 ? heap_bytes >> order : peak + peak / 4;
  if (granules > kMostGranules) {
    throw Problem(
        ExitCode::out_of_memory,
        fmt::format("{}: a heap of {} granules; at most {} can be replayed, and a coarser "
                    "--granule or a smaller --heap makes fewer",
                    in_quotes(path), format_count(granules), format_count(kMostGranules)));
  }
  result.heap_bytes = granules << order;
  result.clock_ns = clock_cost_ns();
  for (const PolicyChoice& policy : policies) {
    PolicyRow row;
    row.policy = policy.name;
    result.rows.push_back(std::move(row));
  }
  Trial(trace, order, result, policies).run(console);
  return result;
}

}  // namespace mmkit::tool
