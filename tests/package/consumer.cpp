// SPDX-License-Identifier: MIT
//
// Consumer - the least a user of the package writes: store an object, read it back, say so.
#include <cstdio>
#include <cstring>
#include <mmkit/zpool.hpp>
#include <span>
#include <string_view>

int main() {
  constexpr std::string_view kText = "kept in a pool";
  auto pool = mmkit::Zpool::create("zbud", {.name = "consumer"});
  if (!pool) return 1;
  auto handle = (*pool)->store(std::as_bytes(std::span(kText)));
  if (!handle) return 2;
  {
    auto mapping = (*pool)->map(*handle, mmkit::MapMode::read_only);
    const auto bytes = mapping.const_bytes();
    if (bytes.size() < kText.size()) return 3;
    if (std::memcmp(bytes.data(), kText.data(), kText.size()) != 0) return 4;
    std::printf("zbud holds: %.*s\n", static_cast<int>(kText.size()),
                reinterpret_cast<const char*>(bytes.data()));
  }
  (*pool)->free(*handle);
  return 0;
}
