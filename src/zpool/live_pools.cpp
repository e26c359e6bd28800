// SPDX-License-Identifier: MIT
#include "zpool/live_pools.hpp"

#include <pthread.h>

#include <algorithm>
#include <mmkit/base/bitmap.hpp>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <string_view>

namespace mmkit {
namespace {

constexpr std::size_t kTags = std::size_t{1} << 16;

// Where a visitor stands in the list while it looks at a pool without the lock: in front of the pool
// that comes next, whatever comes and goes meanwhile. So a visit needs no memory.
class Cursor final : public LivePool {
 public:
  bool describe(ZpoolInfo*) const override { return false; }
  bool is_mine() const noexcept { return ::pthread_equal(thread_, ::pthread_self()) != 0; }

 private:
  const pthread_t thread_ = ::pthread_self();
};

// The names of one pool, which may end while it is shown.
class NameCopies {
 public:
  void take(ZpoolInfo* info) noexcept {
    info->type = take(info->type, type_);
    info->name = take(info->name, name_);
  }

 private:
  template <std::size_t kBytes>
  static std::string_view take(std::string_view text, char (&copy)[kBytes]) noexcept {
    return {copy, text.copy(copy, kBytes)};
  }

  char type_[32];
  char name_[kMostNameBytesListed];
};

class LivePools final : public ForkParticipant {
 public:
  Result<std::uint16_t> claim_tag() noexcept {
    // Here, since nothing else of this object can fail; joining twice does nothing.
    if (Status joined = join_fork(LockRank::live_pools); !joined) return fail(joined.error());
    MutexLock lock(mutex_);
    std::size_t tag = bitmap::next_clear(tags_, next_tag_, kTags);
    if (tag == kTags) tag = bitmap::next_clear(tags_, kFirstTag, next_tag_);
    if (bitmap::test(tags_, tag)) return fail(Errc::out_of_memory);
    bitmap::set(tags_, tag);
    next_tag_ = tag + 1 == kTags ? kFirstTag : tag + 1;
    return static_cast<std::uint16_t>(tag);
  }
  void release_tag(std::uint16_t tag) noexcept {
    MutexLock lock(mutex_);
    MMKIT_ASSERT(bitmap::test(tags_, tag));
    bitmap::clear(tags_, tag);
  }
  void add(LivePool& pool) noexcept {
    MutexLock lock(mutex_);
    pool.number = ++last_number_;
    pools_.push_back(pool);
  }
  void remove(LivePool& pool) noexcept {
    MutexLock lock(mutex_);
    if (pool.is_linked()) pools_.remove(pool);
  }
  void visit_all(const std::function<void(const ZpoolInfo&)>& visit) {
    Cursor cursor;
    NameCopies names;
    MutexLock lock(mutex_);
    const std::uint64_t newest = last_number_;
    pools_.push_front(cursor);
    while (LivePool* next = pools_.next(cursor)) {
      if (next->number > newest) break;  // made since the visit began
      pools_.remove(cursor);
      pools_.insert_after(*next, cursor);
      ZpoolInfo info;
      if (!next->describe(&info)) continue;
      names.take(&info);
      lock.unlock();
      visit(info);
      lock.lock();
    }
    pools_.remove(cursor);
  }

 private:
  static constexpr std::size_t kFirstTag = 1;

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex_.lock_for_fork(); }
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }
  // Visitors of other threads are not in the child, and their stacks will be used for others.
  void on_child() noexcept override {
    MutexLock lock(mutex_);
    for (LivePool* at = pools_.front(); at != nullptr;) {
      LivePool* next = pools_.next(*at);
      const bool is_cursor = at->number == 0;
      const bool is_gone = is_cursor && !static_cast<Cursor*>(at)->is_mine();
      if (MMKIT_MUTATE(MMKIT_MUTANT_live_pools_cursor_stays_in_child, is_gone, false)) {
        pools_.remove(*at);
      }
      at = next;
    }
  }

  mutable Mutex mutex_{LockRank::live_pools};
  IntrusiveList<LivePool> pools_ MMKIT_GUARDED_BY(mutex_);
  std::uint64_t last_number_ MMKIT_GUARDED_BY(mutex_) = 0;
  std::size_t next_tag_ MMKIT_GUARDED_BY(mutex_) = kFirstTag;
  std::uint64_t tags_[bitmap::words_for(kTags)] MMKIT_GUARDED_BY(mutex_) = {};
};

// Never destroyed: a pool of static life may end after everything here would have.
LivePools& live_pools() noexcept {
  alignas(LivePools) static std::byte memory[sizeof(LivePools)];
  static LivePools& pools = *::new (static_cast<void*>(memory)) LivePools;
  return pools;
}

}  // namespace

Result<std::uint16_t> claim_pool_tag() noexcept {
  return live_pools().claim_tag();
}
void release_pool_tag(std::uint16_t tag) noexcept {
  live_pools().release_tag(tag);
}
void add_live_pool(LivePool& pool) noexcept {
  live_pools().add(pool);
}
void remove_live_pool(LivePool& pool) noexcept {
  live_pools().remove(pool);
}

void for_each_live_pool(const std::function<void(const ZpoolInfo&)>& visit) noexcept {
  live_pools().visit_all(visit);
}

}  // namespace mmkit
