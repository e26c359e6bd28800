// SPDX-License-Identifier: MIT
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <cstdio>
#include <mmkit/base/cpu.hpp>

#include "two_units.hpp"

int first_unit(mmkit::PercpuPtr<long> number, mmkit::PercpuPtr<void*> pointer, void* record) {
  return use_operations(number, pointer, record);
}

namespace {

int run(char* unit0) {
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &here);
  if (::sched_setaffinity(0, sizeof here, &here) != 0) return 100;
  const mmkit::PercpuPtr<long> number{reinterpret_cast<long*>(unit0)};
  const mmkit::PercpuPtr<void*> pointer{reinterpret_cast<void**>(unit0 + 8)};
  void* const record = unit0 + 128;
  if (const int wrong = first_unit(number, pointer, record)) return wrong;
  if (const int wrong = second_unit(number, pointer, record)) return 20 + wrong;
  return 0;
}

int wrong = 0;
void* run_in_thread(void* unit0) {
  wrong = run(static_cast<char*>(unit0));
  return nullptr;
}

}  // namespace

int main() {
  const std::size_t bytes = mmkit::possible_cpus() * mmkit::kPercpuUnitStride;
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return 101;
  char* const unit0 = static_cast<char*>(memory);
  pthread_t thread;
  if (::pthread_create(&thread, nullptr, run_in_thread, unit0) != 0) return 102;
  ::pthread_join(thread, nullptr);
  if (wrong == 0) wrong = run(unit0);
  long sum = 0;
  for (unsigned cpu = 0; cpu < mmkit::possible_cpus(); ++cpu) {
    sum += mmkit::per_cpu_read(mmkit::PercpuPtr<long>{reinterpret_cast<long*>(unit0)}, cpu);
  }
  std::printf("%.*s; wrong: %d, sum: %ld\n", static_cast<int>(mmkit::percpu_mode_reason().size()),
              mmkit::percpu_mode_reason().data(), wrong, sum);
  return wrong != 0 ? wrong : sum == 400 ? 0 : 99;
}
