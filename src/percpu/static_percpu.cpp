// SPDX-License-Identifier: MIT
//
// StaticPercpu's first use. Which objects came late is told by their place: the dynamic linker lists
// the objects of a program in the order in which it loaded them, and those there from the start are
// never unloaded. So the late ones are those beyond as many as there were before main.
#include <mmkit/percpu/static_percpu.hpp>

#include <link.h>

#include <cstdint>
#include <mmkit/base/check.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>

namespace mmkit::detail {
namespace {

unsigned objects_at_start = 0;

[[gnu::constructor(101)]] void count_objects() noexcept {
  ::dl_iterate_phdr(
      [](dl_phdr_info*, std::size_t, void*) {
        ++objects_at_start;
        return 0;
      },
      nullptr);
}

bool contains(const dl_phdr_info& object, std::uintptr_t address) noexcept {
  for (unsigned i = 0; i < object.dlpi_phnum; ++i) {
    const auto& segment = object.dlpi_phdr[i];
    if (segment.p_type == PT_LOAD &&
        address - (object.dlpi_addr + segment.p_vaddr) < segment.p_memsz) {
      return true;
    }
  }
  return false;
}

// Whether an address lies in an object that was loaded after the program began.
bool in_late_object(const void* address) noexcept {
  struct Search {
    std::uintptr_t address;
    unsigned index = 0;
    bool late = false;
  } search{reinterpret_cast<std::uintptr_t>(address)};
  ::dl_iterate_phdr(
      [](dl_phdr_info* object, std::size_t, void* data) {
        auto& sought = *static_cast<Search*>(data);
        const unsigned index = sought.index++;
        if (!contains(*object, sought.address)) return 0;
        sought.late = index >= objects_at_start;
        return 1;
      },
      &search);
  return search.late;
}

Result<PercpuPtr<std::byte>> allocate(const void* variable, std::size_t size_bytes,
                                      std::size_t align_bytes) noexcept {
  PercpuAllocator& allocator = PercpuAllocator::instance();
  if (in_late_object(variable)) {
    if (auto memory = allocator.allocate_reserved(size_bytes, align_bytes)) return memory;
  }
  return allocator.allocate(size_bytes, align_bytes);
}

}  // namespace

std::byte* percpu_first_use(std::atomic<std::byte*>& where, std::size_t size_bytes,
                            std::size_t align_bytes) noexcept {
  const Result<PercpuPtr<std::byte>> memory = allocate(&where, size_bytes, align_bytes);
  if (!memory) {
    report_failure({"percpu", {}, "no memory for a static per-CPU variable", size_bytes});
  }
  std::byte* first = nullptr;
  // Release: pairs with the acquire in get(). Acquire: as there, of whoever was first.
  if (MMKIT_MUTATE(MMKIT_MUTANT_static_percpu_last_wins,
                   where.compare_exchange_strong(first, memory->unit0, std::memory_order_acq_rel,
                                                 std::memory_order_acquire),
                   (hold_window_open(), where.store(memory->unit0), true))) {
    return memory->unit0;
  }
  PercpuAllocator::instance().free(*memory);
  return first;
}

}  // namespace mmkit::detail
