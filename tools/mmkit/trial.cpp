// SPDX-License-Identifier: MIT
#include "trial.hpp"

#include <numeric>
#include <random>

namespace mmkit::tool {
namespace {

// A small corpus is measured again until this many objects have gone through, but not more often
// than kMaxRounds.
constexpr std::size_t kWantedObjects = std::size_t{1} << 18;
constexpr std::size_t kMaxRounds = 31;

// Storing with the codec costs what the codec costs, from 5 microseconds a page to several
// milliseconds. Each store may spend about this long on it, on at least kMinSample and at most
// kMaxSample objects.
constexpr double kCodecBudgetNs = 6e8;
constexpr std::size_t kMinSample = 256;
constexpr std::size_t kMaxSample = 16384;
constexpr std::size_t kMaxCodecRounds = 5;

/// An odd number has a middle.
std::size_t rounded_down_to_odd(std::size_t count) {
  return count - (count + 1) % 2;
}

}  // namespace

TrialPlan plan_trial(const Corpus& corpus, const CodecCost& cost, std::uint64_t seed) {
  TrialPlan plan;
  const std::size_t count = corpus.objects().size();
  if (count == 0) return plan;

  const std::size_t rounds = std::clamp<std::size_t>(kWantedObjects / count, 1, kMaxRounds);
  plan.rounds = static_cast<unsigned>(rounded_down_to_odd(rounds));

  const double codec_ns = std::max(100.0, cost.compress_ns + cost.decompress_ns);
  const auto affordable = static_cast<std::size_t>(kCodecBudgetNs / codec_ns);
  const std::size_t sample =
      std::min(count, std::clamp<std::size_t>(affordable, kMinSample, kMaxSample));
  const std::size_t codec_rounds = std::clamp<std::size_t>(affordable / sample, 1, kMaxCodecRounds);
  plan.codec_rounds =
      std::min(plan.rounds, static_cast<unsigned>(rounded_down_to_odd(codec_rounds)));

  plan.load_order.resize(count);
  std::iota(plan.load_order.begin(), plan.load_order.end(), 0U);
  std::mt19937_64 random(seed);
  // std::shuffle leaves its choices to the library; these are the same everywhere.
  for (std::size_t left = count; left > 1; --left) {
    std::swap(plan.load_order[left - 1], plan.load_order[random() % left]);
  }
  plan.sample = spread(count, sample);
  return plan;
}

std::optional<double> median_of(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

}  // namespace mmkit::tool
