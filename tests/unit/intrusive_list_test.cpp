// SPDX-License-Identifier: MIT
//
// Each operation at the ends and in the middle. Random sequences over several lists are in
// tests/model/intrusive_list_model_test.cpp.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <initializer_list>
#include <mmkit/base/intrusive_list.hpp>
#include <string>
#include <type_traits>

namespace mmkit {
namespace {

struct ByAge {};
struct BySize {};

struct Item : ListNode<> {
  explicit Item(char letter) noexcept : name(letter) {}
  char name;
};

struct Twofold : ListNode<ByAge>, ListNode<BySize> {
  int number = 0;
};

using Items = IntrusiveList<Item>;

static_assert(!std::is_copy_constructible_v<Items> && !std::is_move_constructible_v<Items>);
static_assert(!std::is_copy_constructible_v<Item> && !std::is_move_constructible_v<Item>);
static_assert(sizeof(Items) == 2 * sizeof(void*));

constinit Items list_of_static_life;

std::string forwards(const Items& list) {
  std::string names;
  for (const Item* at = list.front(); at != nullptr; at = list.next(*at)) names += at->name;
  return names;
}
std::string backwards(const Items& list) {
  std::string names;
  for (const Item* at = list.back(); at != nullptr; at = list.prev(*at)) names += at->name;
  return names;
}

void expect_list(const Items& list, const std::string& names) {
  EXPECT_EQ(forwards(list), names);
  EXPECT_EQ(backwards(list), std::string(names.rbegin(), names.rend()));
  EXPECT_EQ(list.size(), names.size());
  EXPECT_EQ(list.empty(), names.empty());
  EXPECT_TRUE(list.validate(names.size()));
}

class IntrusiveListTest : public ::testing::Test {
 protected:
  void push_back(std::initializer_list<Item*> items) {
    for (Item* item : items) list_.push_back(*item);
  }

  Item a_{'a'};
  Item b_{'b'};
  Item c_{'c'};
  Items list_;
};

TEST_F(IntrusiveListTest, IsEmptyAtFirst) {
  expect_list(list_, "");
  EXPECT_EQ(list_.front(), nullptr);
  EXPECT_EQ(list_.back(), nullptr);
  EXPECT_EQ(list_.pop_front(), nullptr);
  EXPECT_EQ(list_.pop_back(), nullptr);
  EXPECT_FALSE(a_.is_linked());
}

TEST_F(IntrusiveListTest, PushesAtBothEnds) {
  list_.push_back(b_);
  expect_list(list_, "b");
  list_.push_back(c_);
  list_.push_front(a_);
  expect_list(list_, "abc");
  EXPECT_EQ(list_.front(), &a_);
  EXPECT_EQ(list_.back(), &c_);
  EXPECT_TRUE(b_.is_linked());
}

TEST_F(IntrusiveListTest, PopsFromBothEnds) {
  push_back({&a_, &b_, &c_});
  EXPECT_EQ(list_.pop_front(), &a_);
  EXPECT_EQ(list_.pop_back(), &c_);
  expect_list(list_, "b");
  EXPECT_EQ(list_.pop_back(), &b_);
  expect_list(list_, "");
  EXPECT_FALSE(a_.is_linked() || b_.is_linked() || c_.is_linked());
}

TEST_F(IntrusiveListTest, InsertsBehindAnElement) {
  list_.push_back(a_);
  list_.insert_after(a_, c_);
  expect_list(list_, "ac");
  list_.insert_after(a_, b_);
  expect_list(list_, "abc");
}

TEST_F(IntrusiveListTest, RemovesAtTheEndsAndInTheMiddle) {
  push_back({&a_, &b_, &c_});
  list_.remove(b_);
  expect_list(list_, "ac");
  list_.push_back(b_);
  list_.remove(a_);
  expect_list(list_, "cb");
  list_.remove(b_);
  expect_list(list_, "c");
  list_.remove(c_);
  expect_list(list_, "");
}

TEST_F(IntrusiveListTest, MovesAnElementToTheFront) {
  push_back({&a_, &b_, &c_});
  list_.move_to_front(a_);  // is there already
  expect_list(list_, "abc");
  list_.move_to_front(b_);
  expect_list(list_, "bac");
  list_.move_to_front(c_);
  expect_list(list_, "cba");
}

TEST_F(IntrusiveListTest, TakesAnElementThatLeftAnotherList) {
  Items other;
  push_back({&a_, &b_});
  list_.remove(a_);
  other.push_back(a_);
  expect_list(other, "a");
  expect_list(list_, "b");
  other.remove(a_);
}

TEST_F(IntrusiveListTest, ValidatesAgainstALimit) {
  push_back({&a_, &b_, &c_});
  EXPECT_TRUE(list_.validate(3));
  EXPECT_TRUE(list_.validate(100));
  EXPECT_FALSE(list_.validate(2));
  EXPECT_FALSE(list_.validate(0));
}

// Writes over each link of the ring in turn, by memory, as a stray write would.
TEST_F(IntrusiveListTest, ValidatesFalseWhenALinkIsTorn) {
  push_back({&a_, &b_, &c_});
  std::array<void*, 2> links{};
  static_assert(sizeof links == sizeof(ListNode<>) && sizeof links == sizeof list_);
  void* const nodes[] = {&list_, static_cast<ListNode<>*>(&a_), static_cast<ListNode<>*>(&b_),
                         static_cast<ListNode<>*>(&c_)};
  for (void* const place : nodes) {
    std::memcpy(links.data(), place, sizeof links);
    const std::array<void*, 2> whole = links;
    for (std::size_t link = 0; link < 2; ++link) {
      for (void* const wrong :
           {static_cast<void*>(nullptr), nodes[0], nodes[1], nodes[2], nodes[3]}) {
        if (wrong == whole[link]) continue;
        links = whole;
        links[link] = wrong;
        std::memcpy(place, links.data(), sizeof links);
        EXPECT_FALSE(list_.validate(3)) << "link " << link << " of " << place << " to " << wrong;
      }
    }
    std::memcpy(place, whole.data(), sizeof whole);
    expect_list(list_, "abc");
  }
}

TEST(IntrusiveList, HoldsAnElementInTwoListsAtOnce) {
  IntrusiveList<Twofold, ByAge> by_age;
  IntrusiveList<Twofold, BySize> by_size;
  std::array<Twofold, 3> items;
  for (Twofold& item : items) {
    by_age.push_back(item);
    by_size.push_front(item);
  }
  EXPECT_EQ(by_age.front(), &items[0]);
  EXPECT_EQ(by_size.front(), &items[2]);
  EXPECT_EQ(by_age.next(items[0]), &items[1]);
  EXPECT_EQ(by_size.next(items[1]), &items[0]);
  by_age.remove(items[1]);
  EXPECT_FALSE(items[1].ListNode<ByAge>::is_linked());
  EXPECT_TRUE(items[1].ListNode<BySize>::is_linked());
  EXPECT_EQ(by_age.size(), 2u);
  EXPECT_EQ(by_size.size(), 3u);
  while (by_age.pop_front() != nullptr) {
  }
  while (by_size.pop_back() != nullptr) {
  }
}

TEST(IntrusiveList, IsReadyBeforeMain) {
  Item item('s');
  list_of_static_life.push_back(item);
  expect_list(list_of_static_life, "s");
  list_of_static_life.remove(item);
}

}  // namespace
}  // namespace mmkit
