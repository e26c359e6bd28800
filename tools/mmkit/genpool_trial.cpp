// SPDX-License-Identifier: MIT
#include "genpool_trial.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "pool_heap.hpp"
#include "progress.hpp"
#include "stopwatch.hpp"

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
          if (size > kMostHeapGranules) return false;
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
    row.occupancy = occupancy_of(heap.pool(), order_);
    const GenPoolStats stats = heap.pool().stats();
    row.free_runs = stats.free_runs;
    row.largest_free_bytes = stats.largest_free_bytes;
    row.fault = fault_in(heap.pool(), row.occupancy, trace_, places_, order_, end);
    replay::finish(heap, trace_, places_, end);
    if (row.fault.empty() && heap.pool().available_bytes() != heap.pool().size_bytes()) {
      row.fault = "not all is free after everything was freed";
    }
    passed();
  }

  const GptTrace& trace_;
  const unsigned order_;
  TraceResult& result_;
  const std::vector<PolicyChoice>& policies_;
  Progress* progress_ = nullptr;
  Places places_;
};

}  // namespace

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
  result.heap_bytes = heap_bytes_for(path, result.figures.peak_granules, order, heap_bytes);
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
