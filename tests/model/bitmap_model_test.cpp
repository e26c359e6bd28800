// SPDX-License-Identifier: MIT
//
// Random changes and searches on bitmaps of random length, against a vector of bools and the
// definitions of the searches, a million operations. Ranges, counts and alignments are drawn so
// that word edges and near misses are common.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <mmkit/base/bitmap.hpp>
#include <random>
#include <vector>

#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

class BitmapModel {
 public:
  BitmapModel(std::size_t bits, std::uint64_t seed)
      : words_(bitmap::words_for(bits)), model_(bits), random_(seed) {}

  // One operation on both; false when they disagree, which is reported.
  bool step() {
    const std::size_t begin = place();
    const std::size_t end = begin + below(bits() - begin + 1);
    switch (below(10)) {
      case 0:
        return change(begin, run_from(begin), /*kind=*/true);
      case 1:
      case 2:
        return change(begin, run_from(begin), /*kind=*/false);
      case 3:
        return change_one(begin);
      case 4:
        return count(begin, end);
      case 5:
        return next(begin, end);
      default:
        return find(begin, end);
    }
  }

  // Whether every word is what the model says, bits behind the end included.
  bool matches() const {
    for (std::size_t word = 0; word < words_.size(); ++word) {
      std::uint64_t expected = 0;
      for (std::size_t bit = 0; bit < 64 && word * 64 + bit < bits(); ++bit) {
        if (model_[word * 64 + bit]) expected |= std::uint64_t{1} << bit;
      }
      if (words_[word] != expected) return false;
    }
    return true;
  }

 private:
  std::size_t bits() const { return model_.size(); }
  std::size_t below(std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_);
  }
  // A bit index; half of them within two bits of a word's edge.
  std::size_t place() {
    std::size_t at = below(bits());
    if (below(2) == 0) at = at / 64 * 64 + below(5);
    if (at >= 2 && below(2) == 0) at -= 2;
    return std::min(at, bits() - 1);
  }
  // How many bits from `begin` to change: mostly few, at times all.
  std::size_t run_from(std::size_t begin) {
    const std::size_t most = bits() - begin;
    return below(8) == 0 ? below(most + 1) : below(std::min<std::size_t>(most, 24) + 1);
  }

  bool change(std::size_t start, std::size_t run, bool kind) {
    if (kind) {
      bitmap::set_range(words_.data(), start, run);
    } else {
      bitmap::clear_range(words_.data(), start, run);
    }
    for (std::size_t bit = start; bit < start + run; ++bit) model_[bit] = kind;
    return true;
  }
  bool change_one(std::size_t index) {
    if (bitmap::test(words_.data(), index) != model_[index]) {
      ADD_FAILURE() << "bit " << index;
      return false;
    }
    model_[index] = !model_[index];
    if (model_[index]) {
      bitmap::set(words_.data(), index);
    } else {
      bitmap::clear(words_.data(), index);
    }
    return true;
  }
  bool count(std::size_t begin, std::size_t end) {
    std::size_t set = 0;
    for (std::size_t bit = begin; bit < end; ++bit) set += model_[bit] ? 1u : 0u;
    EXPECT_EQ(bitmap::count_set(words_.data(), begin, end - begin), set);
    EXPECT_EQ(bitmap::all_set(words_.data(), begin, end - begin), set == end - begin);
    EXPECT_EQ(bitmap::all_clear(words_.data(), begin, end - begin), set == 0);
    return !::testing::Test::HasFailure();
  }
  bool next(std::size_t begin, std::size_t end) {
    std::size_t set = begin;
    while (set < end && !model_[set]) ++set;
    std::size_t clear = begin;
    while (clear < end && model_[clear]) ++clear;
    EXPECT_EQ(bitmap::next_set(words_.data(), begin, end), set);
    EXPECT_EQ(bitmap::next_clear(words_.data(), begin, end), clear);
    std::size_t last = end;
    while (last > begin && !model_[last - 1]) --last;
    EXPECT_EQ(bitmap::last_set(words_.data(), begin, end), last == begin ? end : last - 1);
    return !::testing::Test::HasFailure();
  }
  bool find(std::size_t begin, std::size_t end) {
    const bool kind = below(2) == 0;
    const std::size_t align = std::size_t{1} << below(below(2) == 0 ? 3 : 9);
    const std::size_t run = 1 + below(below(4) == 0 ? bits() + 8 : 12);
    const std::size_t found = kind ? bitmap::find_set_run(words_.data(), begin, end, run, align)
                                   : bitmap::find_clear_run(words_.data(), begin, end, run, align);
    EXPECT_EQ(found, naive_find(begin, end, run, align, kind))
        << "[" << begin << ", " << end << ") run " << run << " align " << align << " of "
        << (kind ? "set" : "clear");
    return !::testing::Test::HasFailure();
  }
  // The first aligned start whose bits are all of the kind, by counting how long each run is.
  std::size_t naive_find(std::size_t begin, std::size_t end, std::size_t run, std::size_t align,
                         bool kind) const {
    std::size_t length = 0;
    std::size_t found = end;
    for (std::size_t bit = end; bit-- > begin;) {
      length = model_[bit] == kind ? length + 1 : 0;
      if (length >= run && bit % align == 0) found = bit;
    }
    return found;
  }

  std::vector<std::uint64_t> words_;
  std::vector<bool> model_;
  std::mt19937_64 random_;
};

TEST(BitmapModel, AgreesWithAVectorOfBools) {
  const std::uint64_t operations = testing::scaled(1'000'000, 1000);
  std::mt19937_64 lengths(testing::test_seed(0));
  constexpr std::uint64_t kPerBitmap = 2500;
  for (std::uint64_t done = 0; done < operations;) {
    // Up to nine words; each fourth ends at a word's edge.
    std::size_t bits = 1 + lengths() % 576;
    if (lengths() % 4 == 0) bits = (bits + 63) / 64 * 64;
    BitmapModel model(bits, lengths());
    for (std::uint64_t i = 0; i < kPerBitmap && done < operations; ++i, ++done) {
      ASSERT_TRUE(model.step()) << "after " << done << " operations, " << bits << " bits";
    }
    ASSERT_TRUE(model.matches()) << "after " << done << " operations, " << bits << " bits";
  }
}

}  // namespace
}  // namespace mmkit
