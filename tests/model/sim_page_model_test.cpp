// SPDX-License-Identifier: MIT
//
// A million random calls on a SimPageAllocator against a naive model that predicts every frame,
// every refusal and every count. The model keeps a state a frame and a vector of freed runs, and
// searches them from end to end; it shares no code with the allocator. Contents are checked
// besides: what is held keeps its bytes, what must read as zero does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mmkit/page.hpp>
#include <optional>
#include <random>
#include <vector>

#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

enum class Frame : unsigned char { free, held, retained };

// A freed run. Its place in the vector is its age, oldest first; `listed` grows each time a run or
// a piece of one is put in front of the runs of its length.
struct Freed {
  std::size_t first;
  std::size_t pages;
  std::uint64_t listed;
};

class NaiveAllocator {
 public:
  NaiveAllocator(std::size_t node_frames, unsigned nodes, std::size_t retain_pages)
      : node_frames_(node_frames),
        retain_pages_(retain_pages),
        frames_(node_frames * nodes, Frame::free) {}

  // The first frame, or why not.
  Result<std::size_t> allocate(const PageRequest& request) {
    std::vector<std::size_t> order(frames_.size() / node_frames_);
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::optional<std::size_t> first;
    const auto attempt = [&](auto search, const std::vector<std::size_t>& nodes) {
      for (const std::size_t node : nodes) {
        if (!first) first = (this->*search)(node, request.pages, request.align_pages);
      }
    };
    const bool nowait = has(request.gfp, Gfp::nowait);
    const auto second = nowait ? &NaiveAllocator::retained_frames : &NaiveAllocator::free_frames;
    if (request.node != kAnyNode) {
      const std::vector<std::size_t> preferred{static_cast<std::size_t>(request.node)};
      attempt(&NaiveAllocator::freed_run, preferred);
      attempt(second, preferred);
    }
    attempt(&NaiveAllocator::freed_run, order);
    attempt(second, order);
    if (!nowait) {
      if (request.node != kAnyNode) {
        attempt(&NaiveAllocator::unheld_frames, {static_cast<std::size_t>(request.node)});
      }
      attempt(&NaiveAllocator::unheld_frames, order);
    }
    if (!first) return fail(Errc::out_of_memory);
    hold(*first, request.pages);
    return *first;
  }

  void free(std::size_t first, std::size_t pages) {
    held_ -= pages;
    if (pages > retain_pages_) {
      set(first, pages, Frame::free);
      return;
    }
    set(first, pages, Frame::retained);
    freed_.push_back({first, pages, ++listed_});
    if (retained() > retain_pages_) give_back(retain_pages_ / 2);
  }

  void give_back(std::size_t keep) {
    while (retained() > keep) {
      set(freed_.front().first, freed_.front().pages, Frame::free);
      freed_.erase(freed_.begin());
    }
  }

  std::size_t retained() const {
    std::size_t pages = 0;
    for (const Freed& run : freed_) pages += run.pages;
    return pages;
  }
  std::size_t held() const { return held_; }

 private:
  using Found = std::optional<std::size_t>;

  // The shortest freed run that holds the request, of these the one that was listed last.
  Found freed_run(std::size_t node, std::size_t pages, std::size_t align) {
    const Freed* best = nullptr;
    std::size_t place = 0;
    for (const Freed& run : freed_) {
      if (run.first / node_frames_ != node) continue;
      const std::size_t start = (run.first + align - 1) / align * align;
      if (start + pages > run.first + run.pages) continue;
      if (best != nullptr &&
          (run.pages > best->pages || (run.pages == best->pages && run.listed < best->listed))) {
        continue;
      }
      best = &run;
      place = start;
    }
    return best == nullptr ? Found() : Found(place);
  }
  template <class Fits>
  Found lowest(std::size_t node, std::size_t pages, std::size_t align, Fits fits) const {
    const std::size_t end = (node + 1) * node_frames_;
    std::size_t length = 0;
    std::size_t start = node * node_frames_;
    for (std::size_t at = start; at < end; ++at) {
      if (!fits(frames_[at])) {
        length = 0;
        continue;
      }
      if (length == 0) {
        if (at % align != 0) continue;
        start = at;
      }
      if (++length == pages) return start;
    }
    return {};
  }
  Found free_frames(std::size_t node, std::size_t pages, std::size_t align) {
    return lowest(node, pages, align, [](Frame frame) { return frame == Frame::free; });
  }
  Found retained_frames(std::size_t node, std::size_t pages, std::size_t align) {
    return lowest(node, pages, align, [](Frame frame) { return frame == Frame::retained; });
  }
  Found unheld_frames(std::size_t node, std::size_t pages, std::size_t align) {
    return lowest(node, pages, align, [](Frame frame) { return frame != Frame::held; });
  }

  // Cuts freed runs that overlap; what is left keeps their age, the upper piece just behind the
  // lower, and is listed anew, the upper piece first.
  void hold(std::size_t first, std::size_t pages) {
    const std::size_t end = first + pages;
    std::vector<Freed> left;
    // Runs are cut in the order of their frames; ages stay those of the vector.
    std::vector<std::size_t> by_frame(freed_.size());
    for (std::size_t i = 0; i < by_frame.size(); ++i) by_frame[i] = i;
    std::sort(by_frame.begin(), by_frame.end(),
              [this](std::size_t a, std::size_t b) { return freed_[a].first < freed_[b].first; });
    std::vector<std::vector<Freed>> pieces(freed_.size());
    for (const std::size_t i : by_frame) {
      const Freed& run = freed_[i];
      const std::size_t run_end = run.first + run.pages;
      if (run_end <= first || run.first >= end) {
        pieces[i] = {run};
        continue;
      }
      if (run_end > end) pieces[i].push_back({end, run_end - end, ++listed_});
      if (run.first < first) {
        pieces[i].insert(pieces[i].begin(), {run.first, first - run.first, ++listed_});
      }
    }
    for (const std::vector<Freed>& of_one : pieces) {
      left.insert(left.end(), of_one.begin(), of_one.end());
    }
    freed_ = left;
    set(first, pages, Frame::held);
    held_ += pages;
  }
  void set(std::size_t first, std::size_t pages, Frame state) {
    for (std::size_t i = first; i < first + pages; ++i) frames_[i] = state;
  }

  std::size_t node_frames_;
  std::size_t retain_pages_;
  std::vector<Frame> frames_;
  std::vector<Freed> freed_;
  std::size_t held_ = 0;
  std::uint64_t listed_ = 0;
};

struct Shape {
  std::size_t node_frames;
  unsigned nodes;
  std::size_t retain_pages;
  bool shareable;
};

class Comparison {
 public:
  Comparison(const Shape& shape, std::uint64_t seed)
      : shape_(shape),
        model_(shape.node_frames, shape.nodes, shape.retain_pages),
        pages_(
            SimPageAllocator::create({.capacity_bytes = shape.node_frames * shape.nodes * kPageSize,
                                      .retain_bytes = shape.retain_pages * kPageSize,
                                      .nodes = shape.nodes,
                                      .shareable = shape.shareable})
                .value()),
        random_(seed) {}
  ~Comparison() {
    for (const Held& run : held_) pages_->free_pages(run.run);
  }

  void run(std::uint64_t operations) {
    for (std::uint64_t i = 0; i < operations && !::testing::Test::HasFailure(); ++i) {
      // Long stretches of filling and of draining, so that every level of use is met.
      if (i % 512 == 0) fills_ = below(100);
      SCOPED_TRACE(i);
      if (below(1000) == 0) {
        release();
      } else if (below(100) < fills_) {
        allocate();
      } else {
        free_one();
      }
      if (i < 10'000 || i % 10'000 == 0) {
        ASSERT_TRUE(pages_->validate());
        compare_counts();
      }
    }
    ASSERT_TRUE(pages_->validate());
    compare_counts();
    // A run must have met all kinds of calls to mean anything.
    EXPECT_GT(placed_, operations / 10);
    EXPECT_GT(refused_, 0u);
  }

 private:
  struct Held {
    PageRun run;
    std::uint64_t mark;
  };

  std::size_t below(std::size_t bound) { return random_() % bound; }

  void allocate() {
    PageRequest request;
    const std::size_t longest = below(50) == 0 ? shape_.node_frames + 2 : below(8) == 0 ? 90 : 4;
    request.pages = 1 + below(longest);
    request.align_pages = below(4) != 0 ? 1 : std::size_t{1} << below(7);
    if (below(3) == 0) request.gfp = request.gfp | Gfp::zero;
    if (below(4) == 0) request.gfp = request.gfp | Gfp::nowait;
    if (below(2) == 0) request.node = static_cast<int>(below(shape_.nodes));

    const Result<std::size_t> expected = model_.allocate(request);
    const Result<PageRun> got = pages_->allocate_pages(request);
    ASSERT_EQ(got.has_value(), expected.has_value());
    if (!expected) {
      ASSERT_EQ(got.error(), expected.error());
      ++refused_;
      return;
    }
    ASSERT_EQ(static_cast<std::size_t>(got->first), *expected);
    ASSERT_EQ(got->pages, request.pages);
    ++placed_;
    if (has(request.gfp, Gfp::zero)) {
      for (std::size_t i = 0; i < got->pages; ++i) ASSERT_EQ(word(*got, i), 0u);
    }
    const std::uint64_t mark = random_();
    for (std::size_t i = 0; i < got->pages; ++i) word(*got, i) = mark + i;
    held_.push_back({*got, mark});
  }

  void free_one() {
    if (held_.empty()) return;
    std::swap(held_[below(held_.size())], held_.back());
    const Held gone = held_.back();
    held_.pop_back();
    for (std::size_t i = 0; i < gone.run.pages; ++i) {
      ASSERT_EQ(word(gone.run, i), gone.mark + i);
    }
    model_.free(static_cast<std::size_t>(gone.run.first), gone.run.pages);
    pages_->free_pages(gone.run);
  }

  void release() {
    ASSERT_EQ(pages_->release(), model_.retained());
    model_.give_back(0);
  }

  void compare_counts() {
    const PageSourceStats stats = pages_->stats();
    ASSERT_EQ(stats.held_pages, model_.held());
    ASSERT_EQ(stats.retained_pages, model_.retained());
    ASSERT_EQ(stats.resident_pages, model_.held() + model_.retained());
    ASSERT_EQ(stats.allocations, placed_);
    ASSERT_EQ(stats.failures, refused_);
    ASSERT_EQ(stats.allocations - stats.frees, held_.size());
    ASSERT_EQ(stats.release_failures, 0u);
  }

  // One word a page, somewhere in it.
  static std::uint64_t& word(const PageRun& run, std::size_t page) {
    return *reinterpret_cast<std::uint64_t*>(run.data + page * kPageSize + page * 64 % kPageSize);
  }

  Shape shape_;
  NaiveAllocator model_;
  std::unique_ptr<SimPageAllocator> pages_;
  std::mt19937_64 random_;
  std::vector<Held> held_;
  std::uint64_t placed_ = 0;
  std::uint64_t refused_ = 0;
  std::size_t fills_ = 50;
};

// The load: 1.2 million calls in all.
constexpr std::uint64_t kOperations = 300'000;

TEST(SimPageModel, OneNodeWithRetention) {
  Comparison({300, 1, 64, false}, testing::test_seed(1)).run(testing::scaled(kOperations, 5000));
}

TEST(SimPageModel, ThreeNodesWithSmallRetention) {
  Comparison({130, 3, 20, false}, testing::test_seed(2)).run(testing::scaled(kOperations, 5000));
}

TEST(SimPageModel, RetainsMoreThanThereIs) {
  Comparison({200, 2, 1000, false}, testing::test_seed(3)).run(testing::scaled(kOperations, 5000));
}

TEST(SimPageModel, ShareableRetainsNothing) {
  Comparison({150, 1, 0, true}, testing::test_seed(4)).run(testing::scaled(kOperations, 5000));
}

}  // namespace
}  // namespace mmkit
