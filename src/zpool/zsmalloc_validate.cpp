// SPDX-License-Identifier: MIT
//
// zsmalloc, its validation: every invariant of zsmalloc.hpp, with all locks held and all stacks
// stopped.
#include <mmkit/zpool/zsmalloc.hpp>

namespace mmkit {

bool Zspage::validate() const noexcept {
  unsigned free = 0;
  for (unsigned cell = 0; cell < cells_; ++cell) free += is_free(cell) ? 1U : 0U;
  if (free != free_cells()) return false;
  unsigned at = first_free_;
  for (; free != 0; --free) {
    if (at >= cells_ || !is_free(at)) return false;
    at = owner(at) & ~kFreeBit;
  }
  return true;
}

Status ZsmallocPool::validate() const noexcept {
  auto& self = const_cast<ZsmallocPool&>(*this);
  self.lock_zspages();
  bool sound = true;
  std::size_t in_use = 0, pages = 0, zspages = 0, kept = 0;
  {
    const CpuStacks::Stopped stopped(engine_.stacks());
    for (std::uint32_t n = 0; sound && n < descriptors_.size(); ++n) {
      const Zspage* zspage = find_zspage(n);
      if (zspage == nullptr) continue;
      sound = zspage->number() == n && validate_zspage(*zspage);
      pages += zspage->pages();
      ++zspages;
    }
    for (unsigned c = 0; sound && c < sizes_.count(); ++c) {
      sound = validate_class(c, stopped, &in_use, &kept);
    }
    sound = sound && pages == total_pages() && zspages == zspages_.load(std::memory_order_relaxed);
    sound = sound && self.engine_.validate(stopped, in_use);
  }
  self.unlock_zspages();
  return sound ? Status{} : fail(Errc::bad_format);
}

bool ZsmallocPool::validate_zspage(const Zspage& zspage) const noexcept {
  const std::uint32_t number = zspage.number();
  const ZspageBase base = base_of(number);
  const unsigned size_class = zspage.size_class();
  if (size_class >= sizes_.count() || base.size_class() != size_class) return false;
  if (base.size_bytes() != sizes_[size_class].size_bytes) return false;
  if (zspage.cells() > sizes_[size_class].objects) return false;
  if (zspage.cells() * base.size_bytes() > zspage.pages() * kPageSize) return false;
  if (!zspage.validate()) return false;
  if (!zspage.isolated && zspage.in_use() == 0) return false;
  if (base.isolated() != zspage.isolated || (base.isolated() && base.keeps())) return false;
  const std::size_t below = size_class == 0 ? 0 : sizes_[size_class - 1].size_bytes;
  for (unsigned cell = 0; cell < zspage.cells(); ++cell) {
    if (zspage.is_free(cell)) continue;
    const std::uint32_t slot = zspage.owner(cell);
    if (slot >= engine_.slots()) return false;
    const std::uint64_t word = engine_.slot(slot).load(std::memory_order_relaxed);
    const Place place(word);
    if (!place.is_at(number, cell)) return false;
    const std::uint64_t state = slot_word::state_of(word);
    if (state == slot_word::kFree || state == slot_word::kBusy) return false;
    if (state < slot_word::kLive) continue;
    const std::size_t size_bytes = base.size_bytes() - place.slack_bytes();
    if (size_bytes <= below || place.slack_bytes() >= base.size_bytes()) return false;
  }
  return true;
}

bool ZsmallocPool::validate_class(unsigned size_class, const CpuStacks::Stopped& stopped,
                                  std::size_t* in_use, std::size_t* kept) const noexcept {
  const Class& home = classes_[size_class];
  std::size_t cells = 0, used = 0, partial = 0;
  for (std::uint32_t n = 0; n < descriptors_.size(); ++n) {
    const Zspage* zspage = find_zspage(n);
    if (zspage == nullptr || zspage->size_class() != size_class) continue;
    cells += zspage->cells();
    used += zspage->in_use();
    if (!zspage->isolated && zspage->free_cells() != 0) ++partial;
  }
  if (cells != home.cells.load(std::memory_order_relaxed)) return false;
  if (used != home.used.load(std::memory_order_relaxed)) return false;
  for (unsigned group = 0; group < kFullGroup; ++group) {
    std::uint32_t before = kNone;
    for (std::uint32_t n = home.groups[group]; n != kNone; n = zspage_at(n).next) {
      if (n >= descriptors_.size() || find_zspage(n) == nullptr || partial-- == 0) return false;
      if (zspage_at(n).prev != before || zspage_at(n).isolated) return false;
      if (zspage_at(n).size_class() != size_class || zspage_at(n).group() > group) return false;
      if (zspage_at(n).listed != group) return false;
      before = n;
    }
  }
  if (partial != 0) return false;
  std::size_t granted = 0, kept_here = 0;
  for (unsigned cpu = 0; cpu < engine_.stacks().cpus(); ++cpu) {
    const std::uint32_t limit = engine_.stacks().limit(cpu, heads_[size_class]);
    const auto numbers = stopped.numbers(cpu, heads_[size_class]);
    if (limit > capacities_[size_class] || numbers.size() > limit) return false;
    granted += limit;
    kept_here += numbers.size();
    for (const std::uint32_t number : numbers) {
      if (number == 0 || number > engine_.slots()) return false;
      const std::uint64_t word = engine_.slot(number - 1).load(std::memory_order_relaxed);
      const Place place(word);
      if (slot_word::state_of(word) != slot_word::kCached) return false;
      if (base_of(place.zspage()).size_class() != size_class) return false;
      if (find_zspage(place.zspage())->owner(place.cell()) != number - 1) return false;
    }
  }
  *in_use += used;
  *kept += kept_here;
  return granted == home.granted && kept_here <= used;
}

}  // namespace mmkit
