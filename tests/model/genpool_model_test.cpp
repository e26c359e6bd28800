// SPDX-License-Identifier: MIT
//
// Random lives of pools beside a naive model: every place, refusal, owner and count is compared.
//
// A life has its own granule, chunks (odd starts, ragged tails, some smaller than a leaf, some of
// several), mix of policies and sizes. Frees are whole, of a part, or of neighbours together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <random>
#include <string>
#include <vector>

#include "support/genpool_model.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::GenPoolModel;
using testing::ModelFit;
using testing::ModelRequest;
using testing::scaled;
using testing::test_seed;

class Life {
 public:
  Life(std::uint64_t seed, std::uint32_t policies, bool wide)
      : random_(seed),
        wide_(wide),
        order_(pick({0, 3, 4, 12})),
        policies_(policies),
        model_(order_) {
    GenPoolOptions options;
    options.min_alloc_order = order_;
    if (policies == 1u << static_cast<int>(ModelFit::best)) options.fit = BestFit{};
    pool_ = GenPool::create(options).value();
    largest_run_ = wide ? pick({100, 1000, 9000, 30'000}) : pick({4, 16, 100, 700});
    const std::size_t chunks = 1 + below(wide ? 2 : 4);
    for (std::size_t i = 0; i < chunks; ++i) add_chunk();
  }
  ~Life() {
    for (const Block& block : live_) EXPECT_TRUE(pool_->try_free(block.start, block.size_bytes));
  }

  // One operation, compared.
  void step() {
    const std::size_t what = below(100);
    const bool full = model_.available() < total_bytes_ / 8;
    if (live_.empty() || (what < (full ? 40u : 55u))) {
      allocate();
    } else if (what < 92) {
      free_one();
    } else if (what < 94) {
      free_wrongly();
    } else if (what < 97) {
      allocate_at();
    } else if (what == 99 && below(50) == 0 && model_.chunks().size() < 6) {
      add_chunk();
    } else {
      compare_counts();
    }
  }
  void validate() const { ASSERT_TRUE(pool_->validate()); }
  // The runs, one by one.
  void compare_runs() const {
    std::vector<std::pair<std::uintptr_t, std::size_t>> expected, found;
    model_.for_each_run([&](const GenPoolModel::Chunk& chunk, std::size_t at, std::size_t length) {
      expected.emplace_back(chunk.start + (at << order_), length << order_);
    });
    pool_->for_each_free_run(
        [&](const FreeRun& run) { found.emplace_back(run.start, run.size_bytes); });
    ASSERT_EQ(expected, found);
    ASSERT_EQ(pool_->stats().free_runs, expected.size());
  }

 private:
  struct Block {
    std::uintptr_t start;
    std::size_t size_bytes;
  };

  std::size_t below(std::size_t bound) { return random_() % bound; }
  unsigned pick(std::initializer_list<unsigned> choices) {
    return *(choices.begin() + below(choices.size()));
  }
  std::size_t granule() const { return std::size_t{1} << order_; }

  void add_chunk() {
    const std::size_t granules =
        wide_ ? 60'000 + below(60'000) : 1 + below(pick({60, 512, 1024, 3000}));
    ChunkSpec spec;
    spec.start = next_start_ + below(3 * granule()) + (below(2) == 0 ? below(7) : 0);
    spec.size_bytes = granules * granule() + below(granule());
    spec.owner = &owners_[model_.chunks().size() % 8];
    next_start_ = spec.start + spec.size_bytes + below(2) * 1000;
    ASSERT_TRUE(pool_->add_chunk(spec));
    model_.add(spec.start, spec.size_bytes, spec.owner);
    total_bytes_ += spec.size_bytes;
  }
  ModelRequest request() {
    ModelRequest request;
    do {
      request.fit = static_cast<ModelFit>(below(5));
    } while ((policies_ >> static_cast<int>(request.fit) & 1) == 0);
    const std::size_t most = below(20) == 0 ? (wide_ ? 90'000 : 4000) : largest_run_;
    request.size_bytes = 1 + below((1 + below(most)) * granule());
    if (request.fit == ModelFit::align) {
      request.number = std::size_t{1} << (below(2) == 0 ? order_ + below(10) : below(16));
    } else if (request.fit == ModelFit::fixed) {
      request.number = below(wide_ ? 100'000 : 3100) << order_;
    }
    return request;
  }
  void allocate() {
    const ModelRequest wanted = request();
    void* expected_owner = nullptr;
    void* owner = this;
    const auto expected = model_.allocate(wanted, &expected_owner);
    const Result<std::uintptr_t> place = pool_->allocate(wanted.size_bytes, wanted.real(), &owner);
    ASSERT_EQ(owner, expected_owner) << wanted.text();
    if (!expected) {
      ASSERT_FALSE(place) << wanted.text() << ": " << *place << " instead of no space";
      ASSERT_EQ(place.error(), Errc::no_space);
      return;
    }
    ASSERT_TRUE(place) << wanted.text() << ": refused instead of " << *expected;
    ASSERT_EQ(*place, *expected) << wanted.text();
    live_.push_back({*place, wanted.size_bytes});
  }
  void free_one() {
    const std::size_t index = below(live_.size());
    Block& block = live_[index];
    const std::size_t run = model_.granules(block.size_bytes);
    if (run > 1 && below(4) == 0) {  // an end of it
      const std::size_t part = 1 + below(run - 1);
      if (below(2) == 0) {
        free_bytes(block.start, part << order_);
        block.start += part << order_;
        block.size_bytes -= part << order_;
      } else {
        free_bytes(block.start + (part << order_), block.size_bytes - (part << order_));
        block.size_bytes = part << order_;
      }
      return;
    }
    Block whole = block;
    live_[index] = live_.back();
    live_.pop_back();
    if (below(8) == 0) {  // together with the block behind it
      const std::uintptr_t end = whole.start + (run << order_);
      for (std::size_t i = 0; i < live_.size(); ++i) {
        const bool same =
            live_[i].start == end && pool_->contains(whole.start, end - whole.start + 1);
        if (!same) continue;
        whole.size_bytes = (run << order_) + live_[i].size_bytes;
        live_[i] = live_.back();
        live_.pop_back();
        break;
      }
    }
    free_bytes(whole.start, whole.size_bytes);
  }
  void free_bytes(std::uintptr_t start, std::size_t size_bytes) {
    ASSERT_TRUE(model_.free(start, size_bytes));
    ASSERT_TRUE(pool_->try_free(start, size_bytes)) << start << " + " << size_bytes;
  }
  // Any range at all: what the model refuses, the pool does.
  void free_wrongly() {
    const auto& chunk = model_.chunks()[below(model_.chunks().size())];
    const std::uintptr_t start = chunk.start + below(chunk.size_bytes + 10);
    const std::size_t size_bytes = 1 + below(chunk.size_bytes);
    GenPoolModel trial = model_;
    if (trial.free(start, size_bytes)) return;  // would be right: not wanted here
    ASSERT_FALSE(pool_->try_free(start, size_bytes)) << start << " + " << size_bytes;
  }
  void allocate_at() {
    const auto& chunk = model_.chunks()[below(model_.chunks().size())];
    const std::uintptr_t start = chunk.start + (below(chunk.taken.size()) << order_);
    const std::size_t size_bytes = 1 + below(largest_run_ << order_);
    const bool expected = model_.allocate_at(start, size_bytes);
    ASSERT_EQ(pool_->allocate_at(start, size_bytes).has_value(), expected);
    if (expected) live_.push_back({start, size_bytes});
  }
  void compare_counts() {
    ASSERT_EQ(pool_->available_bytes(), model_.available());
    ASSERT_EQ(pool_->size_bytes(), total_bytes_);
    if (below(4) == 0) {
      ASSERT_EQ(pool_->largest_free_bytes(), model_.largest());
    }
    if (below(10) != 0) return;
    std::size_t at = 0;
    pool_->for_each_chunk([&](const GenPoolChunk& chunk) {
      ASSERT_LT(at, model_.chunks().size());
      EXPECT_EQ(chunk.start, model_.chunks()[at].start);
      EXPECT_EQ(chunk.available_bytes, model_.available(model_.chunks()[at]));
      ++at;
    });
    ASSERT_EQ(at, model_.chunks().size());
  }

  std::mt19937_64 random_;
  bool wide_;
  unsigned order_;
  std::uint32_t policies_;
  GenPoolModel model_;
  std::unique_ptr<GenPool> pool_;
  std::vector<Block> live_;
  std::size_t total_bytes_ = 0, largest_run_ = 1;
  std::uintptr_t next_start_ = 0;
  int owners_[8] = {};
};

// `policies` is a set of bits by ModelFit.
void live(std::uint64_t stream, std::uint32_t policies, std::uint64_t operations,
          bool wide = false) {
  constexpr std::uint64_t kLifetime = 5000, kClosely = 1000;
  for (std::uint64_t done = 0, life = 0; done < operations; ++life) {
    const std::uint64_t seed = test_seed(stream * 1000 + life);
    SCOPED_TRACE("life " + std::to_string(life));
    Life pool(seed, policies, wide);
    for (std::uint64_t i = 0; i < kLifetime; ++i, ++done) {
      pool.step();
      if ((done < kClosely * 10 && !wide) || i % kClosely == 0) pool.validate();
      if (i % kClosely == 0) pool.compare_runs();
      if (::testing::Test::HasFailure()) {
        FAIL() << "at operation " << i << " of the life";
      }
    }
  }
}

constexpr std::uint32_t kEvery = 31;

TEST(GenPoolModel, FirstFitAloneGoesWhereTheModelSays) {
  live(1, 1, scaled(2'000'000));
}
TEST(GenPoolModel, BestFitAloneGoesWhereTheModelSays) {
  live(2, 2, scaled(2'000'000));
}
TEST(GenPoolModel, AlignedFitsGoWhereTheModelSays) {
  live(3, 4 | 8, scaled(2'000'000));
}
// Runs longer than what hints can tell apart.
TEST(GenPoolModel, LongRunsGoWhereTheModelSays) {
  live(5, 1, scaled(4'000), /*wide=*/true);
  live(6, 2, scaled(4'000), /*wide=*/true);
  live(7, kEvery, scaled(4'000), /*wide=*/true);
}
TEST(GenPoolModel, AllPoliciesTogetherGoWhereTheModelSays) {
  live(4, kEvery, scaled(4'000'000));
}

}  // namespace
}  // namespace mmkit
