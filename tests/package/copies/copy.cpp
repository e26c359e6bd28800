// SPDX-License-Identifier: MIT
#include "copy.hpp"

#include <atomic>
#include <cstring>
#include <memory>
#include <mmkit/mmkit.hpp>
#include <span>
#include <string>

namespace {

std::atomic<unsigned> leaks_seen{0};
void note_leak(const mmkit::FailureReport&) noexcept {
  leaks_seen.fetch_add(1, std::memory_order_relaxed);
}

// Refuses to make a pool: that there is a driver of its name is all that is asked.
class NamedDriver final : public mmkit::ZpoolDriver {
 public:
  explicit NamedDriver(const char* type) : type_(type) {}
  std::string_view type() const noexcept override { return type_; }
  mmkit::DriverTraits traits() const noexcept override { return {}; }
  mmkit::Result<std::unique_ptr<mmkit::ZpoolBackend>> create_pool(
      mmkit::BackendEnv&&) const noexcept override {
    return mmkit::fail(mmkit::Errc::not_supported);
  }

 private:
  std::string type_;
};

constexpr std::string_view kText = "an object of one copy, seen by nobody else";

mmkit::Zpool& as_pool(void* pool) {
  return *static_cast<mmkit::Zpool*>(pool);
}
mmkit::PercpuPtr<long> as_count(void* variable) {
  return {static_cast<long*>(variable)};
}

bool register_driver(const char* type) {
  return static_cast<bool>(
      mmkit::default_registry().register_driver(std::make_shared<NamedDriver>(type)));
}
void* make_pool(const char* type) {
  mmkit::set_leak_handler(note_leak);
  auto pool = mmkit::Zpool::create(type, {.name = "copy"});
  return pool ? pool->release() : nullptr;
}
bool store_and_free(void* pool) {
  const auto handle = as_pool(pool).store(std::as_bytes(std::span(kText)));
  if (!handle) return false;
  bool same = false;
  {
    const auto mapping = as_pool(pool).map(*handle, mmkit::MapMode::read_only);
    same = std::memcmp(mapping.const_bytes().data(), kText.data(), kText.size()) == 0;
  }
  as_pool(pool).free(*handle);
  return same;
}
void* make_count() {
  const auto variable = mmkit::PercpuAllocator::instance().allocate(sizeof(long), alignof(long));
  return variable ? variable->unit0 : nullptr;
}

}  // namespace

extern "C" [[gnu::visibility("default")]] const Copy copy_of_mmkit = {
    .mode_reason = [] { return mmkit::percpu_mode_reason().data(); },  // it ends with a zero
    .register_driver = register_driver,
    .knows_driver = [](const char* type) { return mmkit::default_registry().has_pool(type); },
    .leaks = [] { return leaks_seen.load(std::memory_order_relaxed); },
    .make_pool = make_pool,
    .store_and_free = store_and_free,
    .store_and_forget =
        [](void* pool) { return as_pool(pool).store(std::as_bytes(std::span(kText))).has_value(); },
    .end_pool = [](void* pool) { delete &as_pool(pool); },
    .make_count = make_count,
    .count = [](void* variable) { mmkit::this_cpu_inc(as_count(variable)); },
    .sum =
        [](void* variable) {
          return mmkit::percpu_sum(as_count(variable), mmkit::PercpuAllocator::instance().units());
        },
};
