// SPDX-License-Identifier: MIT
//
// Device - owns the pools made for it, found by name, or by a reference in a device tree.
//
//   node "camera"  --property "sram", index 1-->  node "sram@f0"  --device--> Device --> pools
//                                                      | parent
//                                                      v
//                                                 node "soc"      --device--> Device --> pools
//
// Locking:    one mutex a device (rank pool) and one for the list of devices (rank live_pools)
// Complexity: O(pools of the device); by reg O(pools and chunks of the process)
#pragma once

#include <cstdint>
#include <memory>
#include <mmkit/base/result.hpp>
#include <mmkit/genalloc/gen_pool.hpp>
#include <string>
#include <string_view>

namespace mmkit {

/// Owns pools; they end with it. Thread safety: every function is safe, but not against destruction.
class Device {
 public:
  explicit Device(std::string name);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device();

  std::string_view name() const noexcept;
  /// Makes a pool; it belongs to the device. Errors: already_exists (a pool of that name, or a
  /// second one without), and those of GenPool::create().
  Result<GenPool*> create_pool(const GenPoolOptions& options) noexcept;
  /// The pool of that name, nullptr when there is none; an empty name is that of the unnamed pool.
  GenPool* find_pool(std::string_view name = {}) const noexcept;

 private:
  friend GenPool* find_pool_by_phandle(const class DeviceNode& node, std::string_view property,
                                       int index) noexcept;
  struct State;
  std::unique_ptr<State> state_;
};

/// A node of a device tree: enough to resolve a reference to a pool. Its parent, the targets of its
/// references and its device outlive it. Thread safety: caller serialises changes; lookups are safe
/// beside each other.
class DeviceNode {
 public:
  explicit DeviceNode(std::string name, DeviceNode* parent = nullptr);
  DeviceNode(const DeviceNode&) = delete;
  DeviceNode& operator=(const DeviceNode&) = delete;
  ~DeviceNode();

  /// The device that stands behind the node; nullptr for none.
  void set_device(Device* device) noexcept;
  /// The name its pool has in the parent's device; without it, that is the node's own name.
  void set_label(std::string label);
  /// The physical address where the node's range starts.
  void set_reg(std::uint64_t phys_start) noexcept;
  /// Appends a reference to a property. Errors: out_of_memory.
  Status add_phandle(std::string_view property, DeviceNode& target) noexcept;

 private:
  friend GenPool* find_pool_by_phandle(const DeviceNode& node, std::string_view property,
                                       int index) noexcept;
  struct Phandle;
  struct State;
  std::unique_ptr<State> state_;
};

/// The pool that reference number `index` of a property means, nullptr for none: if its target has a
/// device, that device's unnamed pool; else, in the parent's device, the pool named by the target's
/// label or, without one, by its name. If there is none: the pool of any device that has a chunk
/// whose physical address is the target's reg. Thread safety: safe.
GenPool* find_pool_by_phandle(const DeviceNode& node, std::string_view property,
                              int index) noexcept;

}  // namespace mmkit
