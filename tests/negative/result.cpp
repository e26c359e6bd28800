// SPDX-License-Identifier: MIT
//
// A Result may not be ignored, nor taken for what it is not.
// flags: -Werror=unused-result
#include <memory>
#include <mmkit/base/result.hpp>
#include <utility>

using mmkit::Errc;
using mmkit::fail;
using mmkit::Result;
using mmkit::Status;

Result<int> make_number();
Status make_nothing();
Result<std::unique_ptr<int>> make_pointer();
struct Maker {
  Result<int> operator()() const;
  static Status make();
};
bool flag();
int number();

int uses() {
  // Each looked at, or given up by name.
  const Result<int> kept = make_number();
  static_cast<void>(make_nothing());
  if (!make_pointer()) return 0;
#if WRONG == 1
  // expect: ignoring return(ed)? value
  make_number();
#endif
#if WRONG == 2
  // expect: ignoring return(ed)? value
  make_nothing();
#endif
#if WRONG == 3
  // expect: ignoring return(ed)? value
  make_pointer();
#endif
#if WRONG == 4
  // expect: ignoring return(ed)? value
  Maker{}();
#endif
#if WRONG == 5
  // expect: ignoring return(ed)? value
  Maker::make();
#endif
#if WRONG == 6
  // expect: ignoring return(ed)? value
  if (flag()) make_nothing();
#endif
  return kept ? *kept : 0;
}

// Conversions that would hide a mistake.
int conversions() {
  const Result<int> result = make_number();
#if WRONG == 7
  // expect: (cannot convert|no viable conversion|could not convert)
  const bool good = result;
#endif
#if WRONG == 8
  // expect: (cannot convert|no viable conversion|could not convert|conversion from)
  const Result<int> bare_code = Errc::busy;
#endif
#if WRONG == 9
  // expect: (cannot convert|no viable conversion|could not convert|conversion from)
  const Status bare_status = Errc::busy;
#endif
#if WRONG == 10
  // expect: (no matching function|no matching constructor|no default constructor|no viable)
  const Result<int> neither;
#endif
#if WRONG == 11
  // expect: (cannot convert|no viable conversion|could not convert)
  const int value = result;
#endif
#if WRONG == 12
  // expect: (deleted|implicitly-deleted)
  const Result<std::unique_ptr<int>> one = make_pointer();
  const Result<std::unique_ptr<int>> two = one;
#endif
  return result ? number() : 0;
}
