// SPDX-License-Identifier: MIT
//
// zsmalloc, its zspages: they come, change groups as they fill and empty, and go with all that
// describes them.
#include <algorithm>
#include <cstring>
#include <mmkit/base/mutant.hpp>
#include <mmkit/zpool/zsmalloc.hpp>
#include <new>

#include "base/probe.hpp"
#include "zpool/zsmalloc_closed.hpp"

namespace mmkit {
namespace {

// Memory of descriptors for zspages of so many cells, and how much of it at least is kept for calls
// that must not wait. Most classes have at most 32 objects a zspage; of that size there is one more for
// every 64 zspages.
constexpr unsigned kSpareCells[] = {32, SizeClasses::kMostObjects};
constexpr std::uint32_t kSparesKept[] = {8, 2};
constexpr std::size_t kZspagesPerSpare = 64;
// What Zspage::block says of others: memory of its own, or the last page of its run.
constexpr std::uint8_t kOwnBlock = 2, kInRun = 3;
// Numbers kept for the same callers.
constexpr std::uint32_t kKeptNumbers = 16;
// A pool that can evict takes shorter runs only as long as it is no larger than this: beyond, an
// eviction makes room for a whole one.
constexpr std::size_t kSmallPoolPages = 64;

unsigned cells_of(std::size_t pages, std::size_t object_bytes) noexcept {
  return static_cast<unsigned>(pages * kPageSize / object_bytes);
}
constexpr std::size_t block_bytes(unsigned cells, std::uint8_t block) noexcept {
  return Zspage::bytes_for(block == kOwnBlock ? cells : kSpareCells[block]);
}
// What the heap takes for it: its own word before, and a multiple of sixteen.
constexpr std::size_t heap_bytes(std::size_t bytes) noexcept {
  return (bytes + 8 + 15) / 16 * 16;
}

}  // namespace

// ---------------------------------------------------------------- what describes them

void* ZsmallocPool::take_descriptor(unsigned cells, bool nowait, std::uint8_t* block) noexcept {
  if (!nowait) {
    keep_descriptors_ready();
    const std::size_t bytes = Zspage::bytes_for(cells);
    *block = kOwnBlock;
    void* const memory = ::operator new(bytes, std::nothrow);
    if (memory != nullptr) {
      descriptor_bytes_.fetch_add(heap_bytes(bytes), std::memory_order_relaxed);  // a number
    }
    return memory;
  }
  if (!numbers_lock_.try_lock()) return nullptr;
  ShortLockGuard lock(numbers_lock_, ShortLockGuard::Adopt{});
  for (std::uint8_t kind = 0; kind < 2; ++kind) {
    if (kSpareCells[kind] < cells || spares_[kind] == nullptr) continue;
    Spare* const spare = spares_[kind];
    spares_[kind] = spare->next;
    --spare_count_[kind];
    *block = kind;
    return spare;
  }
  return nullptr;
}

// How many spares of a kind there should be.
std::uint32_t ZsmallocPool::spares_wanted(std::uint8_t kind) const noexcept {
  const std::size_t zspages = zspages_.load(std::memory_order_relaxed);
  return kSparesKept[kind] +
         (kind == 0 ? static_cast<std::uint32_t>(zspages / kZspagesPerSpare) : 0);
}

void ZsmallocPool::give_descriptor(void* memory, unsigned cells, std::uint8_t block) noexcept {
  if (block == kInRun) return;
  if (block != kOwnBlock) {
    ShortLockGuard lock(numbers_lock_);
    if (spare_count_[block] < spares_wanted(block)) {
      spares_[block] = ::new (memory) Spare{spares_[block]};
      ++spare_count_[block];
      return;
    }
  }
  descriptor_bytes_.fetch_sub(heap_bytes(block_bytes(cells, block)), std::memory_order_relaxed);
  ::operator delete(memory);
}

// A failure to keep some ready is none of the caller's.
void ZsmallocPool::keep_descriptors_ready() noexcept {
  for (std::uint8_t kind = 0; kind < 2; ++kind) {
    while (true) {
      {
        ShortLockGuard lock(numbers_lock_);
        if (spare_count_[kind] >= spares_wanted(kind)) break;
      }
      const std::size_t bytes = Zspage::bytes_for(kSpareCells[kind]);
      void* const memory = ::operator new(bytes, std::nothrow);
      if (memory == nullptr) return;
      std::memset(memory, 0, bytes);  // in memory, for a caller that must not meet a fault
      descriptor_bytes_.fetch_add(heap_bytes(bytes), std::memory_order_relaxed);
      give_descriptor(memory, kSpareCells[kind], kind);
    }
  }
}

Result<std::uint32_t> ZsmallocPool::take_number(bool nowait) noexcept {
  if (nowait) {
    if (!numbers_lock_.try_lock()) return fail(Errc::try_again);
  } else {
    numbers_lock_.lock();
  }
  ShortLockGuard lock(numbers_lock_, ShortLockGuard::Adopt{});
  if (!nowait && free_numbers_ < kKeptNumbers) {
    const std::uint32_t from = bases_.size();
    const std::uint32_t to = std::min(from + kKeptNumbers, Place::kMostZspages);
    const bool grown = ages_.grow(to) && descriptors_.grow(to) && bases_.grow(to);
    for (std::uint32_t n = grown ? to : from; n-- > from;) {
      bases_[n].store(ZspageBase::link(first_number_), std::memory_order_relaxed);
      first_number_ = n;
      ++free_numbers_;
    }
  }
  if (free_numbers_ == 0) return fail(Errc::out_of_memory);
  const std::uint32_t number = first_number_;
  first_number_ = base_of(number).next();
  --free_numbers_;
  return number;
}

void ZsmallocPool::give_number(std::uint32_t number) noexcept {
  ShortLockGuard lock(numbers_lock_);
  bases_[number].store(ZspageBase::link(first_number_), std::memory_order_relaxed);
  first_number_ = number;
  ++free_numbers_;
}

// ---------------------------------------------------------------- they come

// A run of that length, or where there is none a shorter one that holds at least one object.
Result<PageRun> ZsmallocPool::take_run(std::size_t pages, Gfp gfp) noexcept {
  Result<PageRun> run = fail(Errc::out_of_memory);
  while (true) {
    // Zero is for the object, which is cleared later, and not for the whole run.
    run = source_.allocate_pages({.pages = pages, .gfp = without(gfp, Gfp::zero)});
    if (run || run.error() != Errc::out_of_memory || pages == 1) break;
    if (evict_ && total_pages() >= kSmallPoolPages) break;
    pages /= 2;
  }
  if (!run) return run;
  if (!ZspageBase::can_describe(run->data + run->pages * kPageSize)) {
    source_.free_pages(*run);
    return fail(Errc::not_supported);
  }
  // Touched here, where the caller may wait: whoever gets room in it later may be one who must not
  // meet a page fault.
  for (std::size_t page = 0; page < run->pages; ++page) run->data[page * kPageSize] = std::byte{0};
  return run;
}

// A zspage that nobody knows yet.
Result<Zspage*> ZsmallocPool::open(unsigned size_class, Gfp gfp) noexcept {
  const bool nowait = has(gfp, Gfp::nowait);
  const std::size_t object_bytes = sizes_[size_class].size_bytes;
  Result<PageRun> run = take_run(best_length(size_class), gfp);
  if (!run) return fail(run.error());
  std::size_t pages = run->pages;
  std::uint8_t block = 0;
  void* memory = take_descriptor(cells_of(pages, object_bytes), nowait, &block);
  if (memory == nullptr && nowait) {
    // No memory is ready for it but pages: one page more, behind the objects, if it may be so long.
    source_.free_pages(*run);
    run = take_run(std::min<std::size_t>(pages + 1, kTraits.most_run_pages), gfp);
    if (!run) return fail(run.error());
    if (run->pages == 1) {
      source_.free_pages(*run);
      return fail(Errc::out_of_memory);
    }
    pages = run->pages - 1;
    memory = run->data + pages * kPageSize;
    block = kInRun;
  }
  const unsigned cells = cells_of(pages, object_bytes);
  const Result<std::uint32_t> number =
      memory != nullptr ? take_number(nowait) : Result<std::uint32_t>(fail(Errc::out_of_memory));
  if (!number) {
    if (memory != nullptr) give_descriptor(memory, cells, block);
    source_.free_pages(*run);
    return fail(number.error());
  }
  Zspage* const zspage = Zspage::make(memory, *number, *run, size_class, cells);
  zspage->block = block;
  bases_[*number].store(ZspageBase(run->data, size_class, object_bytes), std::memory_order_relaxed);
  MMKIT_PROBE(zsmalloc_zspage_open, this, *number, object_bytes, pages);
  return zspage;
}

// How many pages the next zspage of a class should have. A long one wastes less at its end; but the
// last of a class is half empty for as long as the class lives, and where objects come and go all
// are emptied later. So a length costs what all objects of the class would waste in zspages like
// it, and a part of its own pages: a small one while the class only grows, all of them once it has
// taken back as much as a quarter of what it holds.
std::size_t ZsmallocPool::best_length(unsigned size_class) const noexcept {
  constexpr std::size_t kGrowingShare = 32, kChurnShare = 4;
  const SizeClass& shape = sizes_[size_class];
  const Class& home = classes_[size_class];
  const std::size_t used = home.used.load(std::memory_order_relaxed);
  const bool churns = home.returned.load(std::memory_order_relaxed) > used / kChurnShare;
  const std::size_t page_cost = churns ? kPageSize : kPageSize / kGrowingShare;
  std::size_t best = shape.pages, least = ~std::size_t{0};
  for (std::size_t pages = 1; pages <= shape.pages; ++pages) {
    const std::size_t cells = pages * kPageSize / shape.size_bytes;
    const std::size_t waste = pages * kPageSize - cells * shape.size_bytes;
    const std::size_t cost = used * waste / cells + pages * page_cost;
    if (cost >= least) continue;
    least = cost;
    best = pages;
  }
  return best;
}

// The class gets a new zspage.
void ZsmallocPool::adopt(Class& home, Zspage& zspage) noexcept {
  // Counted here and in settle(), under the lock, so that a fork finds counts and zspages agreed.
  pages_.fetch_add(zspage.pages(), std::memory_order_relaxed);
  zspages_.fetch_add(1, std::memory_order_relaxed);
  home.cells.store(home.cells.load(std::memory_order_relaxed) + zspage.cells(),
                   std::memory_order_relaxed);
  ages_[zspage.number()].store(clock_.now(), std::memory_order_relaxed);
  // Release: pairs with find_zspage(), for the base.
  descriptors_[zspage.number()].store(&zspage, std::memory_order_release);
  enlist(home, zspage);
}

// ---------------------------------------------------------------- they change groups

// Into the list of its group, unless it is full.
void ZsmallocPool::enlist(Class& home, Zspage& zspage) noexcept {
  const unsigned group = zspage.group();
  if (group == kFullGroup) return;
  zspage.listed = static_cast<std::uint8_t>(group & 15);
  zspage.passed_over = false;
  zspage.prev = kNone;
  zspage.next = home.groups[group];
  if (zspage.next != kNone) zspage_at(zspage.next).prev = zspage.number();
  home.groups[group] = zspage.number();
}

void ZsmallocPool::delist(Class& home, Zspage& zspage) noexcept {
  if (zspage.listed == Zspage::kInNoList) return;
  if (zspage.next != kNone) zspage_at(zspage.next).prev = zspage.prev;
  if (zspage.prev != kNone) {
    zspage_at(zspage.prev).next = zspage.next;
  } else {
    home.groups[zspage.listed] = zspage.next;
  }
  zspage.listed = Zspage::kInNoList;
}

void ZsmallocPool::relist(Class& home, Zspage& zspage) noexcept {
  if (zspage.listed == zspage.group()) return;
  delist(home, zspage);
  enlist(home, zspage);
}

// Out of the lists, for one who will empty it: nobody gets room in it meanwhile.
void ZsmallocPool::isolate(Class& home, Zspage& zspage) noexcept {
  MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_isolates_in_the_list, delist(home, zspage),
               static_cast<void>(0));
  zspage.isolated = true;
  note_state(zspage);
}

void ZsmallocPool::rejoin(Class& home, Zspage& zspage, Closed& closed) noexcept {
  zspage.isolated = false;
  settle(home, zspage, closed);
}

// Tells those who free what to do with an object of this zspage. Written only where it changes: every
// mapping reads the word.
void ZsmallocPool::note_state(const Zspage& zspage) noexcept {
  const bool keeps = !zspage.isolated && zspage.group() >= kKeepsFromGroup;
  const ZspageBase before = base_of(zspage.number());
  const ZspageBase after = before.with(keeps, zspage.isolated);
  // Relaxed: hints, and nobody else writes it.
  if (!(after == before)) bases_[zspage.number()].store(after, std::memory_order_relaxed);
}

// After cells were given: notes how full it is, and lets an empty one go. One that has just ceased to
// be full gets into a list; in a list it stays where it is until somebody looks for room (fullest()),
// so that a free touches no neighbours.
void ZsmallocPool::settle(Class& home, Zspage& zspage, Closed& closed) noexcept {
  if (zspage.isolated) return;
  if (zspage.in_use() == 0) {
    delist(home, zspage);
    pages_.fetch_sub(zspage.pages(), std::memory_order_relaxed);
    zspages_.fetch_sub(1, std::memory_order_relaxed);
    descriptors_[zspage.number()].store(nullptr, std::memory_order_relaxed);
    home.cells.store(home.cells.load(std::memory_order_relaxed) - zspage.cells(),
                     std::memory_order_relaxed);
    closed.push(zspage);
    return;
  }
  note_state(zspage);
  if (zspage.listed == Zspage::kInNoList) enlist(home, zspage);
}

// The object of a slot, which is in the caller's hands, leaves its cell.
void ZsmallocPool::take_out(Class& home, std::uint32_t slot, Closed& closed) noexcept {
  const Place place(engine_.slot(slot).load(std::memory_order_relaxed));
  Zspage& zspage = *find_zspage(place.zspage());
  MMKIT_ASSERT(zspage.owner(place.cell()) == slot);
  zspage.give_cell(place.cell());
  const std::uint32_t returned = home.returned.load(std::memory_order_relaxed);
  if (returned + 1 != 0) home.returned.store(returned + 1, std::memory_order_relaxed);
  home.used.store(home.used.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  settle(home, zspage, closed);
}

// Lists lag behind only downwards: what is found emptier than its list goes where it belongs, and the
// first that is not is the fullest there is.
Zspage* ZsmallocPool::fullest(Class& home) noexcept {
  for (unsigned group = kFullGroup; group-- != 0;) {
    while (home.groups[group] != kNone) {
      Zspage& first = zspage_at(home.groups[group]);
      if (MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_trusts_its_lists, first.group() == group, true)) {
        return &first;
      }
      relist(home, first);
    }
  }
  return nullptr;
}

// ---------------------------------------------------------------- they go

// Gives back what was closed, with no lock held. Returns the pages.
std::size_t ZsmallocPool::close(Closed& closed) noexcept {
  std::size_t freed = 0;
  while (Zspage* zspage = closed.pop()) {
    freed += zspage->pages();
    end(*zspage);
  }
  return freed;
}

void ZsmallocPool::end(Zspage& zspage) noexcept {
  const std::uint32_t number = zspage.number();
  const PageRun run = zspage.run(base_of(number).data());
  const std::uint8_t block = zspage.block;
  const unsigned cells = zspage.cells();
  MMKIT_PROBE(zsmalloc_zspage_close, this, number, base_of(number).size_bytes(), run.pages);
  give_descriptor(&zspage, cells, block);
  source_.free_pages(run);
  give_number(number);
}

}  // namespace mmkit
