// SPDX-License-Identifier: MIT
//
// Trial - the measurement that every kind of store goes through, so that their figures can be
// compared.
//
//   one round:   fresh store -> store all -> [first round: look at it, verify all]
//                -> load all -> load and decompress all -> free all
//   afterwards:  fresh store -> compress and store a sample; again for each codec round
//
// A figure is the median over the rounds, per object. Stores start empty, so storing includes the
// page faults of fresh memory, as it does in a cache that grows. Loads come in one random order
// (seeded) and copy the object out, as a reader must. Storing with the codec is timed on pages that
// were just made again from the corpus, outside the timed sections. Loops are timed in sections of
// kSection objects; between two of them progress is drawn and Ctrl-C noticed.
//
// A Store has:
//   max_object_bytes()           above it, objects are refused
//   put(index, object) -> bool   false: refused, the store takes no objects of that size
//   read(index, size_bytes, f)   calls f with the bytes of an object that was put
//   drop(index)
// and ends, with what is still in it, by its destructor. It is a template parameter: malloc pays no
// virtual call either.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "codec_run.hpp"
#include "corpus.hpp"
#include "progress.hpp"
#include "stopwatch.hpp"
#include "verify.hpp"

namespace mmkit::tool {

/// How often and in what order; the same for every store of a run.
struct TrialPlan {
  unsigned rounds = 1;
  unsigned codec_rounds = 1;              // at most `rounds`
  std::vector<std::uint32_t> load_order;  // of all objects
  std::vector<std::uint32_t> sample;      // objects that are stored with the codec, evenly spread
};
TrialPlan plan_trial(const Corpus& corpus, const CodecCost& cost, std::uint64_t seed);

/// Pages that are made again at a time when the codec is timed: they stay in the second-level
/// cache.
inline constexpr std::size_t kPagesAtATime = 64;

/// Keeps the optimiser from leaving out what was written there.
inline void keep_written(const void* bytes) noexcept {
  asm volatile("" : : "r"(bytes) : "memory");
}

struct TrialFigures {
  std::uint64_t objects = 0;  // stored
  std::uint64_t payload_bytes = 0;
  std::uint64_t refused = 0;  // too large for the store; kept aside by the caller
  std::uint64_t refused_bytes = 0;
  std::uint64_t mismatches = 0;
  std::string first_mismatch;
  // Nanoseconds per object; nothing when no object was stored.
  std::optional<double> store_ns, load_ns, free_ns, store_codec_ns, load_codec_ns;
};

/// The middle value, of an even number the mean of the two; nothing of nothing.
std::optional<double> median_of(std::vector<double> values);

template <class Store>
class Trial {
 public:
  Trial(const Corpus& corpus, const TrialPlan& plan, Console& console, std::string name)
      : corpus_(corpus), plan_(plan), console_(console), name_(std::move(name)) {}

  /// `make()` returns an empty Store by unique_ptr; `inspect(Store&, stored)` is called once, when
  /// the first is full, with the number of objects in it.
  template <class Make, class Inspect>
  TrialFigures run(Make&& make, Inspect&& inspect) {
    // Written before the first store is made: none of it is then taken for the store's memory.
    kept_.assign(corpus_.objects().size(), 1);
    order_ = plan_.load_order;
    Timings timings;
    for (unsigned round = 0; round < plan_.rounds; ++round) {
      const auto store = make();
      fill(*store, timings);
      if (round == 0) {
        inspect(*store, figures_.objects);
        verify(*store);
      }
      load(*store, timings);
      if (round < plan_.codec_rounds) load_and_decode(*store, timings);
      empty(*store, timings);
    }
    for (unsigned round = 0; round < plan_.codec_rounds; ++round) {
      const auto store = make();
      encode_and_store(*store, timings);
    }
    figures_.store_ns = median_of(std::move(timings.store));
    figures_.load_ns = median_of(std::move(timings.load));
    figures_.free_ns = median_of(std::move(timings.free));
    figures_.store_codec_ns = median_of(std::move(timings.store_codec));
    figures_.load_codec_ns = median_of(std::move(timings.load_codec));
    return std::move(figures_);
  }

 private:
  // Some 300 microseconds of stores: long beside two readings of the clock, short beside a person's
  // patience.
  static constexpr std::size_t kSection = 1024;

  struct Timings {
    std::vector<double> store, load, free, store_codec, load_codec;
  };

  /// Runs body(i) for i in [0, count), in sections; the nanoseconds inside them.
  template <class Body>
  double timed(std::string_view what, std::size_t count, Body&& body) {
    Progress progress(console_, name_ + ": " + std::string(what), count, ProgressUnit::objects);
    double total_ns = 0;
    for (std::size_t begin = 0; begin < count; begin += kSection) {
      const std::size_t end = std::min(count, begin + kSection);
      const Stopwatch watch;
      for (std::size_t index = begin; index < end; ++index) body(index);
      total_ns += watch.elapsed_ns();
      progress.advance(end - begin);
    }
    return total_ns;
  }

  void record(std::vector<double>& timings, double total_ns, std::size_t count) {
    if (count > 0) timings.push_back(total_ns / static_cast<double>(count));
  }

  /// Objects above the store's limit are offered first, outside the timed sections: a refusal is no
  /// store and must not count as a fast one.
  void fill(Store& store, Timings& timings) {
    const std::span<const StoredObject> objects = corpus_.objects();
    const std::size_t limit_bytes = store.max_object_bytes();
    for (std::size_t index = 0; index < objects.size(); ++index) {
      if (objects[index].size_bytes > limit_bytes) put(store, index);
    }
    std::size_t stored = 0;
    const double ns = timed("store", objects.size(), [&](std::size_t index) {
      if (objects[index].size_bytes <= limit_bytes && put(store, index)) ++stored;
    });
    record(timings.store, ns, stored);
    figures_.objects = figures_.payload_bytes = figures_.refused = figures_.refused_bytes = 0;
    for (std::size_t index = 0; index < objects.size(); ++index) {
      const std::uint64_t size_bytes = objects[index].size_bytes;
      (kept_[index] != 0 ? figures_.objects : figures_.refused) += 1;
      (kept_[index] != 0 ? figures_.payload_bytes : figures_.refused_bytes) += size_bytes;
    }
    order_.clear();
    std::copy_if(plan_.load_order.begin(), plan_.load_order.end(), std::back_inserter(order_),
                 [&](std::uint32_t index) { return kept_[index] != 0; });
  }

  bool put(Store& store, std::size_t index) {
    const bool kept = store.put(index, corpus_.objects()[index].bytes());
    kept_[index] = kept ? 1 : 0;
    return kept;
  }

  void verify(Store& store) {
    const std::span<const StoredObject> objects = corpus_.objects();
    static_cast<void>(timed("verify", order_.size(), [&](std::size_t at) {
      const StoredObject& object = objects[order_[at]];
      store.read(order_[at], object.size_bytes, [&](std::span<const std::byte> bytes) {
        const Verdict verdict = verify_object(corpus_.codec(), object, bytes);
        if (verdict != Verdict::same) mismatch(object, verdict);
      });
    }));
  }

  void mismatch(const StoredObject& object, Verdict verdict) {
    if (figures_.mismatches++ != 0) return;
    figures_.first_mismatch = "page " + std::to_string(object.page) + " of the input, " +
                              std::to_string(object.size_bytes) + " bytes compressed, " +
                              std::string(words_for(verdict));
  }

  void load(Store& store, Timings& timings) {
    const std::span<const StoredObject> objects = corpus_.objects();
    std::array<std::byte, kPageSize> copy;
    const double ns = timed("load", order_.size(), [&](std::size_t at) {
      const std::size_t index = order_[at];
      store.read(index, objects[index].size_bytes, [&](std::span<const std::byte> bytes) {
        std::memcpy(copy.data(), bytes.data(), bytes.size());
        keep_written(copy.data());
      });
    });
    record(timings.load, ns, order_.size());
  }

  void load_and_decode(Store& store, Timings& timings) {
    const std::span<const StoredObject> objects = corpus_.objects();
    std::array<std::byte, kPageSize> page;
    std::uint64_t failures = 0;
    const double ns = timed("load and decompress", order_.size(), [&](std::size_t at) {
      const std::size_t index = order_[at];
      store.read(index, objects[index].size_bytes, [&](std::span<const std::byte> bytes) {
        if (!corpus_.codec().decode(bytes, page)) ++failures;
        keep_written(page.data());
      });
    });
    // What does not decode is counted by verify(); the store must not break afterwards either.
    if (failures > figures_.mismatches) figures_.mismatches = failures;
    record(timings.load_codec, ns, order_.size());
  }

  void empty(Store& store, Timings& timings) {
    const double ns = timed("free", order_.size(), [&](std::size_t at) { store.drop(order_[at]); });
    record(timings.free, ns, order_.size());
  }

  /// Of the sample, what the store kept before: compressing what it refuses is not storing.
  void encode_and_store(Store& store, Timings& timings) {
    const std::span<const StoredObject> objects = corpus_.objects();
    std::vector<std::uint32_t> sample = plan_.sample;
    std::erase_if(sample, [&](std::uint32_t index) { return kept_[index] == 0; });
    Progress progress(console_, name_ + ": compress and store", sample.size(),
                      ProgressUnit::objects);
    std::vector<std::array<std::byte, kPageSize>> pages(kPagesAtATime);
    CodecBuffer buffer;
    double total_ns = 0;
    for (std::size_t begin = 0; begin < sample.size(); begin += kPagesAtATime) {
      const std::size_t count = std::min(kPagesAtATime, sample.size() - begin);
      for (std::size_t at = 0; at < count; ++at) {
        // The corpus proved when it was made that this gives the page.
        static_cast<void>(corpus_.codec().decode(objects[sample[begin + at]].bytes(), pages[at]));
      }
      const Stopwatch watch;
      for (std::size_t at = 0; at < count; ++at) {
        static_cast<void>(store.put(sample[begin + at], corpus_.codec().encode(pages[at], buffer)));
      }
      total_ns += watch.elapsed_ns();
      progress.advance(count);
    }
    record(timings.store_codec, total_ns, sample.size());
  }

  const Corpus& corpus_;
  const TrialPlan& plan_;
  Console& console_;
  std::string name_;
  TrialFigures figures_;
  std::vector<std::uint8_t> kept_;    // by object: the store took it
  std::vector<std::uint32_t> order_;  // the load order, without what was refused
};

}  // namespace mmkit::tool
