// SPDX-License-Identifier: MIT
//
// Each of two translation units runs the same operations, inlined from the same headers.
#pragma once

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
  if (*per_cpu_ptr(number, this_cpu_index()) != per_cpu_read(number, this_cpu_index())) return 12;
  return 0;
}
