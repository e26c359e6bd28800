// SPDX-License-Identifier: MIT
//
// A shared object with sequences of its own, which unload_test.cpp loads and closes. It uses the
// mmkit of the program that loads it.
#include <mmkit/percpu/static_percpu.hpp>
#include <mmkit/percpu/this_cpu.hpp>

extern "C" {
void plugin_add(long* unit0, long value);
long plugin_add_return(long* unit0, long value);
long* plugin_hit();
}

// Not inline: the dynamic linker would keep the object for the sake of a unique name.
static constinit mmkit::StaticPercpu<long> hits;

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
