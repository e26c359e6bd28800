// SPDX-License-Identifier: MIT
#include "zpool/live_pools.hpp"

#include <mmkit/base/bitmap.hpp>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <utility>
#include <vector>

namespace mmkit {
namespace {

constexpr std::size_t kTags = std::size_t{1} << 16;

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
    pools_.push_back(pool);
  }
  void remove(LivePool& pool) noexcept {
    MutexLock lock(mutex_);
    pools_.remove(pool);
  }
  std::vector<ZpoolInfo> describe_all() const {
    std::vector<ZpoolInfo> infos;
    MutexLock lock(mutex_);
    for (const LivePool* at = pools_.front(); at != nullptr; at = pools_.next(*at)) {
      ZpoolInfo info;
      if (at->describe(&info)) infos.push_back(std::move(info));
    }
    return infos;
  }

 private:
  static constexpr std::size_t kFirstTag = 1;

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex_.lock_for_fork(); }
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }

  mutable Mutex mutex_{LockRank::live_pools};
  IntrusiveList<LivePool> pools_ MMKIT_GUARDED_BY(mutex_);
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

void for_each_live_pool(const std::function<void(const ZpoolInfo&)>& visit) {
  for (const ZpoolInfo& info : live_pools().describe_all()) visit(info);
}

}  // namespace mmkit
