// SPDX-License-Identifier: MIT
//
// A shared object with sequences of its own, which unload_test.cpp loads and closes. It uses the
// mmkit of the program that loads it.
#include <mmkit/percpu/this_cpu.hpp>

extern "C" {
void plugin_add(long* unit0, long value);
long plugin_add_return(long* unit0, long value);
}

void plugin_add(long* unit0, long value) {
  mmkit::this_cpu_add(mmkit::PercpuPtr<long>{unit0}, value);
}
long plugin_add_return(long* unit0, long value) {
  return mmkit::this_cpu_add_return(mmkit::PercpuPtr<long>{unit0}, value);
}
