// SPDX-License-Identifier: MIT
//
// Each of two translation units runs the same operations, inlined from the same headers.
#pragma once

#include <cstdint>
#include <mmkit/percpu/this_cpu.hpp>

// Adds 100 to `number` in all, and leaves `pointer` and `record` as they were. 0: all was well.
int first_unit(mmkit::PercpuPtr<long> number, mmkit::PercpuPtr<void*> pointer, void* record);
int second_unit(mmkit::PercpuPtr<long> number, mmkit::PercpuPtr<void*> pointer, void* record);

// For a thread that stays on its CPU.
static inline int use_operations(mmkit::PercpuPtr<long> number, mmkit::PercpuPtr<void*> pointer,
                                 void* record) {
  using namespace mmkit;
  constexpr std::size_t kHead = 64;
  const long before = this_cpu_read(number);
  this_cpu_add(number, 50);
  this_cpu_sub(number, 10);
  this_cpu_inc(number);
  this_cpu_dec(number);
  this_cpu_or(number, 0);
  this_cpu_and(number, -1);
  if (this_cpu_add_return(number, 60) != before + 100) return 1;
  if (this_cpu_xchg(number, 5) != before + 100) return 2;
  if (this_cpu_cmpxchg(number, 6, 7) != 5) return 3;
  if (this_cpu_cmpxchg(number, 5, before) != 5) return 4;
  this_cpu_write(number, before + 100);
  if (this_cpu_xchg(pointer, record) != nullptr) return 5;
  if (this_cpu_cmpxchg(pointer, record, nullptr) != record) return 6;
  if (detail::stack_pop<kPercpuUnitStride>(record, kHead) != nullptr) return 7;
  if (!detail::stack_push<kPercpuUnitStride>(record, kHead, &number, 1)) return 8;
  if (detail::stack_push<kPercpuUnitStride>(record, kHead, &pointer, 1)) return 9;
  if (detail::stack_pop<kPercpuUnitStride>(record, kHead) != &number) return 10;
  if (*this_cpu_ptr(number) != before + 100) return 11;
  constexpr std::size_t kNumbers = 128;  // another stack of the record: no room, then room for one
  if (detail::stack_push_number<kPercpuUnitStride>(record, kNumbers, 5)) return 13;
  const PercpuPtr<std::uint32_t> limit{
      reinterpret_cast<std::uint32_t*>(static_cast<char*>(record) + kNumbers + 4)};
  this_cpu_write(limit, 1);
  if (!detail::stack_push_number<kPercpuUnitStride>(record, kNumbers, 5)) return 14;
  if (detail::stack_push_number<kPercpuUnitStride>(record, kNumbers, 6)) return 15;
  if (detail::stack_pop_number<kPercpuUnitStride>(record, kNumbers) != 5) return 16;
  if (detail::stack_pop_number<kPercpuUnitStride>(record, kNumbers) != 0) return 17;
  this_cpu_write(limit, 0);
#if MMKIT_PERCPU_HAS_RSEQ
  if (percpu_mode() == PercpuMode::rseq) {
    const PercpuPtr<std::uint64_t> pair{
        reinterpret_cast<std::uint64_t*>(static_cast<char*>(record) + 32)};
    const PercpuPtr<std::uint64_t> second{pair.unit0 + 1};
    const std::uint64_t one = this_cpu_read(pair), two = this_cpu_read(second);
    if (!detail::rseq::add_pair<kPercpuUnitStride>(pair.unit0, 3, ~std::uint64_t{0})) return 18;
    if (this_cpu_read(pair) != one + 3 || this_cpu_read(second) != two - 1) return 19;
  }
#endif
  if (*per_cpu_ptr(number, this_cpu_index()) != per_cpu_read(number, this_cpu_index())) return 12;
  return 0;
}
