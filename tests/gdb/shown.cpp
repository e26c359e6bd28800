// SPDX-License-Identifier: MIT
//
// Objects for a debugger to look at: printers_test.py stops in look() and prints them.
#include <cstdio>
#include <cstring>
#include <memory>
#include <mmkit/mmkit.hpp>
#include <mmkit/zpool/zheap.hpp>

using namespace mmkit;

struct Pair {
  int first, second;
};

// The debugger stops here; everything shown is the caller's.
[[gnu::noinline]] void look() {
  asm volatile("" ::: "memory");
}

int main() {
  const Status ok;
  const Status busy = fail(Errc::busy);
  const Result<int> number = 42;
  const Result<int> none = fail(Errc::no_space);
  const Result<Pair> pair = Pair{1, 2};
  const Result<std::unique_ptr<int>> owned = std::make_unique<int>(7);
  const Result<std::unique_ptr<int>> not_owned = fail(Errc::not_found);
  const Handle no_handle = Handle::none;
  const Handle handle = handle_bits::make(3, 2, 77);

  auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{16} << 20}).value();
  std::unique_ptr<Zpool> pools[4];
  const char* const types[] = {"zbud", "z3fold", "zsmalloc", "zheap"};
  for (int i = 0; i < 4; ++i) {
    pools[i] = Zpool::create(types[i], {.name = "shown",
                                        .pages = source.get(),
                                        .limit_bytes = i == 0 ? 40 * kPageSize : 0})
                   .value();
    // One goes again: what is counted is what lives.
    Handle last = Handle::none;
    for (int object = 0; object < 11; ++object) last = pools[i]->allocate(1500).value();
    pools[i]->free(last);
  }
  const Zpool& zbud = *pools[0];
  const Zpool& z3fold = *pools[1];
  const Zpool& zsmalloc = *pools[2];
  const Zpool& zheap = *pools[3];

  const auto gen_pool = GenPool::create({.min_alloc_order = 4, .name = "ranges"}).value();
  for (std::uintptr_t i = 1; i <= 10; ++i) {
    if (!gen_pool->add_chunk({.start = i * 0x10000, .size_bytes = 0x1000})) return 1;
  }
  if (!gen_pool->allocate(100)) return 1;
  const GenPool& ranges = *gen_pool;
  const auto empty_pool = GenPool::create().value();
  const GenPool& no_ranges = *empty_pool;

  auto per_cpu = Percpu<long>::create().value();
  per_cpu.for_each([](unsigned cpu, long& copy) { copy = 100 + cpu; });
  const PercpuPtr<long> copies = per_cpu.get();
  const PercpuPtr<long> no_copies;

  alignas(64) unsigned char junk[sizeof(ZheapPool)];
  std::memset(junk, 0x11, sizeof junk);

  look();

  // Used, so that nothing above is left out.
  std::printf("%d %d %d %d %d %d %d %d %d %d %d\n", ok.has_value(), busy.has_value(),
              number.has_value(), none.has_value(), pair.has_value(), owned.has_value(),
              not_owned.has_value(), no_handle == handle, static_cast<bool>(copies),
              static_cast<bool>(no_copies), &ranges == &no_ranges && junk[0] == 0);
  std::printf("%zu\n", zbud.total_bytes() + z3fold.total_bytes() + zsmalloc.total_bytes() +
                           zheap.total_bytes());
  return 0;
}
