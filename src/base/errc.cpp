// SPDX-License-Identifier: MIT
#include <mmkit/base/errc.hpp>
#include <string>

namespace mmkit {
namespace {

class ErrcCategory final : public std::error_category {
 public:
  constexpr ErrcCategory() noexcept = default;
  const char* name() const noexcept override { return "mmkit"; }
  std::string message(int value) const override {
    return std::string(mmkit::name(static_cast<Errc>(value)));
  }
  // The numbers are errno's, so a code compares equal to the std::errc of its number.
  std::error_condition default_error_condition(int value) const noexcept override {
    return {value, std::generic_category()};
  }
};

// Never destroyed: an object of static life may still compare codes at exit. Not made by new
// either: a code must be had when there is no memory.
union LastingCategory {
  constexpr LastingCategory() noexcept : category() {}
  ~LastingCategory() {}
  ErrcCategory category;
};
constinit LastingCategory lasting;

}  // namespace

std::string_view name(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_argument:
      return "invalid_argument";
    case Errc::out_of_memory:
      return "out_of_memory";
    case Errc::no_space:
      return "no_space";
    case Errc::busy:
      return "busy";
    case Errc::try_again:
      return "try_again";
    case Errc::not_found:
      return "not_found";
    case Errc::already_exists:
      return "already_exists";
    case Errc::not_supported:
      return "not_supported";
    case Errc::out_of_range:
      return "out_of_range";
    case Errc::not_permitted:
      return "not_permitted";
    case Errc::bad_format:
      return "bad_format";
    case Errc::io_error:
      return "io_error";
  }
  return "unknown";
}

std::error_code make_error_code(Errc code) noexcept {
  return {static_cast<int>(code), lasting.category};
}

}  // namespace mmkit
