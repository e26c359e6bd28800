// SPDX-License-Identifier: MIT
#include "two_units.hpp"

int second_unit(mmkit::PercpuPtr<long> number, mmkit::PercpuPtr<void*> pointer, void* record) {
  return use_operations(number, pointer, record);
}
