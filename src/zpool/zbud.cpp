// SPDX-License-Identifier: MIT
#include <mmkit/zpool/zbud.hpp>

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <mmkit/base/mutant.hpp>
#include <new>
#include <utility>

#include "zpool/driver_of.hpp"
#include "zpool/params.hpp"

namespace mmkit {
namespace {

static_assert(sizeof(ZbudPage) == 64, "a page is described by one cache line");

constexpr bool kRedZones = MMKIT_CHECK_LEVEL >= 2;
constexpr int kRedZoneByte = 0xb5;
// Descriptors kept ahead, so that callers that must not ask for memory find one.
constexpr std::size_t kKeptDescriptors = 16;

bool red_zone_is_whole(const ZbudPage& page) noexcept {
  if constexpr (!kRedZones) return true;
  return std::all_of(page.data, page.data + ZbudPage::kChunkBytes,
                     [](std::byte b) { return b == std::byte{kRedZoneByte}; });
}

}  // namespace

const ZpoolDriver& zbud_driver() noexcept {
  return driver_of<ZbudPool>();
}

struct ZbudPool::Eviction : ListNode<> {
  explicit Eviction(ZbudPage& evicted) noexcept : page(&evicted), thread(::pthread_self()) {}

  ZbudPage* page;
  pthread_t thread;
};

// ---------------------------------------------------------------- life

Result<std::unique_ptr<ZbudPool>> ZbudPool::create(BackendEnv&& env) noexcept {
  if (env.pages == nullptr || env.pool_tag == 0) return fail(Errc::invalid_argument);
  const Result<unsigned> retries = parse_reclaim_retries(env.params, kDefaultReclaimRetries);
  if (!retries) return fail(retries.error());

  const std::string_view name = env.name;
  std::unique_ptr<char[]> name_copy(new (std::nothrow) char[name.size() + 1]);
  if (name_copy == nullptr) return fail(Errc::out_of_memory);
  std::copy(name.begin(), name.end(), name_copy.get());

  std::unique_ptr<ZbudPool> pool(new (std::nothrow) ZbudPool(std::move(env), *retries));
  if (pool == nullptr) return fail(Errc::out_of_memory);
  pool->name_ = std::move(name_copy);
  pool->name_bytes_ = name.size();
  {
    ShortLockGuard lock(pool->mutex_);
    if (Status ready = pool->handles_.prepare(); !ready) return fail(ready.error());
    if (Status ready = pool->grow_descriptors(); !ready) return fail(ready.error());
  }
  if (Status joined = pool->join_fork(LockRank::pool); !joined) return fail(joined.error());
  return pool;
}

ZbudPool::ZbudPool(BackendEnv&& env, unsigned reclaim_retries) noexcept
    : source_(*env.pages),
      gfp_(env.gfp),
      reclaim_retries_(reclaim_retries),
      evict_(std::move(env.evict)),
      handles_(env.pool_tag) {}

ZbudPool::~ZbudPool() {
  leave_fork();
  report_leftovers();
  ShortLockGuard lock(mutex_);
  while (ZbudPage* page = lru_.back()) {
    delist(*page);
    source_.free_pages(retire(*page));
  }
}

// Misuse or a leak, told without the lock: a handler may look at the pool.
void ZbudPool::report_leftovers() const noexcept {
  const std::size_t objects = stats().objects;
  if (objects == 0) return;
  const std::string_view name(name_.get(), name_bytes_);
  // In the child of a fork a mapping may be that of a thread which is not there.
  const Handle mapped = inherited_ ? Handle::none : handles_.first_pinned();
  if (mapped != Handle::none) {
    report_failure({kType, name, "pool destroyed with live mapping", handle_bits::raw(mapped)});
  }
  report_leak({kType, name, "objects left at destruction", objects});
}

void ZbudPool::report_not_mapped(Handle handle) const noexcept {
  report_failure(
      {kType, {name_.get(), name_bytes_}, "handle not mapped", handle_bits::raw(handle)});
}

void ZbudPool::lock_for_fork() noexcept {
  mutex_.lock_for_fork();
  handles_.lock_for_fork();
}

void ZbudPool::unlock_after_fork() noexcept {
  handles_.unlock_after_fork();
  mutex_.unlock();
}

// ---------------------------------------------------------------- lists of pages

// Into the list of its free chunks, if a buddy may still join.
void ZbudPool::enlist(ZbudPage& page) noexcept {
  if (page.holds(ZbudPage::kFirst) && page.holds(ZbudPage::kLast)) return;
  const unsigned free = page.free_chunks();
  unbuddied_[free].push_front(page);
  unbuddied_mask_ |= std::uint64_t{1} << free;
}

// Out of that list, if it is in one: before its objects change.
void ZbudPool::delist(ZbudPage& page) noexcept {
  if (!page.ListNode<ZbudFit>::is_linked()) return;
  const unsigned free = page.free_chunks();
  unbuddied_[free].remove(page);
  if (unbuddied_[free].empty()) unbuddied_mask_ &= ~(std::uint64_t{1} << free);
}

// The page with the fewest free chunks that are enough, the youngest of them; nullptr: none.
ZbudPage* ZbudPool::best_fit(unsigned chunks) noexcept {
  const std::uint64_t fitting = unbuddied_mask_ & ~low_bits(chunks);
  if (fitting == 0) return nullptr;
  return unbuddied_[std::countr_zero(fitting)].front();
}

// Lets go of an empty page that is in no list but perhaps the LRU. The caller gives back the run.
PageRun ZbudPool::retire(ZbudPage& page) noexcept {
  MMKIT_CHECK(red_zone_is_whole(page));
  const PageRun run = page.run();
  if (page.ListNode<ZbudLru>::is_linked()) lru_.remove(page);
  page.data = nullptr;
  free_descriptors_.push_front(page);
  ++free_descriptor_count_;
  pages_.store(total_pages() - 1, std::memory_order_relaxed);
  return run;
}

Status ZbudPool::grow_descriptors() noexcept {
  const Result<PageChunk*> chunk = descriptors_.append();
  if (!chunk) return fail(chunk.error());
  for (std::size_t i = kChunkPages; i-- != 0;) free_descriptors_.push_front((*chunk)->page[i]);
  free_descriptor_count_ += kChunkPages;
  return {};
}

Result<PageRun> ZbudPool::take_page(Gfp gfp) noexcept {
  // Zero is for the object, which is cleared later, and not for the whole page.
  Result<PageRun> run = source_.allocate_pages({.pages = 1, .gfp = without(gfp, Gfp::zero)});
  if (run && !HandleTable<Side>::can_locate(run->data + kPageSize - 1)) {
    source_.free_pages(*run);
    return fail(Errc::not_supported);
  }
  // Touched here, where the caller may wait, in the chunk that no object has: whoever joins the page
  // later may be one who must not meet a page fault.
  if (run) *run->data = std::byte{0};
  return run;
}

// A new page, in no list. Lets go of the lock around the page source, unless the request must not
// wait: then nothing below waits either.
Result<ZbudPage*> ZbudPool::fresh_page(Gfp gfp) noexcept {
  const bool nowait = has(gfp, Gfp::nowait);
  // A failure to keep some ahead is none while there is one.
  if (free_descriptor_count_ <= kKeptDescriptors && !nowait) static_cast<void>(grow_descriptors());
  ZbudPage* page = free_descriptors_.pop_front();
  if (page == nullptr) return fail(Errc::out_of_memory);
  --free_descriptor_count_;

  Result<PageRun> run = fail(Errc::out_of_memory);
  if (nowait) {
    run = take_page(gfp);
  } else {
    mutex_.unlock();
    run = take_page(gfp);
    mutex_.lock();
  }
  if (!run) {
    free_descriptors_.push_front(*page);
    ++free_descriptor_count_;
    return fail(run.error());
  }
  page->data = run->data;
  page->pfn = run->first;
  if constexpr (kRedZones) std::memset(page->data, kRedZoneByte, ZbudPage::kChunkBytes);
  pages_.store(total_pages() + 1, std::memory_order_relaxed);
  return page;
}

// ---------------------------------------------------------------- objects

// Where a result is handed up it is rebuilt from its value, or returned as it comes: a copy of two
// registers goes through the stack as one wide load, which waits for every store before it.
Result<Handle> ZbudPool::add(std::size_t size_bytes, Gfp gfp, const std::byte* object) noexcept {
  gfp = gfp | gfp_;
  if (Status fits = check_object_request(size_bytes, gfp, kTraits); !fits) {
    return failed(fits.error());
  }
  // An object that is written before its handle is known is born mapped, so that no eviction meets
  // it half done.
  const bool write = object != nullptr || has(gfp, Gfp::zero);
  const Result<Handle> handle = place(size_bytes, gfp, write ? 1 : 0);
  if (!handle) return failed(handle.error());
  if (write) {
    const std::uint32_t slot = handle_bits::index(*handle);
    std::byte* place = handles_.address_of_slot(slot);
    if (object != nullptr) {
      std::memcpy(place, object, size_bytes);
    } else {
      std::memset(place, 0, size_bytes);
    }
    handles_.end_first_mapping(slot);
  }
  return *handle;
}

Failure ZbudPool::failed(Errc why) noexcept {
  failures_.fetch_add(1, std::memory_order_relaxed);  // a number on its own
  return fail(why);
}

Result<Handle> ZbudPool::place(std::size_t size_bytes, Gfp gfp, unsigned pins) noexcept {
  if (has(gfp, Gfp::nowait)) {
    if (!mutex_.try_lock()) return fail(Errc::try_again);
  } else {
    mutex_.lock();
  }
  ShortLockGuard lock(mutex_, ShortLockGuard::Adopt{});
  return place_locked(size_bytes, gfp, pins);
}

Result<Handle> ZbudPool::place_locked(std::size_t size_bytes, Gfp gfp, unsigned pins) noexcept {
  const Result<std::uint32_t> slot = handles_.reserve(!has(gfp, Gfp::nowait));
  if (!slot) return fail(slot.error());
  const unsigned chunks = ZbudPage::chunks_for(size_bytes);
  ZbudPage* page = best_fit(chunks);
  if (page != nullptr) {
    delist(*page);
    lru_.move_to_front(*page);
  } else {
    const Result<ZbudPage*> fresh = fresh_page(gfp);
    if (!fresh) {
      handles_.cancel(*slot);
      return fail(fresh.error());
    }
    page = *fresh;
    lru_.push_front(*page);
  }

  const Buddy buddy = page->holds(ZbudPage::kFirst) ? ZbudPage::kLast : ZbudPage::kFirst;
  std::byte* object = page->place(buddy, size_bytes);
  __builtin_prefetch(object, /*for writing=*/1);  // it comes while the lists are mended
  page->size_bytes[buddy] = static_cast<std::uint16_t>(size_bytes);
  page->slot[buddy] = *slot;
  enlist(*page);
  ++allocations_;
  payload_bytes_ += size_bytes;
  handles_.set_side(*slot, Side(page, size_bytes));
  return handles_.publish(*slot, object, pins);
}

Status ZbudPool::free(Handle handle) noexcept {
  // Looked at first without the lock: misuse costs others nothing, and what is about to change is on
  // its way into the cache. The object's line too: its room is taken again soon, the lists being
  // stacks, and who writes there then finds the translation of the address, the dearest part.
  const auto seen = handles_.glimpse(handle);
  if (!seen.live) return fail(Errc::invalid_argument);
  if (seen.mapped) return fail(Errc::busy);
  __builtin_prefetch(seen.side.page(), /*for writing=*/1);
  __builtin_prefetch(seen.address, /*for writing=*/1);
  MMKIT_MUTATE(MMKIT_MUTANT_zbud_free_trusts_its_first_look, , detail::hold_window_open();)
  ShortLockGuard lock(mutex_);
  const Result<std::byte*> object = handles_.kill(handle);
  // By now it may be dead, or mapped.
  if (MMKIT_MUTATE(MMKIT_MUTANT_zbud_free_trusts_its_first_look, !object, false)) {
    return fail(object.error());
  }
  const std::uint32_t slot = handle_bits::index(handle);
  ZbudPage& page = *handles_.side(slot).page();
  handles_.recycle(slot);

  delist(page);
  const Buddy buddy = ZbudPage::buddy_at(*object);
  payload_bytes_ -= page.size_bytes[buddy];
  page.size_bytes[buddy] = 0;
  ++frees_;
  // A page that is being evicted belongs to the shrink that took it off the lists.
  const bool is_evicted = !page.ListNode<ZbudLru>::is_linked();
  if (MMKIT_MUTATE(MMKIT_MUTANT_zbud_free_relists_what_is_evicted, is_evicted, false)) return {};
  if (!page.empty()) {
    enlist(page);
    lru_.prefetch_neighbours(page);  // of whoever takes the room: he moves the page to the front
    return {};
  }
  const PageRun run = retire(page);
  lock.unlock();
  source_.free_pages(run);
  return {};
}

void ZbudPool::touch(Handle handle) noexcept {
  ShortLockGuard lock(mutex_);
  if (!handles_.is_live(handle)) return;
  ZbudPage& page = *handles_.side(handle_bits::index(handle)).page();
  if (page.ListNode<ZbudLru>::is_linked()) lru_.move_to_front(page);
}

// ---------------------------------------------------------------- eviction

ShrinkOutcome ZbudPool::shrink(std::size_t pages) noexcept {
  if (!evict_ || pages == 0) return {0, fail(Errc::invalid_argument)};
  std::size_t reclaimed = 0;
  while (reclaimed < pages) {
    if (Status freed = reclaim_page(); !freed) return {reclaimed, freed};
    ++reclaimed;
  }
  return {reclaimed, {}};
}

// Frees the oldest page whose objects can be evicted, looking at so many pages at the most. A page
// that could not be freed goes to the young end, so that the next try meets another.
Status ZbudPool::reclaim_page() noexcept {
  ShortLockGuard lock(mutex_);
  // A mapped page is passed over and is no try; the number of pages bounds how many are.
  std::size_t looks = total_pages();
  for (unsigned tries = 0; tries < reclaim_retries_; --looks) {
    ZbudPage* page = lru_.back();
    if (page == nullptr) {
      // Nothing to evict, unless other threads are at it.
      return fail(evictions_.empty() ? Errc::invalid_argument : Errc::try_again);
    }
    if (looks == 0) break;
    delist(*page);
    lru_.remove(*page);
    Eviction eviction(*page);
    evictions_.push_back(eviction);
    if (MMKIT_MUTATE(MMKIT_MUTANT_zbud_evicts_what_is_mapped, !is_mapped(*page), true)) {
      // The handles are computed under the lock: later the slots may belong to others.
      Handle handles[2] = {};
      for (const Buddy buddy : {ZbudPage::kFirst, ZbudPage::kLast}) {
        if (page->holds(buddy)) handles[buddy] = handles_.handle_of(page->slot[buddy]);
      }
      ++tries;
      lock.unlock();
      const std::uint64_t evicted = evict_objects(*page, handles);
      lock.lock();
      evicted_ += evicted;
    }
    if (end_eviction(eviction)) {
      const PageRun run = retire(*page);
      lock.unlock();
      source_.free_pages(run);
      return {};
    }
  }
  return fail(Errc::try_again);
}

bool ZbudPool::end_eviction(Eviction& eviction) noexcept {
  ZbudPage& page = *eviction.page;
  evictions_.remove(eviction);
  if (page.empty()) return true;
  enlist(page);
  MMKIT_MUTATE(MMKIT_MUTANT_zbud_survivor_is_old, lru_.push_front, lru_.push_back)(page);
  return false;
}

// Threads that were evicting are not in the child: their pages go back. Their mappings cannot end.
void ZbudPool::on_child() noexcept {
  ShortLockGuard lock(mutex_);
  inherited_ = true;
  for (Eviction* at = evictions_.front(); at != nullptr;) {
    Eviction& eviction = *at;
    at = evictions_.next(eviction);
    if (::pthread_equal(eviction.thread, ::pthread_self()) != 0) continue;
    if (MMKIT_MUTATE(MMKIT_MUTANT_zbud_evictions_stay_in_child, false, true)) continue;
    if (end_eviction(eviction)) source_.free_pages(retire(*eviction.page));
  }
}

bool ZbudPool::is_mapped(const ZbudPage& page) const noexcept {
  return (page.holds(ZbudPage::kFirst) && handles_.is_pinned_slot(page.slot[ZbudPage::kFirst])) ||
         (page.holds(ZbudPage::kLast) && handles_.is_pinned_slot(page.slot[ZbudPage::kLast]));
}

// Asks for each object of a page, and stops at the first that stays. Returns how many went by this.
// One that is dead already (freed by another thread, or by the callback for its buddy) is not asked
// for; a callback that reports success while the object lives has refused.
std::uint64_t ZbudPool::evict_objects([[maybe_unused]] const ZbudPage& page,
                                      const Handle* handles) noexcept {
  std::uint64_t evicted = 0;
  for (const Buddy buddy : {ZbudPage::kFirst, ZbudPage::kLast}) {
    const Handle handle = MMKIT_MUTATE(
        MMKIT_MUTANT_zbud_handles_computed_late, handles[buddy],
        handles[buddy] == Handle::none ? Handle::none : handles_.handle_of(page.slot[buddy]));
    if (handle == Handle::none || !handles_.is_live(handle)) continue;
    const Status given_up = evict_(handle);
    if (!given_up) break;
    if (MMKIT_MUTATE(MMKIT_MUTANT_zbud_trusts_a_liar, handles_.is_live(handle), false)) break;
    ++evicted;
  }
  return evicted;
}

// ---------------------------------------------------------------- statistics, validation

std::size_t ZbudPool::metadata_bytes() const noexcept {
  return sizeof(*this) + name_bytes_ + 1 + handles_.metadata_bytes() + descriptors_.bytes();
}

ZpoolStats ZbudPool::stats() const noexcept {
  ShortLockGuard lock(mutex_);
  return {.objects = allocations_ - frees_,
          .payload_bytes = payload_bytes_,
          .pages = pages_.load(std::memory_order_relaxed),
          .metadata_bytes = metadata_bytes(),
          .compactable_pages = 0,
          .allocations = allocations_,
          .frees = frees_,
          .failures = failures_.load(std::memory_order_relaxed),
          .evicted = evicted_,
          .moved = 0};
}

Status ZbudPool::validate() const noexcept {
  const Status broken = fail(Errc::bad_format);
  ShortLockGuard lock(mutex_);
  std::size_t used = 0, objects = 0, payload = 0, in_flight = 0, alone = 0;
  for (std::size_t i = 0; i < descriptors_.count() * kChunkPages; ++i) {
    const ZbudPage& page = descriptors_.find(i / kChunkPages)->page[i % kChunkPages];
    if (page.data == nullptr) continue;
    if (Status sound = validate_page(page); !sound) return sound;
    ++used;
    if (!page.ListNode<ZbudLru>::is_linked()) ++in_flight;
    if (page.ListNode<ZbudFit>::is_linked()) ++alone;
    for (const Buddy buddy : {ZbudPage::kFirst, ZbudPage::kLast}) {
      if (!page.holds(buddy)) continue;
      ++objects;
      payload += page.size_bytes[buddy];
    }
  }
  // 4, 7
  if (!lru_.validate(used) || lru_.size() + in_flight != used) return broken;
  if (!evictions_.validate(in_flight) || evictions_.size() != in_flight) return broken;
  if (used != pages_.load(std::memory_order_relaxed)) return broken;
  if (objects != allocations_ - frees_ || payload != payload_bytes_) return broken;
  if (!free_descriptors_.validate(free_descriptor_count_)) return broken;
  if (free_descriptors_.size() != free_descriptor_count_) return broken;
  // 3
  for (unsigned free = 0; free < ZbudPage::kUsableChunks; ++free) {
    const auto& list = unbuddied_[free];
    if (!list.validate(alone)) return broken;
    if (list.empty() == ((unbuddied_mask_ >> free & 1) != 0)) return broken;
    for (const ZbudPage* page = list.front(); page != nullptr; page = list.next(*page)) {
      if (page->free_chunks() != free || page->data == nullptr || alone-- == 0) return broken;
    }
  }
  if (alone != 0) return broken;
  return handles_.validate(objects) ? Status{} : broken;
}

// Invariants 1 to 3, 5, 6 and 8 of one page.
Status ZbudPool::validate_page(const ZbudPage& page) const noexcept {
  const Status broken = fail(Errc::bad_format);
  const bool in_flight = !page.ListNode<ZbudLru>::is_linked();
  const bool buddied = page.holds(ZbudPage::kFirst) && page.holds(ZbudPage::kLast);
  if (page.empty() && !in_flight) return broken;
  if (page.free_chunks() > ZbudPage::kUsableChunks) return broken;
  if (page.ListNode<ZbudFit>::is_linked() != (!in_flight && !buddied)) return broken;
  if (!red_zone_is_whole(page)) return broken;
  for (const Buddy buddy : {ZbudPage::kFirst, ZbudPage::kLast}) {
    if (!page.holds(buddy)) continue;
    const std::uint32_t slot = page.slot[buddy];
    if (!handles_.is_live_slot(slot)) return broken;
    if (handles_.address_of_slot(slot) != page.place(buddy, page.size_bytes[buddy])) return broken;
    if (ZbudPage::buddy_at(handles_.address_of_slot(slot)) != buddy) return broken;
    const Side side = handles_.side(slot);
    if (side.page() != &page) return broken;
    if (side.size_bytes() != page.size_bytes[buddy]) return broken;
  }
  return {};
}

}  // namespace mmkit
