// SPDX-License-Identifier: MIT
//
// DMA pools by device - a codec and a network card find their memory through the device tree, and
// hand physical addresses to an engine that knows no others.
//
//   soc ----- device "soc": pools "sram" and "descriptors", each with a physical address
//    +- bank@f8000000   label "sram"          the codec's reference 0
//    +- descriptors                           the codec's reference 1, by its name
//   window@fa000000     a device of its own   the card's reference, its unnamed pool
//   mailbox@fa004000    reg alone             found by the chunk that starts there
//
// The memory is this program's own, so that the zeroing forms may be used and the engine can be made
// up: it turns physical addresses back by a table of windows, as a bus does.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mmkit/genalloc.hpp>

namespace {

constexpr std::size_t kWindowBytes = 16 * 1024;
constexpr std::uint64_t kSramPhys = 0xf8000000, kDescriptorPhys = 0xf9000000;
constexpr std::uint64_t kCardPhys = 0xfa000000, kMailboxPhys = 0xfa004000;

struct Window {
  std::uint64_t phys;
  std::byte* memory;
};
alignas(4096) std::array<std::byte, 4 * kWindowBytes> memory;
const Window windows[] = {{kSramPhys, &memory[0]},
                          {kDescriptorPhys, &memory[kWindowBytes]},
                          {kCardPhys, &memory[2 * kWindowBytes]},
                          {kMailboxPhys, &memory[3 * kWindowBytes]}};

mmkit::GenPool* make_pool(mmkit::Device& device, const char* name, const Window& window) {
  const auto pool =
      device.create_pool({.min_alloc_order = 6, .name = name, .kind = mmkit::AddressKind::host});
  if (!pool) return nullptr;
  const mmkit::Status added =
      (*pool)->add_chunk({.start = reinterpret_cast<std::uintptr_t>(window.memory),
                          .size_bytes = kWindowBytes,
                          .phys = window.phys});
  return added ? *pool : nullptr;
}

// What the engine reads: where from, where to, how much, and the next one; 0 ends the list.
struct Descriptor {
  std::uint64_t source, target, bytes, next;
};

std::byte* on_bus(std::uint64_t phys) {
  for (const Window& window : windows) {
    if (phys - window.phys < kWindowBytes) return window.memory + (phys - window.phys);
  }
  return nullptr;
}
// Bytes copied; 0: an address that is on no window.
std::size_t run_engine(std::uint64_t first) {
  std::size_t copied = 0;
  for (std::uint64_t at = first; at != 0;) {
    const std::byte* const raw = on_bus(at);
    if (raw == nullptr) return 0;
    Descriptor descriptor;
    std::memcpy(&descriptor, raw, sizeof descriptor);
    std::byte* const source = on_bus(descriptor.source);
    std::byte* const target = on_bus(descriptor.target);
    if (source == nullptr || target == nullptr) return 0;
    std::memcpy(target, source, descriptor.bytes);
    copied += descriptor.bytes;
    at = descriptor.next;
  }
  return copied;
}

std::uintptr_t address_of(const mmkit::DmaBlock& block) {
  return reinterpret_cast<std::uintptr_t>(block.address);
}

// Four pieces of a picture go from the codec's memory to the card's by one list of descriptors.
bool transfer(mmkit::GenPool& sram, mmkit::GenPool& descriptors, mmkit::GenPool& card) {
  constexpr std::size_t kPieces = 4, kPieceBytes = 1500;
  std::array<mmkit::DmaBlock, kPieces> sources{}, targets{}, list{};
  for (std::size_t i = 0; i < kPieces; ++i) {
    const auto source = sram.allocate_dma(kPieceBytes);
    const auto target = card.allocate_zeroed_dma(kPieceBytes, mmkit::FirstFitAlign{2048});
    const auto descriptor = descriptors.allocate_zeroed_dma(sizeof(Descriptor));
    if (!source || !target || !descriptor) return false;
    sources[i] = *source, targets[i] = *target, list[i] = *descriptor;
    std::memset(source->address, static_cast<int>('a' + i), kPieceBytes);
    // What the pool says of an address inside a block agrees with the block.
    const auto phys = sram.virt_to_phys(address_of(*source) + 700);
    if (!phys || *phys != source->phys + 700 || target->phys % 2048 != 0) return false;
  }
  for (std::size_t i = 0; i < kPieces; ++i) {
    const Descriptor descriptor{sources[i].phys, targets[i].phys, kPieceBytes,
                                i + 1 < kPieces ? list[i + 1].phys : 0};
    std::memcpy(list[i].address, &descriptor, sizeof descriptor);
  }
  if (run_engine(list[0].phys) != kPieces * kPieceBytes) return false;
  bool well = true;
  for (std::size_t i = 0; i < kPieces; ++i) {
    well = well && std::memcmp(sources[i].address, targets[i].address, kPieceBytes) == 0;
    sram.free(address_of(sources[i]), kPieceBytes);
    card.free(address_of(targets[i]), kPieceBytes);
    descriptors.free(address_of(list[i]), sizeof(Descriptor));
  }
  return well;
}

}  // namespace

int main() {
  mmkit::Device soc("soc"), card_window("window"), mailbox("mailbox");
  mmkit::GenPool* const sram = make_pool(soc, "sram", windows[0]);
  mmkit::GenPool* const descriptors = make_pool(soc, "descriptors", windows[1]);
  mmkit::GenPool* const card = make_pool(card_window, "", windows[2]);
  mmkit::GenPool* const letters = make_pool(mailbox, "letters", windows[3]);
  if (sram == nullptr || descriptors == nullptr || card == nullptr || letters == nullptr) return 1;

  mmkit::DeviceNode soc_node("soc"), bank("bank@f8000000", &soc_node);
  mmkit::DeviceNode list_node("descriptors", &soc_node), window_node("window@fa000000");
  mmkit::DeviceNode mailbox_node("mailbox@fa004000"), codec("codec"), network("network");
  soc_node.set_device(&soc);
  window_node.set_device(&card_window);
  bank.set_label("sram");
  mailbox_node.set_reg(kMailboxPhys);
  if (!codec.add_phandle("memory", bank) || !codec.add_phandle("memory", list_node)) return 1;
  if (!network.add_phandle("memory", window_node)) return 1;
  if (!network.add_phandle("mailbox", mailbox_node)) return 1;

  const bool found = mmkit::find_pool_by_phandle(codec, "memory", 0) == sram &&
                     mmkit::find_pool_by_phandle(codec, "memory", 1) == descriptors &&
                     mmkit::find_pool_by_phandle(codec, "memory", 2) == nullptr &&
                     mmkit::find_pool_by_phandle(network, "memory", 0) == card &&
                     mmkit::find_pool_by_phandle(network, "mailbox", 0) == letters;
  const bool moved = found && transfer(*sram, *descriptors, *card);
  std::printf("pools %s, transfer %s; %zu of %zu bytes of sram free\n", found ? "found" : "MISSED",
              moved ? "done" : "FAILED", sram->available_bytes(), sram->size_bytes());
  return moved ? 0 : 1;
}
