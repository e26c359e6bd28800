// SPDX-License-Identifier: MIT
#include <mmkit/zpool/z3fold.hpp>

#include <algorithm>
#include <cstring>
#include <mmkit/base/mutant.hpp>
#include <mmkit/zpool/fetch_soon.hpp>
#include <new>
#include <utility>

#include "zpool/driver_of.hpp"
#include "zpool/params.hpp"
#include "zpool/z3fold_internal.hpp"

namespace mmkit {

const ZpoolDriver& z3fold_driver() noexcept {
  return driver_of<Z3foldPool>();
}

// ---------------------------------------------------------------- life

Result<std::unique_ptr<Z3foldPool>> Z3foldPool::create(BackendEnv&& env) noexcept {
  if (env.pages == nullptr || env.pool_tag == 0) return fail(Errc::invalid_argument);
  const Result<unsigned> retries = parse_reclaim_retries(env.params, kDefaultReclaimRetries);
  if (!retries) return fail(retries.error());

  const std::string_view name = env.name;
  std::unique_ptr<char[]> name_copy(new (std::nothrow) char[name.size() + 1]);
  if (name_copy == nullptr) return fail(Errc::out_of_memory);
  std::copy(name.begin(), name.end(), name_copy.get());

  Result<RoomLists> room = RoomLists::create();
  if (!room) return fail(room.error());
  std::unique_ptr<Z3foldPool> pool(new (std::nothrow)
                                       Z3foldPool(std::move(env), *retries, *std::move(room)));
  if (pool == nullptr) return fail(Errc::out_of_memory);
  pool->name_ = std::move(name_copy);
  pool->name_bytes_ = name.size();
  {
    ShortLockGuard lock(pool->mutex_);
    if (Status ready = pool->handles_.prepare(); !ready) return fail(ready.error());
    if (Status ready = pool->pages_.grow(); !ready) return fail(ready.error());
  }
  if (Status joined = pool->join_fork(LockRank::pool); !joined) return fail(joined.error());
  return pool;
}

Z3foldPool::Z3foldPool(BackendEnv&& env, unsigned reclaim_retries, RoomLists&& room) noexcept
    : source_(*env.pages),
      gfp_(env.gfp),
      reclaim_retries_(reclaim_retries),
      evict_(std::move(env.evict)),
      handles_(env.pool_tag),
      room_(std::move(room)) {}

Z3foldPool::~Z3foldPool() {
  leave_fork();
  report_leftovers();
  ShortLockGuard lock(mutex_);
  while (lru_.oldest() != kNoPage) {
    delist(lru_.oldest());
    source_.free_pages(retire(lru_.oldest()));
  }
}

void Z3foldPool::lock_for_fork() noexcept {
  mutex_.lock_for_fork();
  handles_.lock_for_fork();
}

void Z3foldPool::unlock_after_fork() noexcept {
  handles_.unlock_after_fork();
  mutex_.unlock();
}

// ---------------------------------------------------------------- pages

void Z3foldPool::enlist(PageIndex index) noexcept {
  if (pages_[index].is_whole()) return;
  room_.add(pages_, index);
}

// A page that waits for compaction stays in the queue: whoever comes to it there finds it closed, or
// open for others.
PageRun Z3foldPool::retire(PageIndex index) noexcept {
  if (!pages_[index].is_evicted) lru_.remove(pages_, index);
  const PageRun run = pages_.close(index);
  pages_.give_back(index);
  page_count_.store(total_pages() - 1, std::memory_order_relaxed);
  return run;
}

Result<PageRun> Z3foldPool::take_page(Gfp gfp) noexcept {
  // Zero is for the object, which is cleared later, and not for the whole page.
  Result<PageRun> run = source_.allocate_pages({.pages = 1, .gfp = without(gfp, Gfp::zero)});
  // Touched here, where the caller may wait: whoever joins the page later may be one who must not
  // meet a page fault.
  if (run) *run->data = std::byte{0};
  return run;
}

// A new page, in no list by room. Lets go of the lock around the page source, unless the request must
// not wait: then nothing below waits either.
Result<PageIndex> Z3foldPool::fresh_page(std::size_t size_bytes, Gfp gfp) noexcept {
  const bool nowait = has(gfp, Gfp::nowait);
  // A failure to keep some ahead is none while there is one.
  if (pages_.free_count() <= kZ3foldKeptClosed && !nowait) static_cast<void>(pages_.grow());
  const PageIndex index = pages_.take();
  if (index == kNoPage) return fail(Errc::out_of_memory);

  Result<PageRun> run = fail(Errc::out_of_memory);
  if (nowait) {
    run = take_page(gfp);
  } else {
    mutex_.unlock();
    run = take_page(gfp);
    mutex_.lock();
  }
  if (run && !pages_.can_describe(*run)) {
    mutex_.unlock();
    source_.free_pages(*run);
    mutex_.lock();
    run = fail(Errc::not_supported);
  }
  if (!run) {
    pages_.give_back(index);
    return fail(run.error());
  }
  pages_.open(index, *run);
  lru_.add_youngest(pages_, index);
  page_count_.store(total_pages() + 1, std::memory_order_relaxed);
  if (kZ3foldRedZones && !ChunkedPage::needs_whole_page(size_bytes)) {
    std::memset(run->data, kZ3foldRedZoneByte, ChunkedPage::kRedZoneBytes);
  }
  return index;
}

// A page with room for the object, in no list by room, youngest of all.
Result<PageIndex> Z3foldPool::page_for(std::size_t size_bytes, Gfp gfp) noexcept {
  PageIndex index = kNoPage;
  if (!ChunkedPage::needs_whole_page(size_bytes)) {
    index = room_.best(pages_, ChunkedPage::chunks_for(size_bytes));
  }
  if (index == kNoPage && deferred_count_ != 0) index = compact_for(size_bytes);
  if (index == kNoPage) return fresh_page(size_bytes, gfp);
  delist(index);
  lru_.make_youngest(pages_, index);
  return index;
}

// ---------------------------------------------------------------- objects

// Where a result is handed up it is rebuilt from its value, or returned as it comes: a copy of two
// registers goes through the stack as one wide load, which waits for every store before it.
Result<Handle> Z3foldPool::add(std::size_t size_bytes, Gfp gfp, const std::byte* object) noexcept {
  gfp = gfp | gfp_;
  if (Status fits = check_object_request(size_bytes, gfp, kTraits); !fits) {
    return failed(fits.error());
  }
  // An object that is written before its handle is known is born mapped, so that no eviction meets
  // it half done, and no compaction moves it.
  const bool write = object != nullptr || has(gfp, Gfp::zero);
  const Result<Handle> handle = place(size_bytes, gfp, write ? 1 : 0);
  if (!handle) return failed(handle.error());
  if (write) {
    const std::uint32_t slot = handle_bits::index(*handle);
    const Place at(handles_.place_of_slot(slot));
    std::byte* bytes = pages_[at.page()].place(at.buddy());
    if (object != nullptr) {
      std::memcpy(bytes, object, size_bytes);
    } else {
      std::memset(bytes, 0, size_bytes);
    }
    handles_.end_first_mapping(slot);
  }
  return *handle;
}

Failure Z3foldPool::failed(Errc why) noexcept {
  failures_.fetch_add(1, std::memory_order_relaxed);  // a number on its own
  return fail(why);
}

Result<Handle> Z3foldPool::place(std::size_t size_bytes, Gfp gfp, unsigned pins) noexcept {
  if (has(gfp, Gfp::nowait)) {
    if (!mutex_.try_lock()) return fail(Errc::try_again);
  } else {
    mutex_.lock();
  }
  ShortLockGuard lock(mutex_, ShortLockGuard::Adopt{});
  return place_locked(size_bytes, gfp, pins);
}

Result<Handle> Z3foldPool::place_locked(std::size_t size_bytes, Gfp gfp, unsigned pins) noexcept {
  const Result<std::uint32_t> slot = handles_.reserve(!has(gfp, Gfp::nowait));
  if (!slot) return fail(slot.error());
  const Result<PageIndex> index = page_for(size_bytes, gfp);
  if (!index) {
    handles_.cancel(*slot);
    return fail(index.error());
  }
  ChunkedPage& page = pages_[*index];
  const Buddy buddy = page.choose(ChunkedPage::chunks_for(size_bytes));
  page.put(buddy, size_bytes);
  pages_.slot(*index, buddy) = *slot;
  enlist(*index);
  ++allocations_;
  payload_bytes_ += size_bytes;
  return handles_.publish(*slot, Place(*index, buddy).word(), pins);
}

Status Z3foldPool::free(Handle handle) noexcept {
  // Looked at first without the lock: misuse costs others nothing, and what is about to change is on
  // its way into the cache.
  const auto seen = handles_.glimpse(handle);
  if (!seen.live) return fail(Errc::invalid_argument);
  if (seen.mapped) return fail(Errc::busy);
  __builtin_prefetch(&pages_[Place(seen.place).page()], /*for writing=*/1);
  ShortLockGuard lock(mutex_);
  const Result<std::uint64_t> killed = handles_.kill(handle);
  // By now it may be dead, or mapped.
  if (!killed) return fail(killed.error());
  const Place place(*killed);
  ChunkedPage& page = pages_[place.page()];
  const bool is_evicted = page.is_evicted != 0;
  // The slot goes at once, also that of an object whose page may survive its eviction.
  if (MMKIT_MUTATE(MMKIT_MUTANT_z3fold_freed_buddy_keeps_slot, true, !is_evicted)) {
    handles_.recycle(handle_bits::index(handle));
  }
  if constexpr (kZ3foldRedZones) MMKIT_CHECK(red_zone_is_whole(place.page()));
  delist(place.page());
  const std::size_t size_bytes = page.size_bytes[place.buddy()];
  const std::byte* const object = page.place(place.buddy());
  payload_bytes_ -= size_bytes;
  page.take_out(place.buddy());
  ++frees_;
  // A page that is being evicted belongs to the shrink that took it off the lists, a whole one too.
  if (MMKIT_MUTATE(MMKIT_MUTANT_z3fold_whole_page_freed_twice, is_evicted,
                   is_evicted && !ChunkedPage::needs_whole_page(size_bytes))) {
    return {};
  }
  PageRun run;
  if (page.empty()) {
    run = retire(place.page());
  } else {
    enlist(place.page());
    lru_.prefetch_neighbours(pages_, place.page());  // of whoever takes the room
    run = defer(place.page());
  }
  lock.unlock();
  detail::fetch_soon(object);  // its room is taken again soon
  if (run.data != nullptr) source_.free_pages(run);
  return {};
}

void Z3foldPool::touch(Handle handle) noexcept {
  ShortLockGuard lock(mutex_);
  if (!handles_.is_live(handle)) return;
  const PageIndex index = Place(handles_.place_of_slot(handle_bits::index(handle))).page();
  if (!pages_[index].is_evicted) lru_.make_youngest(pages_, index);
}

}  // namespace mmkit
