// SPDX-License-Identifier: MIT
//
// Codec, same-filled pages and the corpus made of both.
#include "corpus.hpp"

#include <cstring>

#include "exit_code.hpp"
#include "same_filled.hpp"
#include "tool_support.hpp"
#include "trial.hpp"

namespace mmkit::tool {
namespace {

Page filled_page(std::uint64_t word) {
  Page page;
  for (std::size_t at = 0; at < kPageSize; at += sizeof word) {
    std::memcpy(page.data() + at, &word, sizeof word);
  }
  return page;
}

TEST(SameFilled, TellsTheKindsApart) {
  EXPECT_EQ(fill_of(filled_page(0)), Fill::zero);
  EXPECT_EQ(fill_of(filled_page(0x4141414141414141)), Fill::repeated_byte);
  EXPECT_EQ(fill_of(filled_page(0xffffffffffffffff)), Fill::repeated_byte);
  EXPECT_EQ(fill_of(filled_page(1)), Fill::repeated_word);
  EXPECT_EQ(fill_of(filled_page(0x0123456789abcdef)), Fill::repeated_word);
  EXPECT_EQ(fill_of(text_page(1)), Fill::mixed);
}

TEST(SameFilled, SeesOneOtherByteAnywhere) {
  for (const std::uint64_t word : {std::uint64_t{0}, std::uint64_t{0x4141414141414141}}) {
    for (std::size_t at = 0; at < kPageSize; ++at) {
      Page page = filled_page(word);
      page[at] ^= std::byte{0x80};
      EXPECT_EQ(fill_of(page), Fill::mixed) << "byte " << at;
    }
  }
}

TEST(SameFilled, DoesNotTakeALongerPatternForAWord) {
  Page page;
  for (std::size_t at = 0; at < kPageSize; ++at) page[at] = std::byte(at % 16);
  EXPECT_EQ(fill_of(page), Fill::mixed);
}

TEST(Codec, GivesEveryPageBackAtEveryLevel) {
  for (const CodecKind kind : {CodecKind::lz4, CodecKind::zstd}) {
    const LevelRange levels = levels_of(kind);
    for (int level = std::max(levels.lowest, -5); level <= levels.highest; ++level) {
      const std::unique_ptr<Codec> codec = make_codec({kind, level});
      for (const Page& page : {text_page(1), random_page(2), filled_page(0), filled_page(77)}) {
        CodecBuffer buffer;
        Page again{};
        const std::span<const std::byte> object = codec->encode(page, buffer);
        EXPECT_GE(object.size(), 1U);
        EXPECT_LE(object.size(), kPageSize);
        ASSERT_TRUE(codec->decode(object, again)) << codec->name() << " level " << level;
        EXPECT_EQ(again, page) << codec->name() << " level " << level;
      }
    }
  }
}

TEST(Codec, KeepsAnIncompressiblePageRaw) {
  for (const CodecKind kind : {CodecKind::lz4, CodecKind::zstd}) {
    const std::unique_ptr<Codec> codec = make_codec({kind, levels_of(kind).usual});
    const Page page = random_page(5);
    CodecBuffer buffer;
    const std::span<const std::byte> object = codec->encode(page, buffer);
    ASSERT_EQ(object.size(), kPageSize);
    EXPECT_EQ(std::memcmp(object.data(), page.data(), kPageSize), 0);
  }
}

TEST(Codec, RefusesNoise) {
  std::size_t refused = 0;
  for (const CodecKind kind : {CodecKind::lz4, CodecKind::zstd}) {
    const std::unique_ptr<Codec> codec = make_codec({kind, levels_of(kind).usual});
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      const Page noise = random_page(seed);
      Page page{};
      if (!codec->decode(std::span(noise).first(1 + seed * 20), page)) ++refused;
    }
  }
  // Noise decompresses to exactly one page about never.
  EXPECT_GE(refused, 399U);
}

TEST(Codec, NamesALevelThatItDoesNotHave) {
  try {
    make_codec({CodecKind::lz4, 13});
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code(), ExitCode::usage);
    EXPECT_STREQ(problem.what(), "lz4 has no level 13; its levels are 1 to 12");
  }
}

TEST(Corpus, CountsEachPageOnce) {
  const std::unique_ptr<Codec> codec = make_codec({});
  Corpus corpus(*codec);
  corpus.add(filled_page(0));
  corpus.add(filled_page(0x4141414141414141));
  corpus.add(filled_page(3));
  corpus.add(text_page(1));
  corpus.add(random_page(2));
  corpus.add(filled_page(0));
  const CorpusFigures& figures = corpus.figures();
  EXPECT_EQ(figures.pages, 6U);
  EXPECT_EQ(figures.zero_pages, 2U);
  EXPECT_EQ(figures.repeated_byte_pages, 1U);
  EXPECT_EQ(figures.repeated_word_pages, 1U);
  EXPECT_EQ(figures.raw_objects, 1U);
  ASSERT_EQ(corpus.objects().size(), 2U);
  EXPECT_EQ(corpus.objects()[0].page, 3U);
  EXPECT_EQ(corpus.objects()[1].page, 4U);
  EXPECT_EQ(figures.object_bytes,
            std::uint64_t{corpus.objects()[0].size_bytes} + corpus.objects()[1].size_bytes);
}

constexpr CodecCost kCost{5000, 1000};

TEST(TrialPlan, LoadsEachObjectOnceInAnOrderOfTheSeed) {
  const std::unique_ptr<Codec> codec = make_codec({});
  Corpus corpus(*codec);
  for (std::uint64_t seed = 0; seed < 1000; ++seed) corpus.add(text_page(seed));
  const TrialPlan plan = plan_trial(corpus, kCost, 1);
  std::vector<std::uint32_t> sorted = plan.load_order;
  std::sort(sorted.begin(), sorted.end());
  ASSERT_EQ(sorted.size(), 1000U);
  for (std::uint32_t index = 0; index < 1000; ++index) EXPECT_EQ(sorted[index], index);
  EXPECT_NE(sorted, plan.load_order);
  EXPECT_EQ(plan_trial(corpus, kCost, 1).load_order, plan.load_order);
  EXPECT_NE(plan_trial(corpus, kCost, 2).load_order, plan.load_order);
  EXPECT_EQ(plan.rounds % 2, 1U);
  EXPECT_GE(plan.rounds, plan.codec_rounds);
}

TEST(TrialPlan, TakesASmallerSampleForASlowCodec) {
  const std::unique_ptr<Codec> codec = make_codec({});
  Corpus corpus(*codec);
  for (std::uint64_t seed = 0; seed < 1000; ++seed) corpus.add(text_page(seed));
  EXPECT_EQ(plan_trial(corpus, kCost, 1).sample.size(), 1000U);
  const TrialPlan slow = plan_trial(corpus, {2e6, 1e5}, 1);
  EXPECT_EQ(slow.sample.size(), 285U);  // 0.6 s / 2.1 ms
  EXPECT_EQ(slow.codec_rounds, 1U);
  EXPECT_EQ(plan_trial(corpus, {1e9, 0}, 1).sample.size(), 256U);
}

TEST(MeasureCodec, SeesThatBothWaysTakeTime) {
  const std::unique_ptr<Codec> codec = make_codec({});
  Corpus corpus(*codec);
  for (std::uint64_t seed = 0; seed < 1000; ++seed) corpus.add(text_page(seed));
  CapturedConsole captured;
  const CodecCost cost = measure_codec(corpus, spread(1000, 500), captured.console());
  EXPECT_GT(cost.compress_ns, 0);
  EXPECT_GT(cost.decompress_ns, 0);
  EXPECT_EQ(measure_codec(corpus, {}, captured.console()).compress_ns, 0);
}

TEST(Spread, TakesEvenlyAndNoPlaceTwice) {
  EXPECT_EQ(spread(10, 5), (std::vector<std::uint32_t>{0, 2, 4, 6, 8}));
  EXPECT_EQ(spread(3, 10), (std::vector<std::uint32_t>{0, 1, 2}));
  EXPECT_TRUE(spread(0, 10).empty());
}

TEST(TrialPlan, OfNothingHasNothingToDo) {
  const std::unique_ptr<Codec> codec = make_codec({});
  Corpus corpus(*codec);
  const TrialPlan plan = plan_trial(corpus, kCost, 1);
  EXPECT_TRUE(plan.load_order.empty());
  EXPECT_TRUE(plan.sample.empty());
}

TEST(Median, IsTheMiddle) {
  EXPECT_EQ(median_of({}), std::nullopt);
  EXPECT_EQ(median_of({7}), 7);
  EXPECT_EQ(median_of({9, 1, 5}), 5);
  EXPECT_EQ(median_of({4, 1, 2, 100}), 3);
}

}  // namespace
}  // namespace mmkit::tool
