// SPDX-License-Identifier: MIT
//
// What instruction_count_test.py disassembles. Each function is named for what it runs.
#include <mmkit/percpu/this_cpu.hpp>

using mmkit::PercpuPtr;

extern "C" {
void add_one_in_a_loop(PercpuPtr<long> p, int times);
void add_value(PercpuPtr<long> p, long value);
void add_narrow(PercpuPtr<int> p, int value);
void write_value(PercpuPtr<long> p, long value);
void set_bits(PercpuPtr<unsigned> p, unsigned value);
void keep_bits(PercpuPtr<unsigned long> p, unsigned long value);
long add_and_return(PercpuPtr<long> p, long value);
long exchange(PercpuPtr<long> p, long value);
long compare_and_exchange(PercpuPtr<long> p, long expected, long desired);
bool push_item(void* record, void* item);
void* pop_item(void* record);
}

void add_one_in_a_loop(PercpuPtr<long> p, int times) {
  for (int i = 0; i < times; ++i) this_cpu_add(p, 1);
}
void add_value(PercpuPtr<long> p, long value) {
  this_cpu_add(p, value);
}
void add_narrow(PercpuPtr<int> p, int value) {
  this_cpu_add(p, value);
}
void write_value(PercpuPtr<long> p, long value) {
  this_cpu_write(p, value);
}
void set_bits(PercpuPtr<unsigned> p, unsigned value) {
  this_cpu_or(p, value);
}
void keep_bits(PercpuPtr<unsigned long> p, unsigned long value) {
  this_cpu_and(p, value);
}
long add_and_return(PercpuPtr<long> p, long value) {
  return this_cpu_add_return(p, value);
}
long exchange(PercpuPtr<long> p, long value) {
  return this_cpu_xchg(p, value);
}
long compare_and_exchange(PercpuPtr<long> p, long expected, long desired) {
  return this_cpu_cmpxchg(p, expected, desired);
}
bool push_item(void* record, void* item) {
  return mmkit::detail::stack_push<mmkit::kPercpuUnitStride>(record, 64, item, 32);
}
void* pop_item(void* record) {
  return mmkit::detail::stack_pop<mmkit::kPercpuUnitStride>(record, 64);
}

// Belongs to a group, with its sequences.
inline void count(PercpuPtr<long> p) {
  this_cpu_add(p, 1);
  this_cpu_xchg(p, this_cpu_add_return(p, 1));
}

int main(int argc, char**) {
  if (argc > 1) count({});
}
