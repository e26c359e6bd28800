// SPDX-License-Identifier: MIT
//
// Zpool parameters - any bytes are the parameters, the type and the limit of a pool.
//
// Lines: parameters, type (zbud where it is empty), limit in bytes. A grammar written anew here, a
// table of each driver's parameters, says what must be taken and what refused. A pool that was made
// must work.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <string>
#include <string_view>
#include <utility>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

mmkit::PageSource& pages() {
  static auto source =
      mmkit::SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  return *source;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}
// Up to 10^6, or anything above it.
std::uint64_t value_of(std::string_view digits) {
  std::uint64_t value = 0;
  for (const char digit : digits) {
    value = value * 10 + static_cast<std::uint64_t>(digit - '0');
    if (value > 1'000'000) return value;
  }
  return value;
}

// What a driver adds to these belongs into this table.
constexpr struct {
  std::string_view type, key;
  bool (*takes)(std::uint64_t value);
} kParameters[] = {
    {"zbud", "reclaim_retries", [](std::uint64_t n) { return n >= 1 && n <= 1'000'000; }},
    {"z3fold", "reclaim_retries", [](std::uint64_t n) { return n >= 1 && n <= 1'000'000; }},
    {"zsmalloc", "chain_pages", [](std::uint64_t n) { return n == 4 || n == 8 || n == 16; }},
    {"zsmalloc", "cache", [](std::uint64_t n) { return n <= 64; }},
};

bool is_parameter(std::string_view type, std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view key = text.substr(0, equals), value = text.substr(equals + 1);
  for (const auto& known : kParameters) {
    if (known.type == type && known.key == key) {
      return is_number(value) && known.takes(value_of(value));
    }
  }
  return false;
}
// Any number of them, separated by commas or spaces; of two with one key, the last counts.
bool are_parameters(std::string_view type, std::string_view text) {
  std::string one;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] != ',' && text[i] != ' ') {
      one += text[i];
    } else if (!one.empty()) {
      if (!is_parameter(type, one)) return false;
      one.clear();
    }
  }
  return true;
}

std::string_view take_line(std::string_view& rest) {
  const std::size_t end = std::min(rest.find('\n'), rest.size());
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return line;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string_view params = take_line(rest);
  const std::string_view type_line = take_line(rest);
  const std::string_view type = type_line.empty() ? "zbud" : type_line;
  const std::string_view limit_line = take_line(rest);

  mmkit::ZpoolOptions options;
  options.name = std::string(limit_line);
  options.pages = &pages();
  options.params = std::string(params);
  if (is_number(limit_line)) options.limit_bytes = value_of(limit_line);
  const bool good_type = mmkit::default_registry().has_pool(type);
  const bool good_limit = options.limit_bytes == 0 || options.limit_bytes >= mmkit::kPageSize;
  auto made = mmkit::Zpool::create(type, std::move(options));
  if (!made) {
    if (!good_limit) {
      require(made.error() == mmkit::Errc::invalid_argument, "a limit below a page is refused");
    } else if (!good_type) {
      require(made.error() == mmkit::Errc::not_found, "an unknown type is not found");
    } else {
      require(made.error() == mmkit::Errc::invalid_argument, "a bad parameter is refused");
      require(!are_parameters(type, params), "a good parameter is taken");
    }
    return 0;
  }
  require(good_limit && good_type && are_parameters(type, params), "only what is good is taken");
  mmkit::Zpool& pool = **made;
  require(pool.name() == limit_line, "a pool has its name");
  const auto handle = pool.allocate(100);
  require(handle.has_value(), "a pool that was made works");
  require(pool.total_bytes() == mmkit::kPageSize, "a first object is in a page");
  pool.free(*handle);
  require(pool.validate().has_value() && pool.total_bytes() == 0, "an empty pool is valid");
  return 0;
}
