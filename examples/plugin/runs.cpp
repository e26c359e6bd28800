// SPDX-License-Identifier: MIT
//
// Runs - a driver in a shared object of its own: one object per run of pages, for objects larger
// than the built-in drivers take.
//
// An object of n bytes has ceil(n / 4096) pages to itself, and nothing else lies in them. So there
// is nothing to place and nothing to move, a mapping is the run itself, and an eviction gives back
// all of it. What is wasted is the end of the last page.
//
//   handle -> Slot: generation, run, size, pins; its links in `lru_`, youngest first
//
// `params`: `max_object=4096`, up to 16 MiB, the largest object in bytes.
// Invariants: 1 a slot is live or free; a live one that is not being evicted is in `lru_`
//             2 a mapped object is not freed, and not asked for
//             3 a generation of a slot is used once; a slot that has none left is retired
// Locking:    one mutex of rank pool; pages and evictions are asked for without it
// Complexity: everything O(1), but validate(), and shrink() where mapped objects are old
#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdint>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/growing_array.hpp>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/zpool/driver.hpp>
#include <mmkit/zpool/plugin.hpp>
#include <new>
#include <string_view>
#include <utility>

namespace {

using namespace mmkit;

constexpr std::string_view kType = "runs";
constexpr DriverTraits kTraits{.max_object_bytes = kPageSize, .can_shrink = true};
constexpr std::size_t kMostObjectBytes = std::size_t{16} << 20;
// Refusals after which a shrink gives up.
constexpr unsigned kMostRefusals = 8;
// Slots made at a time; some are ready from the start, for calls that must not wait.
constexpr std::uint32_t kSlotsAtATime = 64;
constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};

constexpr std::size_t pages_of(std::size_t size_bytes) noexcept {
  return (size_bytes + kPageSize - 1) / kPageSize;
}

// The only parameter. Errors: invalid_argument (another one, or no number within its range).
Result<std::size_t> parse_max_object(std::string_view params) noexcept {
  constexpr std::string_view kSeparators = ", ";
  constexpr std::string_view kKey = "max_object=";
  std::size_t most = kTraits.max_object_bytes;
  while (true) {
    params.remove_prefix(std::min(params.find_first_not_of(kSeparators), params.size()));
    if (params.empty()) return most;
    std::string_view word = params.substr(0, params.find_first_of(kSeparators));
    params.remove_prefix(word.size());
    if (word.substr(0, kKey.size()) != kKey) return fail(Errc::invalid_argument);
    word.remove_prefix(kKey.size());
    const char* const end = word.data() + word.size();
    const std::from_chars_result read = std::from_chars(word.data(), end, most);
    if (read.ec != std::errc{} || read.ptr != end || most < kTraits.max_object_bytes ||
        most > kMostObjectBytes) {
      return fail(Errc::invalid_argument);
    }
  }
}

struct Slot : ListNode<> {
  PageRun run;
  Handle handle = Handle::none;
  std::uint32_t size_bytes = 0;
  std::uint32_t pins = 0;
  std::uint32_t generation = 1;
  std::uint32_t next_free = kNoSlot;
  bool live = false;
};

class RunPool final : public ZpoolBackend, private ForkParticipant {
 public:
  static Result<std::unique_ptr<ZpoolBackend>> create(BackendEnv&& env) noexcept {
    const Result<std::size_t> most = parse_max_object(env.params);
    if (!most) return fail(most.error());
    std::unique_ptr<char[]> name(new (std::nothrow) char[env.name.size() + 1]);
    if (name == nullptr) return fail(Errc::out_of_memory);
    const std::string_view kept(name.get(), env.name.copy(name.get(), env.name.size()));
    std::unique_ptr<RunPool> pool(new (std::nothrow)
                                      RunPool(std::move(env), std::move(name), kept, *most));
    if (pool == nullptr) return fail(Errc::out_of_memory);
    {
      MutexLock lock(pool->mutex_);
      if (Status ready = pool->add_slots(); !ready) return fail(ready.error());
    }
    if (Status joined = pool->join_fork(LockRank::pool); !joined) return fail(joined.error());
    return std::unique_ptr<ZpoolBackend>(std::move(pool));
  }

  ~RunPool() override {
    leave_fork();
    report_leftovers();
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      if (!slots_[i].live) continue;
      if (slots_[i].is_linked()) lru_.remove(slots_[i]);
      source_.free_pages(slots_[i].run);
    }
  }

  Result<Handle> allocate(std::size_t size_bytes, Gfp gfp) noexcept override {
    Result<Handle> handle = try_allocate(size_bytes, gfp | gfp_);
    // Relaxed: a count.
    if (!handle) failures_.fetch_add(1, std::memory_order_relaxed);
    return handle;
  }

  Status free(Handle handle) noexcept override {
    MutexLock lock(mutex_);
    Slot* const slot = find(handle);
    if (slot == nullptr) return fail(Errc::invalid_argument);
    if (slot->pins != 0) return fail(Errc::busy);
    if (slot->is_linked()) lru_.remove(*slot);
    const PageRun run = slot->run;
    slot->live = false;
    if (++slot->generation <= handle_bits::kMaxGeneration) {
      slot->next_free = first_free_;
      first_free_ = handle_bits::index(handle);
    }
    counts_.objects -= 1;
    counts_.payload_bytes -= slot->size_bytes;
    counts_.frees += 1;
    pages_.fetch_sub(run.pages, std::memory_order_relaxed);
    lock.unlock();
    source_.free_pages(run);
    return {};
  }

  void touch(Handle handle) noexcept override {
    MutexLock lock(mutex_);
    Slot* const slot = find(handle);
    if (slot != nullptr && slot->is_linked()) lru_.move_to_front(*slot);
  }

  Result<std::span<std::byte>> map(Handle handle, MapMode) noexcept override {
    MutexLock lock(mutex_);
    Slot* const slot = find(handle);
    if (slot == nullptr) return fail(Errc::not_found);
    ++slot->pins;
    return std::span(slot->run.data, slot->size_bytes);
  }

  void unmap(Handle handle) noexcept override {
    MutexLock lock(mutex_);
    Slot* const slot = find(handle);
    if (slot == nullptr || slot->pins == 0) {
      lock.unlock();
      report_failure({kType, name_, "handle not mapped", handle_bits::raw(handle)});
    }
    --slot->pins;
  }

  ShrinkOutcome shrink(std::size_t pages) noexcept override {
    ShrinkOutcome outcome;
    if (pages == 0 || !evict_) return {0, fail(Errc::invalid_argument)};
    unsigned refusals = 0;
    MutexLock lock(mutex_);
    while (outcome.reclaimed_pages < pages) {
      if (counts_.objects == 0) return {outcome.reclaimed_pages, fail(Errc::invalid_argument)};
      Slot* const oldest = oldest_unmapped();
      if (oldest == nullptr) return {outcome.reclaimed_pages, fail(Errc::try_again)};
      // Out of the list, so that no other thread asks for it meanwhile.
      lru_.remove(*oldest);
      const Handle handle = oldest->handle;
      const std::size_t held = oldest->run.pages;
      lock.unlock();
      const Status given_up = evict_(handle);
      lock.lock();
      if (Slot* const stays = find(handle); stays != nullptr) {
        if (!stays->is_linked()) lru_.push_front(*stays);
        if (++refusals == kMostRefusals) {
          return {outcome.reclaimed_pages, fail(Errc::try_again)};
        }
        continue;
      }
      outcome.reclaimed_pages += held;
      if (given_up) ++counts_.evicted;
    }
    return outcome;
  }

  Result<std::size_t> compact() noexcept override { return fail(Errc::not_supported); }
  std::size_t max_object_bytes() const noexcept override { return traits_.max_object_bytes; }
  std::size_t total_pages() const noexcept override {
    return pages_.load(std::memory_order_relaxed);
  }

  ZpoolStats stats() const noexcept override {
    MutexLock lock(mutex_);
    ZpoolStats stats = counts_;
    stats.pages = total_pages();
    stats.metadata_bytes = sizeof *this + slots_.bytes();
    stats.failures = failures_.load(std::memory_order_relaxed);
    return stats;
  }

  Status validate() const noexcept override {
    MutexLock lock(mutex_);
    std::size_t objects = 0;
    std::size_t payload_bytes = 0;
    std::size_t pages = 0;
    std::size_t listed = 0;
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      const Slot& slot = slots_[i];
      if (!slot.live) {
        if (slot.is_linked() || slot.pins != 0) return fail(Errc::bad_format);  // 1, 2
        continue;
      }
      if (slot.handle != handle_bits::make(tag_, slot.generation, i)) return fail(Errc::bad_format);
      objects += 1;
      payload_bytes += slot.size_bytes;
      pages += slot.run.pages;
      listed += std::size_t{slot.is_linked()};
    }
    if (objects != counts_.objects || payload_bytes != counts_.payload_bytes ||
        pages != total_pages() || !lru_.validate(objects) || lru_.size() != listed) {
      return fail(Errc::bad_format);
    }
    return {};
  }

 private:
  RunPool(BackendEnv&& env, std::unique_ptr<char[]> name, std::string_view kept,
          std::size_t most_bytes) noexcept
      : source_(*env.pages),
        gfp_(env.gfp),
        tag_(env.pool_tag),
        evict_(std::move(env.evict)),
        name_bytes_(std::move(name)),
        name_(kept) {
    traits_.max_object_bytes = most_bytes;
  }

  Result<Handle> try_allocate(std::size_t size_bytes, Gfp gfp) noexcept {
    if (Status sane = check_object_request(size_bytes, gfp, traits_); !sane) {
      return fail(sane.error());
    }
    const bool waits = !has(gfp, Gfp::nowait);
    const Result<PageRun> run = source_.allocate_pages({.pages = pages_of(size_bytes), .gfp = gfp});
    if (!run) return fail(run.error());
    const Result<Handle> handle = publish(*run, size_bytes, waits);
    if (!handle) source_.free_pages(*run);
    return handle;
  }

  Result<Handle> publish(const PageRun& run, std::size_t size_bytes,
                         bool waits) noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
    if (waits) {
      mutex_.lock();
    } else if (!mutex_.try_lock()) {
      return fail(Errc::try_again);
    }
    Result<Handle> handle = Handle::none;
    if (first_free_ == kNoSlot && !waits) {
      handle = fail(Errc::out_of_memory);
    } else if (Status ready = add_slots(); !ready) {
      handle = fail(ready.error());
    } else {
      const std::uint32_t index = first_free_;
      Slot& slot = slots_[index];
      first_free_ = slot.next_free;
      slot.run = run;
      slot.size_bytes = static_cast<std::uint32_t>(size_bytes);
      slot.handle = handle_bits::make(tag_, slot.generation, index);
      slot.live = true;
      lru_.push_front(slot);
      counts_.objects += 1;
      counts_.payload_bytes += size_bytes;
      counts_.allocations += 1;
      pages_.fetch_add(run.pages, std::memory_order_relaxed);
      handle = slot.handle;
    }
    mutex_.unlock();
    return handle;
  }

  // Sees to it that a slot is free.
  Status add_slots() noexcept MMKIT_REQUIRES(mutex_) {
    if (first_free_ != kNoSlot) return {};
    const std::uint32_t before = slots_.size();
    if (Status grown = slots_.grow(before + kSlotsAtATime); !grown) return grown;
    for (std::uint32_t i = before; i < slots_.size(); ++i) {
      slots_[i].next_free = first_free_;
      first_free_ = i;
    }
    return {};
  }

  // The slot of a live object, or null.
  Slot* find(Handle handle) const noexcept MMKIT_REQUIRES(mutex_) {
    Slot* const slot = slots_.find(handle_bits::index(handle));
    return slot != nullptr && slot->live && slot->handle == handle ? slot : nullptr;
  }

  Slot* oldest_unmapped() noexcept MMKIT_REQUIRES(mutex_) {
    Slot* slot = lru_.back();
    while (slot != nullptr && slot->pins != 0) slot = lru_.prev(*slot);
    return slot;
  }

  void report_leftovers() const noexcept {
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      // In the child of a fork a mapping may be that of a thread which is not there.
      if (slots_[i].pins == 0 || inherited_) continue;
      report_failure(
          {kType, name_, "pool destroyed with live mapping", handle_bits::raw(slots_[i].handle)});
    }
    if (const std::size_t objects = stats().objects; objects != 0) {
      report_leak({kType, name_, "objects left at destruction", objects});
    }
  }

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex_.lock_for_fork(); }
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }
  // What other threads were evicting is not being evicted any more.
  void on_child() noexcept override {
    MutexLock lock(mutex_);
    inherited_ = true;
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].live && !slots_[i].is_linked()) lru_.push_front(slots_[i]);
    }
  }

  PageSource& source_;
  const Gfp gfp_;
  const std::uint16_t tag_;
  const std::function<Status(Handle)> evict_;
  const std::unique_ptr<char[]> name_bytes_;
  const std::string_view name_;
  DriverTraits traits_ = kTraits;
  bool inherited_ = false;

  mutable Mutex mutex_{LockRank::pool};
  GrowingArray<Slot> slots_;  // what is in them is guarded by mutex_
  std::uint32_t first_free_ MMKIT_GUARDED_BY(mutex_) = kNoSlot;
  IntrusiveList<Slot> lru_ MMKIT_GUARDED_BY(mutex_);
  ZpoolStats counts_ MMKIT_GUARDED_BY(mutex_);
  // Relaxed, both: counts that order nothing.
  std::atomic<std::size_t> pages_{0};
  std::atomic<std::uint64_t> failures_{0};
};

class RunDriver final : public ZpoolDriver {
 public:
  std::string_view type() const noexcept override { return kType; }
  DriverTraits traits() const noexcept override { return kTraits; }
  Result<std::unique_ptr<ZpoolBackend>> create_pool(BackendEnv&& env) const noexcept override {
    return RunPool::create(std::move(env));
  }
};

}  // namespace

MMKIT_ZPOOL_PLUGIN(RunDriver, "runs");
