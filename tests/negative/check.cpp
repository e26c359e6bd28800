// SPDX-License-Identifier: MIT
//
// A condition is compiled at every level, also where it is not evaluated; and what cannot move does
// not.
// flags: -DMMKIT_CHECK_LEVEL=0
#include <mmkit/base/bits.hpp>
#include <mmkit/base/check.hpp>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/mutex.hpp>
#include <utility>

struct Item : mmkit::ListNode<> {};
struct NoBool {};

constexpr int positive(int number) {
  MMKIT_CHECK(number > 0);
  MMKIT_ASSERT(number > 0);
  return number;
}
static_assert(positive(1) == 1);
#if WRONG == 1
// expect: (non-constant condition|not an integral constant expression)
static_assert(positive(-1) == -1);
#endif

void conditions([[maybe_unused]] NoBool no_bool) {
#if WRONG == 2
  // expect: (not declared|undeclared)
  MMKIT_ASSERT(no_such_name > 0);
#endif
#if WRONG == 3
  // expect: (not declared|undeclared)
  MMKIT_AUDIT(no_such_name > 0);
#endif
#if WRONG == 4
  // expect: (invalid .?static_cast|cannot convert|no matching conversion)
  MMKIT_AUDIT(no_bool);
#endif
}

void moves(Item& item, mmkit::Mutex& mutex) {
#if WRONG == 5
  // expect: deleted
  Item other(std::move(item));
#endif
#if WRONG == 6
  // expect: deleted
  mmkit::Mutex other(std::move(mutex));
#endif
#if WRONG == 7
  // expect: (no matching|could not convert|cannot convert|no viable)
  mmkit::Mutex unranked;
#endif
#if WRONG == 8
  // expect: (no matching function|constraints not satisfied)
  static_cast<void>(mmkit::align_up(5, 4));  // signed
#endif
  static_cast<void>(item.is_linked());
  static_cast<void>(mutex.rank());
}
