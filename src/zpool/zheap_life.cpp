// SPDX-License-Identifier: MIT
//
// zheap, its life: parameters, birth, end, fork; and what a pool tells of itself.
#include <algorithm>
#include <charconv>
#include <mmkit/base/mutant.hpp>
#include <new>
#include <utility>

#include "zpool/params.hpp"
#include "zpool/zheap_eviction.hpp"

namespace mmkit {
namespace {

class ZheapDriver final : public ZpoolDriver {
 public:
  std::string_view type() const noexcept override { return ZheapPool::kType; }
  DriverTraits traits() const noexcept override { return ZheapPool::kTraits; }
  Result<std::unique_ptr<ZpoolBackend>> create_pool(BackendEnv&& env) const noexcept override {
    Result<std::unique_ptr<ZheapPool>> pool = ZheapPool::create(std::move(env));
    if (!pool) return fail(pool.error());
    return std::unique_ptr<ZpoolBackend>(*std::move(pool));
  }
};

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
  // In memory that nobody destroys: a pool of static life may outlive everything that is.
  alignas(ZheapDriver) static std::byte memory[sizeof(ZheapDriver)];
  static const ZheapDriver& driver = *::new (static_cast<void*>(memory)) ZheapDriver;
  return driver;
}

// ---------------------------------------------------------------- life

Result<ZheapPool::Params> ZheapPool::parse(std::string_view params) noexcept {
  Params parsed;
  while (true) {
    const Result<Param> param = next_param(params);
    if (!param) return fail(param.error());
    if (param->key.empty()) return parsed;
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
    : params_(params),
      gfp_(env.gfp),
      source_(*env.pages),
      evict_(std::move(env.evict)),
      engine_(env.pool_tag) {}

// Everything that can fail once the object stands; the destructor undoes as much as was done.
Status ZheapPool::start(std::string_view name) noexcept {
  name_.reset(new (std::nothrow) char[name.size() + 1]);
  auto* const first = new (std::nothrow) HeapShard(blocks_);
  shards_[0].store(first, std::memory_order_release);  // pairs with shard()
  if (name_ == nullptr || first == nullptr) return fail(Errc::out_of_memory);
  std::copy(name.begin(), name.end(), name_.get());
  name_bytes_ = name.size();
  const std::size_t record_bytes = kWaiting + CpuStacks::stack_bytes(kMostWaiting);
  if (Status ready = engine_.start(record_bytes); !ready) return ready;
  most_shards_ = std::min(engine_.stacks().cpus(), kMostShards);
  {
    ShortLockGuard lock(first->lock);
    if (Status ready = first->reserve(1); !ready) return ready;
  }
  const Result<std::uint32_t> number = blocks_.take_number(/*nowait=*/false);
  if (!number) return fail(number.error());
  blocks_.give_number(*number);
  return join_fork(LockRank::pool);
}

ZheapPool::~ZheapPool() {
  leave_fork();
  if (shards_[0].load(std::memory_order_relaxed) == nullptr) return;  // it never began
  report_leftovers();
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

// Misuse or a leak, told without a lock: a handler may look at the pool.
void ZheapPool::report_leftovers() const noexcept {
  if (name_ == nullptr || engine_.slots() == 0) return;  // it never began
  const std::size_t objects = stats().objects;
  if (objects == 0) return;
  const std::string_view name(name_.get(), name_bytes_);
  // In the child of a fork a mapping may be that of a thread which is not there.
  const Handle mapped = inherited_ ? Handle::none : engine_.first_pinned();
  if (mapped != Handle::none) {
    report_failure({kType, name, "pool destroyed with live mapping", handle_bits::raw(mapped)});
  }
  report_leak({kType, name, "objects left at destruction", objects});
}

void ZheapPool::report_not_mapped(Handle handle) const noexcept {
  report_failure(
      {kType, {name_.get(), name_bytes_}, "handle not mapped", handle_bits::raw(handle)});
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
  looks_.lock_for_fork();
  lock_shards();
  blocks_.lock_for_fork();
  engine_.lock_for_fork();
}
void ZheapPool::unlock_after_fork() noexcept {
  engine_.unlock_after_fork();
  blocks_.unlock_after_fork();
  unlock_shards();
  looks_.unlock();
}

// What other threads of the parent were doing ends here: their compaction, their evictions. What they
// had in their hands stays in use for ever.
void ZheapPool::on_child() noexcept {
  inherited_ = true;
  engine_.on_child();
  compacting_.store(false, std::memory_order_relaxed);
  while (true) {
    Eviction* others = nullptr;
    {
      MutexLock lock(evictions_mutex_);
      for (Eviction* at = evictions_.front(); at != nullptr; at = evictions_.next(*at)) {
        if (::pthread_equal(at->thread, ::pthread_self()) == 0) others = at;
      }
    }
    if (MMKIT_MUTATE(MMKIT_MUTANT_zheap_evictions_stay_in_child, others == nullptr, true)) return;
    end_eviction(*others);
  }
}

// ---------------------------------------------------------------- statistics

std::size_t ZheapPool::metadata_bytes() const noexcept {
  std::size_t of_shards = 0;
  for (unsigned s = 0; s < active_.load(std::memory_order_acquire); ++s) {
    of_shards += shard(s).bytes();
  }
  return sizeof(*this) + name_bytes_ + 1 + engine_.metadata_bytes() + blocks_.bytes() + of_shards;
}

ZheapDensity ZheapPool::density() const noexcept {
  std::size_t used = 0, held = 0, blocks = 0;
  const unsigned shards = active_.load(std::memory_order_acquire);  // pairs with activate_shards()
  for (unsigned s = 0; s < shards; ++s) {
    HeapShard& each = shard(s);
    // So that the figures of one shard are of one instant.
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
  MutexLock lock(looks_);
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
  const std::uint64_t released = bytes_released_.load(std::memory_order_relaxed);
  const CpuStacks::Counts counts = engine_.stacks().counts();
  const std::uint64_t allocations =
      counts.allocations + allocations_aside_.load(std::memory_order_relaxed);
  const std::uint64_t bytes =
      counts.bytes + bytes_aside_.load(std::memory_order_relaxed) - released - waiting;
  const std::size_t pages = total_pages();
  std::size_t compactable = 0;
  for (unsigned s = 0; s < active_.load(std::memory_order_acquire); ++s) {
    const HeapShard& each = shard(s);
    const std::size_t used = each.used(), held = each.held();
    const std::size_t needed = used + used / kOutOfReachShare;
    if (held > needed) {
      compactable +=
          (held - needed) / HeapBlock::granules_in(HeapBlock::kMostPages) * HeapBlock::kMostPages;
    }
  }
  return {.objects = allocations - std::min(allocations, counts.frees),
          // While others work the sum is of several moments: not less than nothing, nor more than
          // there is room for.
          .payload_bytes = static_cast<std::int64_t>(bytes) < 0
                               ? 0
                               : std::min<std::size_t>(bytes, pages * kPageSize),
          .pages = pages,
          .metadata_bytes = metadata_bytes(),
          .compactable_pages = compactable,
          .allocations = allocations,
          .frees = counts.frees,
          .failures = failures_.load(std::memory_order_relaxed),
          .evicted = evicted_.load(std::memory_order_relaxed),
          .moved = moved_.load(std::memory_order_relaxed)};
}

}  // namespace mmkit
