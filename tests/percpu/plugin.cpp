// SPDX-License-Identifier: MIT
//
// A shared object with a mmkit in it, which unload_test.cpp loads and closes. That program has none:
// whatever it does with per-CPU variables it does here.
#include <mmkit/percpu/mode.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/static_percpu.hpp>
#include <mmkit/percpu/this_cpu.hpp>

extern "C" {
const char* plugin_mode_reason();
long* plugin_allocate();
void plugin_free(long* unit0);
void plugin_add(long* unit0, long value);
long plugin_add_return(long* unit0, long value);
long* plugin_hit();
long plugin_sum(const long* unit0);
}

// Not inline: the dynamic linker would keep the object for the sake of a unique name.
static constinit mmkit::StaticPercpu<long> hits;

const char* plugin_mode_reason() {
  return mmkit::percpu_mode_reason().data();  // it ends with a zero
}
long* plugin_allocate() {
  const auto memory = mmkit::PercpuAllocator::instance().allocate(sizeof(long), alignof(long));
  return memory ? mmkit::percpu_cast<long>(*memory).unit0 : nullptr;
}
void plugin_free(long* unit0) {
  mmkit::PercpuAllocator::instance().free(
      mmkit::percpu_cast<std::byte>(mmkit::PercpuPtr<long>{unit0}));
}
void plugin_add(long* unit0, long value) {
  mmkit::this_cpu_add(mmkit::PercpuPtr<long>{unit0}, value);
}
long plugin_add_return(long* unit0, long value) {
  return mmkit::this_cpu_add_return(mmkit::PercpuPtr<long>{unit0}, value);
}
// Counts in a static variable of this object; where its copies are.
long* plugin_hit() {
  mmkit::this_cpu_inc(hits.get());
  return hits.get().unit0;
}
// All copies together.
long plugin_sum(const long* unit0) {
  const unsigned units = mmkit::PercpuAllocator::instance().units();
  long sum = 0;
  for (unsigned cpu = 0; cpu < units; ++cpu) {
    sum += mmkit::per_cpu_read(mmkit::PercpuPtr<const long>{unit0}, cpu);
  }
  return sum;
}
