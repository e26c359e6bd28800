// SPDX-License-Identifier: MIT
#include <mmkit/genalloc/device.hpp>

#include <cstring>
#include <mmkit/base/mutex.hpp>
#include <new>
#include <optional>
#include <utility>

namespace mmkit {
namespace {

bool starts_at(const GenPool& pool, std::uint64_t phys) noexcept {
  bool found = false;
  pool.for_each_chunk([&](const GenPoolChunk& chunk) {
    if (chunk.phys && *chunk.phys == phys) found = true;
  });
  return found;
}

}  // namespace

// ---------------------------------------------------------------- devices

struct Device::State {
  // A pool and the next older one of its device.
  struct OwnedPool {
    std::unique_ptr<GenPool> pool;
    std::unique_ptr<OwnedPool> older;
  };

  explicit State(std::string device_name) noexcept : name(std::move(device_name)) {}

  GenPool* find(std::string_view pool_name) const noexcept MMKIT_REQUIRES(mutex) {
    for (const OwnedPool* at = newest.get(); at != nullptr; at = at->older.get()) {
      if (at->pool->name() == pool_name) return at->pool.get();
    }
    return nullptr;
  }

  const std::string name;
  mutable Mutex mutex{LockRank::pool};
  std::unique_ptr<OwnedPool> newest MMKIT_GUARDED_BY(mutex);
  State* next = nullptr;  // of the list of all devices
  State** link = nullptr;

  // Constant-initialised and trivially destroyed: devices may be static.
  static inline constinit Mutex all_mutex{LockRank::live_pools};
  static inline constinit State* all MMKIT_GUARDED_BY(all_mutex) = nullptr;
};

Device::Device(std::string name) : state_(std::make_unique<State>(std::move(name))) {
  const MutexLock lock(State::all_mutex);
  State& state = *state_;
  state.next = State::all;
  state.link = &State::all;
  if (state.next != nullptr) state.next->link = &state.next;
  State::all = &state;
}

Device::~Device() {
  {
    const MutexLock lock(State::all_mutex);
    *state_->link = state_->next;
    if (state_->next != nullptr) state_->next->link = state_->link;
  }
  // One by one: a long list must not end by a deep recursion.
  std::unique_ptr<State::OwnedPool> at;
  {
    const MutexLock lock(state_->mutex);
    at = std::move(state_->newest);
  }
  while (at != nullptr) at = std::move(at->older);
}

std::string_view Device::name() const noexcept {
  return state_->name;
}

Result<GenPool*> Device::create_pool(const GenPoolOptions& options) noexcept {
  Result<std::unique_ptr<GenPool>> pool = GenPool::create(options);
  if (!pool) return fail(pool.error());
  std::unique_ptr<State::OwnedPool> owned(new (std::nothrow) State::OwnedPool);
  if (owned == nullptr) return fail(Errc::out_of_memory);
  owned->pool = *std::move(pool);
  const MutexLock lock(state_->mutex);
  if (state_->find(options.name) != nullptr) return fail(Errc::already_exists);
  owned->older = std::move(state_->newest);
  state_->newest = std::move(owned);
  return state_->newest->pool.get();
}

GenPool* Device::find_pool(std::string_view name) const noexcept {
  const MutexLock lock(state_->mutex);
  return state_->find(name);
}

// ---------------------------------------------------------------- nodes

struct DeviceNode::Phandle {
  std::unique_ptr<char[]> text;
  std::string_view property;
  DeviceNode* target;
  std::unique_ptr<Phandle> next;
};

struct DeviceNode::State {
  std::string name;
  DeviceNode* parent = nullptr;
  Device* device = nullptr;
  std::string label{};
  std::optional<std::uint64_t> reg{};
  std::unique_ptr<Phandle> first{};  // in the order they were added
};

DeviceNode::DeviceNode(std::string name, DeviceNode* parent) : state_(std::make_unique<State>()) {
  state_->name = std::move(name);
  state_->parent = parent;
}

DeviceNode::~DeviceNode() {
  std::unique_ptr<Phandle> at = std::move(state_->first);
  while (at != nullptr) at = std::move(at->next);
}

void DeviceNode::set_device(Device* device) noexcept {
  state_->device = device;
}
void DeviceNode::set_label(std::string label) {
  state_->label = std::move(label);
}
void DeviceNode::set_reg(std::uint64_t phys_start) noexcept {
  state_->reg = phys_start;
}

Status DeviceNode::add_phandle(std::string_view property, DeviceNode& target) noexcept {
  std::unique_ptr<Phandle> phandle(new (std::nothrow) Phandle);
  if (phandle == nullptr) return fail(Errc::out_of_memory);
  phandle->text.reset(new (std::nothrow) char[property.size() + 1]);
  if (phandle->text == nullptr) return fail(Errc::out_of_memory);
  if (!property.empty()) std::memcpy(phandle->text.get(), property.data(), property.size());
  phandle->property = {phandle->text.get(), property.size()};
  phandle->target = &target;
  std::unique_ptr<Phandle>* end = &state_->first;
  while (*end != nullptr) end = &(*end)->next;
  *end = std::move(phandle);
  return {};
}

GenPool* find_pool_by_phandle(const DeviceNode& node, std::string_view property,
                              int index) noexcept {
  if (index < 0) return nullptr;
  const DeviceNode::Phandle* phandle = node.state_->first.get();
  for (; phandle != nullptr; phandle = phandle->next.get()) {
    if (phandle->property == property && index-- == 0) break;
  }
  if (phandle == nullptr) return nullptr;
  const DeviceNode::State& target = *phandle->target->state_;
  const DeviceNode* const parent = target.parent;
  GenPool* found = nullptr;
  if (target.device != nullptr) {
    found = target.device->find_pool();
  } else if (parent != nullptr && parent->state_->device != nullptr) {
    found = parent->state_->device->find_pool(target.label.empty() ? target.name : target.label);
  }
  if (found != nullptr || !target.reg) return found;

  const MutexLock lock(Device::State::all_mutex);
  for (Device::State* device = Device::State::all; device != nullptr; device = device->next) {
    const MutexLock pools(device->mutex);
    for (const Device::State::OwnedPool* at = device->newest.get(); at != nullptr;
         at = at->older.get()) {
      if (starts_at(*at->pool, *target.reg)) return at->pool.get();
    }
  }
  return nullptr;
}

}  // namespace mmkit
