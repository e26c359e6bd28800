// SPDX-License-Identifier: MIT
//
// zheap, its life: parameters, birth, end, fork; and what a pool tells of itself.
#include <algorithm>
#include <charconv>
#include <mmkit/base/mutant.hpp>
#include <new>
#include <utility>

#include "zpool/driver_of.hpp"
#include "zpool/params.hpp"
#include "zpool/zheap_eviction.hpp"

namespace mmkit {
namespace {

// How far above the floor moves begin: what is owed takes some calls, in which others free.
constexpr double kAhead = 0.004;

// A decimal fraction between 0 and `most`.
Result<double> parse_fraction(std::string_view text, double most) noexcept {
  double value = 0;
  const char* const end = text.data() + text.size();
  const std::from_chars_result read =
      std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (read.ec != std::errc{} || read.ptr != end) return fail(Errc::invalid_argument);
  if (!(value >= 0 && value <= most)) return fail(Errc::invalid_argument);
  return value;
}

}  // namespace

const ZpoolDriver& zheap_driver() noexcept {
  return driver_of<ZheapPool>();
}

// ---------------------------------------------------------------- life

Result<ZheapPool::Params> ZheapPool::parse(std::string_view params) noexcept {
  Params parsed;
  while (true) {
    const Result<Param> param = next_param(params);
    if (!param) return fail(param.error());
    if (param->key.empty()) {
      const double most_free = parsed.floor == 0 ? 1 : 1 - parsed.floor - kAhead;
      parsed.most_free = static_cast<std::size_t>(most_free * (1U << kMostFreeBits));
      return parsed;
    }
    if (param->key == "floor") {
      const Result<double> floor = parse_fraction(param->value, kMostFloor);
      if (!floor) return fail(floor.error());
      parsed.floor = *floor;
    } else if (param->key == "max_object") {
      const Result<std::uint64_t> bytes = parse_number(param->value, kPageSize, kMostObjectBytes);
      if (!bytes) return fail(Errc::invalid_argument);
      parsed.max_object_bytes = static_cast<std::size_t>(*bytes);
    } else {
      return fail(Errc::invalid_argument);
    }
  }
}

Result<std::unique_ptr<ZheapPool>> ZheapPool::create(BackendEnv&& env) noexcept {
  if (env.pages == nullptr || env.pool_tag == 0) return fail(Errc::invalid_argument);
  const Result<Params> params = parse(env.params);
  if (!params) return fail(params.error());
  const std::string_view name = env.name;
  std::unique_ptr<ZheapPool> pool(new (std::nothrow) ZheapPool(std::move(env), *params));
  if (pool == nullptr) return fail(Errc::out_of_memory);
  if (Status started = pool->start(name); !started) return fail(started.error());
  return pool;
}

ZheapPool::ZheapPool(BackendEnv&& env, const Params& params) noexcept
    : EnginePool(kType, std::move(env)), params_(params) {}

// Everything that can fail once the object stands; the destructor undoes as much as was done.
Status ZheapPool::start(std::string_view name) noexcept {
  const std::size_t record_bytes = kWaiting + CpuStacks::stack_bytes(kMostWaiting);
  if (Status ready = begin_life(name, record_bytes); !ready) return ready;
  auto* const first = new (std::nothrow) HeapShard(blocks_);
  if (first == nullptr) return fail(Errc::out_of_memory);
  shards_[0].store(first, std::memory_order_release);  // pairs with shard()
  most_shards_ = std::min(engine_.stacks().cpus(), kMostShards);
  {
    ShortLockGuard lock(first->lock);
    if (Status ready = first->reserve(1); !ready) return ready;
  }
  const Result<std::uint32_t> number = blocks_.take_number(/*nowait=*/false);
  if (!number) return fail(number.error());
  blocks_.give_number(*number);
  return take_part_in_forks();
}

ZheapPool::~ZheapPool() {
  end_life();
  for (std::atomic<HeapShard*>& at : shards_) {
    HeapShard* const shard = at.load(std::memory_order_relaxed);
    if (shard == nullptr) continue;
    for (std::uint32_t i = 0; i < shard->blocks(); ++i) {
      source_.free_pages(run_of(shard->number(i)));
    }
    delete shard;
  }
  for (std::uint32_t n = 0; n < blocks_.size(); ++n) {
    if (blocks_[n].is(HeapBlockInfo::State::open) && blocks_.is_whole(n)) {
      source_.free_pages(run_of(n));
    }
  }
}

// ---------------------------------------------------------------- fork

// All that may change blocks: the same for a fork and for validate(), the only ones that hold several
// shards' locks. Under them no object is busy.
void ZheapPool::lock_shards() noexcept {
  evictions_mutex_.lock_for_fork();
  for (std::atomic<HeapShard*>& at : shards_) {
    // Acquire: pairs with activate_shards().
    HeapShard* const shard = at.load(std::memory_order_acquire);
    if (shard == nullptr) break;
    shard->lock.lock_for_fork();
    ++locked_shards_;
  }
}
void ZheapPool::unlock_shards() noexcept {
  for (unsigned s = std::exchange(locked_shards_, 0); s-- != 0;) shard(s).lock.unlock();
  evictions_mutex_.unlock();
}

void ZheapPool::lock_for_fork() noexcept {
  waiting_.lock_for_fork();
  lock_shards();
  blocks_.lock_for_fork();
  engine_.lock_for_fork();
}
void ZheapPool::unlock_after_fork() noexcept {
  engine_.unlock_after_fork();
  blocks_.unlock_after_fork();
  unlock_shards();
  waiting_.unlock();
}

void ZheapPool::on_child() noexcept {
  begin_in_child();
  evicting_.store(0, std::memory_order_relaxed);
  while (Eviction* const others = eviction_of_another()) {
    static_cast<void>(end_eviction(static_cast<BlockEviction&>(*others)));
  }
}

// ---------------------------------------------------------------- statistics

std::size_t ZheapPool::metadata_bytes() const noexcept {
  std::size_t of_shards = 0;
  for (unsigned s = 0; s < active_.load(std::memory_order_acquire); ++s) {
    of_shards += shard(s).bytes();
  }
  return sizeof(*this) + shared_metadata_bytes() + blocks_.bytes() + of_shards;
}

ZheapDensity ZheapPool::density() const noexcept {
  std::size_t used = 0, held = 0, blocks = 0;
  const unsigned shards = active_.load(std::memory_order_acquire);  // pairs with activate_shards()
  for (unsigned s = 0; s < shards; ++s) {
    HeapShard& each = shard(s);
    ShortLockGuard lock(each.lock);
    used += each.used();
    held += each.held();
    blocks += each.blocks();
  }
  return {.floor = params_.floor,
          .density = held == 0 ? 1.0 : static_cast<double>(used) / static_cast<double>(held),
          .blocks = blocks,
          .shards = shards,
          .passed = passed_.load(std::memory_order_relaxed),
          .emptied = emptied_.load(std::memory_order_relaxed)};
}

// Of extents that wait on CPUs: what payload_bytes must not count any more.
std::uint64_t ZheapPool::waiting_bytes() const noexcept {
  if (granted_.load(std::memory_order_relaxed) == 0) return 0;
  MutexLock lock(waiting_);
  const CpuStacks::Stopped stopped(engine_.stacks());
  std::uint64_t bytes = 0;
  for (unsigned cpu = 0; cpu < engine_.stacks().cpus(); ++cpu) {
    for (const std::uint32_t number : stopped.numbers(cpu, kWaiting)) {
      bytes += bytes_of(engine_.slot(number - 1).load(std::memory_order_relaxed)).size();
    }
  }
  return bytes;
}

ZpoolStats ZheapPool::stats() const noexcept {
  const std::uint64_t waiting = waiting_bytes();
  ZpoolStats stats = count(bytes_released_.load(std::memory_order_relaxed) + waiting);
  stats.metadata_bytes = metadata_bytes();
  for (unsigned s = 0; s < active_.load(std::memory_order_acquire); ++s) {
    const HeapShard& each = shard(s);
    const std::size_t used = each.used(), held = each.held();
    const std::size_t needed = used + used / kOutOfReachShare;
    if (held <= needed) continue;
    stats.compactable_pages +=
        (held - needed) / HeapBlock::granules_in(HeapBlock::kMostPages) * HeapBlock::kMostPages;
  }
  return stats;
}

}  // namespace mmkit
