// SPDX-License-Identifier: MIT
#include <mmkit/genalloc/fit.hpp>

#include <bit>
#include <mmkit/base/bits.hpp>

namespace mmkit {

std::size_t BitmapView::next_free_run(std::size_t start_bit, std::size_t run_bits) const noexcept {
  if (run_bits > bits_ || start_bit > bits_ - run_bits) return bits_;
  std::size_t begin = start_bit;  // of the run that is open
  for (std::size_t at = start_bit; at < bits_;) {
    const std::uint64_t rest = word(at / 64) >> (at % 64);
    const std::size_t left = 64 - at % 64;  // bits of the word from `at` on
    if (rest == 0) {
      at += left;
    } else {
      at += static_cast<std::size_t>(std::countr_zero(rest));
      if (at - begin >= run_bits) return begin;
      at += static_cast<std::size_t>(std::countr_one(word(at / 64) >> (at % 64)));
      begin = at;
    }
    if (at - begin >= run_bits) return begin;
  }
  return bits_;
}

}  // namespace mmkit
