// SPDX-License-Identifier: MIT
//
// Comparison - several ways of doing one job, measured in turn, round after round.
//
//   round 1   A B C calibrator      A ratio is taken inside a round, between turns that lie some
//   round 2   B C A calibrator      milliseconds apart, and the median over the rounds is reported:
//   round 3   C A B calibrator      what slows the machine for a while slows both sides of it.
//
// A turn in which the thread lost its CPU to another program is repeated.
// A comparison is one benchmark of Google Benchmark, and one round one iteration of it; medians and
// ratios are its user counters. What the contenders need is made when the comparison starts and
// ends with it, so that a filtered run pays only for what it runs.
#pragma once

#include <benchmark/benchmark.h>
#include <sys/single_threaded.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/calibrator.hpp"
#include "support/harness.hpp"
#include "support/interruptions.hpp"
#include "support/statistics.hpp"
#include "support/table.hpp"
#include "support/two_threads.hpp"
#include "support/verdict.hpp"

namespace mmkit::bench {

/// What one turn measured: a figure for each column of the comparison.
using Figures = std::vector<double>;

struct Contender {
  std::string name;
  std::function<Figures()> turn;
};

/// A promise: the median of contender / reference, last column, is at most (at least) this; without
/// a reference, the median of the figure itself.
struct Target {
  std::string contender, reference;
  double bound;
  enum class Kind { at_most, at_least } kind = Kind::at_most;
};

/// How many threads the process has while a comparison runs. The C library leaves out atomic
/// operations while it has one; so may others. A process that had two never counts as alone again,
/// so comparisons alone are registered first.
enum class Company { alone, second_thread };

struct Comparison {
  std::string name;                     // "steady/mem-node/touch:0"
  std::string title;                    // what a figure is, with its unit
  std::vector<std::string> columns;     // the last one is what ratios are of
  std::vector<std::string> references;  // contenders that the others are set against
  std::function<std::vector<Contender>()> make;
  std::vector<Target> targets{};
  Company company = Company::alone;
  bool repeats_interrupted = true;          // turns in which this thread lost its CPU
  std::function<std::string()> footnote{};  // printed under the table; may be empty
};

namespace detail {

// Runs the rounds of one comparison and keeps all samples.
class Run {
 public:
  explicit Run(const Comparison& comparison)
      : comparison_(comparison),
        sleeper_(comparison.company == Company::second_thread ? new TwoThreads : nullptr),
        contenders_(comparison.make()) {
    samples_.assign(contenders_.size(),
                    std::vector<std::vector<double>>(comparison.columns.size()));
    for (Contender& contender : contenders_) contender.turn();  // warm, and not counted
  }

  void round() {
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      const std::size_t turn = (i + rounds_) % contenders_.size();
      const Figures figures = undisturbed_turn(contenders_[turn]);
      for (std::size_t column = 0; column < figures.size(); ++column) {
        samples_[turn][column].push_back(figures[column]);
      }
    }
    atomic_add_.push_back(calibrator_.atomic_add_ns());
    plain_add_.push_back(calibrator_.plain_add_ns());
    ++rounds_;
  }

  std::string table() const {
    Table table;
    std::vector<std::string> head{""};
    for (const std::string& column : comparison_.columns) {
      head.push_back(column);
      head.push_back("quartiles");
    }
    for (const std::string& reference : present_references()) head.push_back("/ " + reference);
    table.add_row(head);
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      std::vector<std::string> row{contenders_[i].name};
      for (const std::vector<double>& column : samples_[i]) {
        const Quartiles q = quartiles(column);
        row.push_back(figure(q.median));
        row.push_back(figure(q.low) + ".." + figure(q.high));
      }
      for (const std::string& reference : present_references()) {
        row.push_back(decimal(ratio(contenders_[i].name, reference).median, 2));
      }
      table.add_row(row);
    }
    std::string text = comparison_.name + ": " + comparison_.title + "\n" + table.render();
    text += "  " + std::to_string(rounds_) + " rounds, " +
            (__libc_single_threaded != 0 ? "in a process of one thread" : "with threads about") +
            "; in the same rounds an atomic addition " + figure(quartiles(atomic_add_).median) +
            " ns, a plain one " + figure(quartiles(plain_add_).median) + " ns\n";
    if (repeated_ != 0) {
      text += "  " + std::to_string(repeated_) + " turns were interrupted and repeated\n";
    }
    if (comparison_.footnote) text += comparison_.footnote();
    return text;
  }

  void export_counters(::benchmark::State& state) const {
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      for (std::size_t column = 0; column < comparison_.columns.size(); ++column) {
        state.counters[contenders_[i].name + "." + comparison_.columns[column]] =
            quartiles(samples_[i][column]).median;
      }
      for (const std::string& reference : present_references()) {
        state.counters[contenders_[i].name + "/" + reference] =
            ratio(contenders_[i].name, reference).median;
      }
    }
  }

  // One line a target whose contender, and reference if it has one, ran.
  std::string verdicts() const {
    std::string text;
    for (const Target& target : comparison_.targets) {
      const bool alone = target.reference.empty();
      if (!present(target.contender) || !(alone || present(target.reference))) continue;
      const Quartiles q = alone ? quartiles(samples_[index_of(target.contender)].back())
                                : ratio(target.contender, target.reference);
      const bool at_most = target.kind == Target::Kind::at_most;
      const bool met = at_most ? q.median <= target.bound : q.median >= target.bound;
      text +=
          verdict(met, comparison_.name, target.contender + (alone ? "" : " / " + target.reference),
                  decimal(q.median, 2) + " (" + decimal(q.low, 2) + ".." + decimal(q.high, 2) + ")",
                  (at_most ? "at most " : "at least ") + decimal(target.bound, 2));
    }
    return text;
  }

 private:
  // A turn during which this thread kept its CPU; after some tries, whatever it was.
  Figures undisturbed_turn(Contender& contender) {
    for (int i = 1;; ++i) {
      const long before = times_interrupted();
      Figures figures = contender.turn();
      if (times_interrupted() == before || i == kMostTries || !comparison_.repeats_interrupted) {
        return figures;
      }
      ++repeated_;
    }
  }

  bool present(const std::string& name) const { return index_of(name) != contenders_.size(); }
  std::size_t index_of(const std::string& name) const {
    std::size_t i = 0;
    while (i < contenders_.size() && contenders_[i].name != name) ++i;
    return i;
  }
  std::vector<std::string> present_references() const {
    std::vector<std::string> names;
    for (const std::string& name : comparison_.references) {
      if (present(name)) names.push_back(name);
    }
    return names;
  }
  Quartiles ratio(const std::string& name, const std::string& reference) const {
    return paired_ratio(samples_[index_of(name)].back(), samples_[index_of(reference)].back());
  }

  const Comparison& comparison_;
  std::unique_ptr<TwoThreads> sleeper_;
  std::vector<Contender> contenders_;
  std::vector<std::vector<std::vector<double>>> samples_;  // [contender][column][round]
  std::vector<double> atomic_add_, plain_add_;
  Calibrator calibrator_;
  std::size_t rounds_ = 0, repeated_ = 0;
};

}  // namespace detail

/// Makes `comparison` a benchmark of this program.
inline void register_comparison(Comparison comparison, const Options& options) {
  if (comparison.company == Company::second_thread) comparison.name += "/threaded";
  const std::string name = comparison.name;
  register_section(name, options.rounds,
                   [comparison = std::move(comparison)](::benchmark::State& state) {
                     detail::Run run(comparison);
                     for (auto _ : state) run.round();
                     run.export_counters(state);
                     return Section{run.table(), run.verdicts()};
                   });
}

}  // namespace mmkit::bench
