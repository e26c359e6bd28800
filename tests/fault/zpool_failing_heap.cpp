// SPDX-License-Identifier: MIT
#include "fault/zpool_failing_heap.hpp"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace mmkit::testing {
namespace {

struct Plan {
  std::uint64_t left = 0;  // allocations until the one that fails; 0 fails none
  bool for_ever = false;
  std::uint64_t failed = 0;
};
constinit thread_local Plan plan;
// Sequentially consistent: this is no place to save.
constinit std::atomic<std::size_t> blocks{0}, bytes{0};

bool fails() noexcept {
  if (plan.left == 0) return false;
  if (plan.left > 1) {
    --plan.left;
    return false;
  }
  if (!plan.for_ever) plan.left = 0;
  ++plan.failed;
  return true;
}

void* allocate(std::size_t size, std::size_t align) {
  // Cannot throw from a no-throw form: those catch.
  if (fails()) throw std::bad_alloc();
  const std::size_t rounded = (size + align - 1) / align * align;
  void* block = align <= alignof(std::max_align_t) ? std::malloc(size == 0 ? 1 : size)
                                                   : std::aligned_alloc(align, rounded);
  if (block == nullptr) throw std::bad_alloc();
  ++blocks;
  bytes += ::malloc_usable_size(block);
  return block;
}

void release(void* block) noexcept {
  if (block == nullptr) return;
  --blocks;
  bytes -= ::malloc_usable_size(block);
  std::free(block);
}

}  // namespace

void FailingHeap::fail_nth(std::uint64_t n, Failing how) noexcept {
  plan = {n, how == Failing::for_ever, 0};
}
void FailingHeap::succeed() noexcept {
  plan.left = 0;
}
std::uint64_t FailingHeap::failed() noexcept {
  return plan.failed;
}
std::size_t FailingHeap::live_blocks() noexcept {
  return blocks;
}
std::size_t FailingHeap::live_bytes() noexcept {
  return bytes;
}

}  // namespace mmkit::testing

// The forms that are not here call one that is: the library's nothrow forms by way of
// page_failing_system.cpp.
void* operator new(std::size_t size) {
  return mmkit::testing::allocate(size, 1);
}
void* operator new[](std::size_t size) {
  return mmkit::testing::allocate(size, 1);
}
void* operator new(std::size_t size, std::align_val_t align) {
  return mmkit::testing::allocate(size, static_cast<std::size_t>(align));
}
void operator delete(void* block) noexcept {
  mmkit::testing::release(block);
}
void operator delete[](void* block) noexcept {
  mmkit::testing::release(block);
}
void operator delete(void* block, std::size_t) noexcept {
  mmkit::testing::release(block);
}
void operator delete[](void* block, std::size_t) noexcept {
  mmkit::testing::release(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
  mmkit::testing::release(block);
}
void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
  mmkit::testing::release(block);
}
