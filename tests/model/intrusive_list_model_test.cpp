// SPDX-License-Identifier: MIT
//
// Random operations that move elements between three lists, against vectors of their indices. Every
// element carries a second node, whose own list must stay as it is throughout.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <mmkit/base/intrusive_list.hpp>
#include <optional>
#include <random>
#include <vector>

#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

struct Moving {};
struct Fixed {};

struct Item : ListNode<Moving>, ListNode<Fixed> {
  std::size_t index = 0;
};

class ListModel {
 public:
  static constexpr std::size_t kItems = 24;
  static constexpr std::size_t kLists = 3;

  explicit ListModel(std::uint64_t seed) : random_(seed) {
    for (std::size_t i = 0; i < kItems; ++i) {
      items_[i].index = i;
      fixed_.push_back(items_[i]);
    }
  }
  ~ListModel() {
    for (IntrusiveList<Item, Moving>& list : lists_) {
      while (list.pop_front() != nullptr) {
      }
    }
    while (fixed_.pop_back() != nullptr) {
    }
  }

  void step() {
    Item& item = items_[below(kItems)];
    if (const std::optional<std::size_t> home = home_of(item.index)) {
      std::vector<std::size_t>& model = models_[*home];
      switch (below(4)) {
        case 0:
          lists_[*home].remove(item);
          std::erase(model, item.index);
          break;
        case 1:
          lists_[*home].move_to_front(item);
          std::erase(model, item.index);
          model.insert(model.begin(), item.index);
          break;
        case 2:
          ASSERT_EQ(lists_[*home].pop_front(), &items_[model.front()]);
          model.erase(model.begin());
          break;
        default:
          ASSERT_EQ(lists_[*home].pop_back(), &items_[model.back()]);
          model.pop_back();
          break;
      }
    } else {
      insert(item, below(kLists));
    }
  }

  void compare() const {
    std::size_t linked = 0;
    for (std::size_t l = 0; l < kLists; ++l) {
      const std::vector<std::size_t>& model = models_[l];
      std::vector<std::size_t> forwards;
      for (const Item* at = lists_[l].front(); at != nullptr; at = lists_[l].next(*at)) {
        forwards.push_back(at->index);
      }
      std::vector<std::size_t> backwards;
      for (const Item* at = lists_[l].back(); at != nullptr; at = lists_[l].prev(*at)) {
        backwards.push_back(at->index);
      }
      std::reverse(backwards.begin(), backwards.end());
      ASSERT_EQ(forwards, model);
      ASSERT_EQ(backwards, model);
      ASSERT_EQ(lists_[l].size(), model.size());
      ASSERT_EQ(lists_[l].empty(), model.empty());
      ASSERT_TRUE(lists_[l].validate(model.size()));
      linked += model.size();
    }
    for (const Item& item : items_) {
      ASSERT_EQ(item.ListNode<Moving>::is_linked(), home_of(item.index).has_value());
    }
    ASSERT_LE(linked, kItems);
    ASSERT_EQ(fixed_.size(), kItems);
    ASSERT_TRUE(fixed_.validate(kItems));
  }

 private:
  std::size_t below(std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_);
  }
  std::optional<std::size_t> home_of(std::size_t index) const {
    for (std::size_t l = 0; l < kLists; ++l) {
      if (std::find(models_[l].begin(), models_[l].end(), index) != models_[l].end()) return l;
    }
    return std::nullopt;
  }
  void insert(Item& item, std::size_t l) {
    std::vector<std::size_t>& model = models_[l];
    switch (below(3)) {
      case 0:
        lists_[l].push_front(item);
        model.insert(model.begin(), item.index);
        break;
      case 1:
        lists_[l].push_back(item);
        model.push_back(item.index);
        break;
      default:
        if (model.empty()) return;
        const std::size_t before = below(model.size());
        lists_[l].insert_after(items_[model[before]], item);
        model.insert(model.begin() + static_cast<std::ptrdiff_t>(before) + 1, item.index);
        break;
    }
  }

  std::array<Item, kItems> items_;
  std::array<IntrusiveList<Item, Moving>, kLists> lists_;
  std::array<std::vector<std::size_t>, kLists> models_;
  IntrusiveList<Item, Fixed> fixed_;
  std::mt19937_64 random_;
};

TEST(IntrusiveListModel, AgreesWithVectorsOfIndices) {
  const std::uint64_t operations = testing::scaled(200'000, 1000);
  ListModel model(testing::test_seed(0));
  for (std::uint64_t i = 0; i < operations; ++i) {
    model.step();
    if (HasFatalFailure()) FAIL() << "operation " << i;
    if (i % 8 != 0) continue;
    model.compare();
    if (HasFatalFailure()) FAIL() << "after operation " << i;
  }
}

}  // namespace
}  // namespace mmkit
