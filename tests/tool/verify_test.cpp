// SPDX-License-Identifier: MIT
//
// Aim: the verification finds every kind of damage. Method: objects of each codec are given back
// with one bit turned, for every bit, with bytes missing, and as another object; undamaged they
// pass.
#include "verify.hpp"

#include <vector>

#include "page_hash.hpp"
#include "tool_support.hpp"

namespace mmkit::tool {
namespace {

class VerifyWithCodec : public ::testing::TestWithParam<CodecKind> {
 protected:
  VerifyWithCodec()
      : codec_(make_codec({GetParam(), levels_of(GetParam()).usual})), corpus_(*codec_) {
    corpus_.add(text_page(1));
    corpus_.add(text_page(2));
    corpus_.add(random_page(3));
  }

  Verdict verdict_on(std::size_t index, const std::vector<std::byte>& bytes) const {
    return verify_object(*codec_, corpus_.objects()[index], bytes);
  }
  std::vector<std::byte> bytes_of(std::size_t index) const {
    const std::span<const std::byte> bytes = corpus_.objects()[index].bytes();
    return {bytes.begin(), bytes.end()};
  }

  std::unique_ptr<Codec> codec_;
  Corpus corpus_;
};

TEST_P(VerifyWithCodec, PassesWhatWasStored) {
  ASSERT_EQ(corpus_.objects().size(), 3U);
  for (std::size_t index = 0; index < 3; ++index) {
    EXPECT_EQ(verdict_on(index, bytes_of(index)), Verdict::same) << "object " << index;
  }
}

TEST_P(VerifyWithCodec, FailsWhenAnyBitIsTurned) {
  for (std::size_t index = 0; index < 3; ++index) {
    std::vector<std::byte> bytes = bytes_of(index);
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      const std::byte mask = std::byte(1U << (bit % 8));
      bytes[bit / 8] ^= mask;
      EXPECT_NE(verdict_on(index, bytes), Verdict::same) << "object " << index << " bit " << bit;
      bytes[bit / 8] ^= mask;
    }
    EXPECT_EQ(verdict_on(index, bytes), Verdict::same);
  }
}

TEST_P(VerifyWithCodec, FailsWhenBytesAreMissing) {
  for (std::size_t index = 0; index < 3; ++index) {
    std::vector<std::byte> bytes = bytes_of(index);
    bytes.pop_back();
    EXPECT_EQ(verdict_on(index, bytes), Verdict::does_not_decode);
  }
}

TEST_P(VerifyWithCodec, FailsWhenARawPageIsAnother) {
  const Page other = random_page(4);
  EXPECT_EQ(verdict_on(2, {other.begin(), other.end()}), Verdict::page_differs);
}

TEST_P(VerifyWithCodec, FailsWhenOtherBytesDecompressToTheSamePage) {
  // The hash alone would pass this: the original page, but not the object that was stored.
  Corpus other(*codec_);
  const Page page = text_page(1);
  other.add(page);
  StoredObject object = other.objects()[0];
  std::vector<std::byte> kept(object.bytes().begin(), object.bytes().end());
  const std::vector<std::byte> given = kept;
  kept[0] ^= std::byte{1};
  object.data = kept.data();
  EXPECT_EQ(verify_object(*codec_, object, given), Verdict::object_differs);
}

INSTANTIATE_TEST_SUITE_P(Codecs, VerifyWithCodec,
                         ::testing::Values(CodecKind::lz4, CodecKind::zstd),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST(PageHash, DiffersWheneverOneWordDiffers) {
  const Page page = text_page(7);
  const std::uint64_t hash = page_hash(page);
  for (std::size_t bit = 0; bit < 8 * kPageSize; ++bit) {
    Page other = page;
    other[bit / 8] ^= std::byte(1U << (bit % 8));
    EXPECT_NE(page_hash(other), hash) << "bit " << bit;
  }
}

TEST(PageHash, DiffersWhenTwoWordsChangePlaces) {
  const Page page = random_page(8);
  for (std::size_t word = 1; word < kPageSize / 8; ++word) {
    Page other = page;
    std::swap_ranges(other.begin(), other.begin() + 8,
                     other.begin() + static_cast<std::ptrdiff_t>(8 * word));
    EXPECT_NE(page_hash(other), page_hash(page)) << "word " << word;
  }
}

}  // namespace
}  // namespace mmkit::tool
