// SPDX-License-Identifier: MIT
//
// The JSON of a pool: well-formed whatever the pool is called and holds, and true.
#include <mmkit/genalloc/json.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <string>
#include <string_view>

namespace mmkit {
namespace {

std::string json_of(const GenPool& pool) {
  std::string text;
  write_json(pool, [&text](std::string_view part) { text += part; });
  return text;
}

/// A strict reader of JSON that keeps nothing.
class JsonReader {
 public:
  static bool accepts(std::string_view text) {
    JsonReader reader(text);
    return reader.value() && reader.rest_.empty();
  }

 private:
  explicit JsonReader(std::string_view text) : rest_(text) {}

  bool take(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  template <class Item>
  bool list(std::string_view open, std::string_view close, Item item) {
    if (!take(open)) return false;
    if (take(close)) return true;
    do {
      if (!item()) return false;
    } while (take(","));
    return take(close);
  }
  bool value() {
    if (rest_.starts_with('{')) {
      return list("{", "}", [this] { return string() && take(":") && value(); });
    }
    if (rest_.starts_with('[')) return list("[", "]", [this] { return value(); });
    if (rest_.starts_with('"')) return string();
    return take("null") || number();
  }
  bool number() {
    const std::size_t digits = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
    if (digits == 0 || (digits > 1 && rest_[0] == '0')) return false;
    rest_.remove_prefix(digits);
    return true;
  }
  bool string() {
    if (!take("\"")) return false;
    while (!rest_.empty() && rest_[0] != '"') {
      if (rest_[0] < ' ' || rest_[0] > '~') return false;
      const std::size_t length = rest_[0] != '\\' ? 1 : rest_.substr(1, 1) == "u" ? 6 : 2;
      if (length == 2 && rest_.substr(1, 1).find_first_of("\"\\") != 0) return false;
      if (length == 6 && rest_.substr(2, 4).find_first_not_of("0123456789abcdef") != rest_.npos) {
        return false;
      }
      if (length > rest_.size()) return false;
      rest_.remove_prefix(length);
    }
    return take("\"");
  }

  std::string_view rest_;
};

TEST(JsonReader, TellsGoodFromBad) {
  EXPECT_TRUE(JsonReader::accepts(R"({"a":[1,{"b":null},"\u000a\""],"c":{}})"));
  for (const char* const bad :
       {"", "{", "[1,]", "01", "{\"a\"}", "\"\n\"", "[1 2]", "{}x", "\"\\x\""}) {
    EXPECT_FALSE(JsonReader::accepts(bad)) << bad;
  }
}

TEST(GenPoolJson, OfAPoolWithoutChunksHasEmptyLists) {
  const auto pool = GenPool::create().value();
  const std::string text = json_of(*pool);
  EXPECT_TRUE(JsonReader::accepts(text)) << text;
  EXPECT_TRUE(text.starts_with("{\"name\":\"\",\"granule_bytes\":1,")) << text;
  EXPECT_TRUE(text.ends_with("\"chunks\":[],\"free_runs\":[]}")) << text;
}

TEST(GenPoolJson, HoldsWhateverAPoolIsCalled) {
  std::string name;
  for (int byte = 0; byte < 256; ++byte) name += static_cast<char>(byte);
  name += "\",\"injected\":1,\"";
  const auto pool = GenPool::create({.name = name}).value();
  const std::string text = json_of(*pool);
  EXPECT_TRUE(JsonReader::accepts(text)) << text;
  EXPECT_EQ(text.find("\"injected\":1"), std::string::npos);
  EXPECT_NE(text.find("\\u0000\\u0001"), std::string::npos);
}

TEST(GenPoolJson, HoldsTheLargestNumbers) {
  constexpr std::uintptr_t kTop = ~std::uintptr_t{0};
  const auto pool = GenPool::create({.min_alloc_order = 40}).value();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kTop / 2, .phys = ~std::uint64_t{0}}));
  ASSERT_TRUE(pool->add_chunk({.start = kTop, .size_bytes = 1}));
  const std::string text = json_of(*pool);
  EXPECT_TRUE(JsonReader::accepts(text)) << text;
  EXPECT_NE(text.find("\"granule_bytes\":1099511627776,"), std::string::npos);
  EXPECT_NE(text.find("{\"start\":18446744073709551615,\"size_bytes\":1,\"available_bytes\":1,"
                      "\"phys\":null}"),
            std::string::npos);
  EXPECT_NE(text.find("\"phys\":18446744073709551615}"), std::string::npos);
}

TEST(GenPoolJson, IsTrueOfAPoolOfManyRuns) {
  constexpr std::size_t kBlocks = 3000;
  const auto pool = GenPool::create({.min_alloc_order = 2, .name = "holes"}).value();
  ASSERT_TRUE(pool->add_chunk({.start = 0x100, .size_bytes = kBlocks * 8, .phys = 0x40}));
  for (std::size_t i = 0; i < kBlocks; ++i) ASSERT_TRUE(pool->allocate_at(0x100 + 8 * i, 4));
  EXPECT_FALSE(pool->allocate(8));
  const std::string text = json_of(*pool);
  EXPECT_TRUE(JsonReader::accepts(text));
  std::string runs = "\"free_runs\":[";
  for (std::size_t i = 0; i < kBlocks; ++i) {
    runs += (i == 0 ? "[" : ",[") + std::to_string(0x104 + 8 * i) + ",4]";
  }
  EXPECT_TRUE(text.ends_with(runs + "]}"));
  EXPECT_NE(text.find("\"free_runs\":3000,\"allocations\":3000,\"frees\":0,\"failed_no_space\":0,"
                      "\"failed_fragmented\":1,"),
            std::string::npos);
  for (std::size_t i = 0; i < kBlocks; ++i) pool->free(0x100 + 8 * i, 4);
}

}  // namespace
}  // namespace mmkit
