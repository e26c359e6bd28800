// SPDX-License-Identifier: MIT
//
// Goes by every probe, and touches what it must not when it is asked to.
//
//   annotated            opens, closes, compacts, evicts, adds and removes; nothing is wrong
//   annotated gen_pool   reads a range that was given back to a pool of kind host
//   annotated page       reads a page that was given back
#include <array>
#include <cstdio>
#include <cstring>
#include <mmkit/mmkit.hpp>
#include <string_view>
#include <vector>

using namespace mmkit;

namespace {

// What the compiler cannot leave out.
int read_byte(const void* address) {
  volatile const char* const byte = static_cast<const char*>(address);
  return *byte + 1;
}

bool use_pool(const char* type) {
  ZpoolOptions options{.name = type};
  options.evict = [](Zpool& pool, Handle handle) { return pool.try_free(handle); };
  auto pool = Zpool::create(type, std::move(options));
  if (!pool) return false;
  std::vector<Handle> handles;
  for (int i = 0; i < 400; ++i) {
    const std::array<std::byte, 900> object{};
    const Result<Handle> handle = (*pool)->store(object);
    if (!handle) return false;
    handles.push_back(*handle);
  }
  for (std::size_t i = 0; i < handles.size(); i += 2) (*pool)->free(handles[i]);
  if (!(*pool)->compact() || (*pool)->shrink(4).reclaimed_pages == 0) return false;
  for (std::size_t i = 1; i < handles.size(); i += 2)
    static_cast<void>((*pool)->try_free(handles[i]));
  return true;
}

bool use_percpu() {
  const auto allocator = PercpuAllocator::create();
  if (!allocator) return false;
  std::vector<PercpuPtr<std::byte>> all;
  for (int i = 0; i < 8; ++i) {
    const auto one = (*allocator)->allocate(kPercpuMaxBytes, 8);
    if (!one) return false;
    all.push_back(*one);
  }
  for (const auto one : all) (*allocator)->free(one);
  (*allocator)->balance();
  return true;
}

alignas(64) std::array<char, 4096> memory;

bool use_gen_pool(bool reads_what_is_free) {
  const auto pool = GenPool::create({.min_alloc_order = 4, .kind = AddressKind::host});
  const auto start = reinterpret_cast<std::uintptr_t>(memory.data());
  if (!pool || !(*pool)->add_chunk({.start = start, .size_bytes = memory.size()})) return false;
  const Result<std::uintptr_t> range = (*pool)->allocate(100);
  if (!range) return false;
  std::memset(reinterpret_cast<void*>(*range), 1, 100);
  if (read_byte(reinterpret_cast<void*>(*range)) != 2) return false;
  (*pool)->free(*range, 100);
  if (reads_what_is_free) std::printf("%d\n", read_byte(reinterpret_cast<void*>(*range)));
  return (*pool)->remove_chunk(start).has_value() && read_byte(memory.data()) != 0;
}

bool use_page(bool reads_what_is_free) {
  const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20});
  if (!source) return false;
  for (int round = 0; round < 2; ++round) {
    const Result<PageRun> run = (*source)->allocate_pages({.pages = 2, .gfp = Gfp::zero});
    if (!run || read_byte(run->data) != 1) return false;
    std::memset(run->data, 7, kPageSize);
    (*source)->free_pages(*run);
    if (reads_what_is_free) std::printf("%d\n", read_byte(run->data));
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view wrong = count > 1 ? arguments[1] : "";
  const bool done = use_pool("zheap") && use_pool("zsmalloc") && use_percpu() &&
                    use_gen_pool(wrong == "gen_pool") && use_page(wrong == "page");
  return done ? 0 : 1;
}
