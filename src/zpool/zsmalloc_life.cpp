// SPDX-License-Identifier: MIT
//
// zsmalloc, its life: parameters, birth, end, fork; and what a pool tells of itself.
#include <algorithm>
#include <mmkit/base/mutant.hpp>
#include <new>
#include <utility>

#include "zpool/driver_of.hpp"
#include "zpool/params.hpp"
#include "zpool/zsmalloc_closed.hpp"
#include "zpool/zsmalloc_eviction.hpp"

namespace mmkit {
namespace {

// A CPU keeps at most a KiB of a class for each object that `cache=` allows it, so of large objects
// fewer; and no more than fits in a record.
constexpr std::size_t kBytesPerObject = 1024, kMostBytesOfClass = std::size_t{32} << 10;
constexpr unsigned kFewestKept = 2;
constexpr unsigned kMostCacheObjects = CpuStacks::kMostNumbers;

constexpr unsigned capacity_for(const SizeClass& shape, unsigned cache_objects) noexcept {
  const std::size_t by_bytes =
      std::min(cache_objects * kBytesPerObject, kMostBytesOfClass) / shape.size_bytes;
  return static_cast<unsigned>(
      std::min<std::size_t>(cache_objects, std::max<std::size_t>(by_bytes, kFewestKept)));
}

constexpr std::size_t record_bytes_for(const SizeClasses& sizes, unsigned cache_objects) noexcept {
  std::size_t bytes = ObjectEngine::kFirstPlacementHead;
  for (unsigned c = 0; c < sizes.count(); ++c) {
    bytes += CpuStacks::stack_bytes(capacity_for(sizes[c], cache_objects));
  }
  return bytes;
}
static_assert(record_bytes_for(detail::kSizeClasses<4>, kMostCacheObjects) <= kPercpuMaxBytes);
static_assert(record_bytes_for(detail::kSizeClasses<8>, kMostCacheObjects) <= kPercpuMaxBytes);
static_assert(record_bytes_for(detail::kSizeClasses<16>, kMostCacheObjects) <= kPercpuMaxBytes);

}  // namespace

const ZpoolDriver& zsmalloc_driver() noexcept {
  return driver_of<ZsmallocPool>();
}

// ---------------------------------------------------------------- life

Result<ZsmallocPool::Params> ZsmallocPool::parse(std::string_view params) noexcept {
  Params parsed{SizeClasses::for_chain(kDefaultChainPages), kDefaultCacheObjects};
  while (true) {
    const Result<Param> param = next_param(params);
    if (!param) return fail(param.error());
    if (param->key.empty()) return parsed;
    if (param->key == "chain_pages") {
      const Result<std::uint64_t> pages = parse_number(param->value, 1, 1000);
      parsed.sizes = pages ? SizeClasses::for_chain(*pages) : nullptr;
      if (parsed.sizes == nullptr) return fail(Errc::invalid_argument);
    } else if (param->key == "cache") {
      const Result<std::uint64_t> objects = parse_number(param->value, 0, kMostCacheObjects);
      if (!objects) return fail(Errc::invalid_argument);
      parsed.cache_objects = static_cast<unsigned>(*objects);
    } else {
      return fail(Errc::invalid_argument);
    }
  }
}

Result<std::unique_ptr<ZsmallocPool>> ZsmallocPool::create(BackendEnv&& env) noexcept {
  if (env.pages == nullptr || env.pool_tag == 0) return fail(Errc::invalid_argument);
  const Result<Params> params = parse(env.params);
  if (!params) return fail(params.error());
  const std::string_view name = env.name;
  std::unique_ptr<ZsmallocPool> pool(new (std::nothrow) ZsmallocPool(std::move(env), *params));
  if (pool == nullptr) return fail(Errc::out_of_memory);
  if (Status started = pool->start(*params, name); !started) return fail(started.error());
  return pool;
}

ZsmallocPool::ZsmallocPool(BackendEnv&& env, const Params& params) noexcept
    : EnginePool(kType, std::move(env)), sizes_(*params.sizes) {}

// Everything that can fail once the object stands; the destructor undoes as much as was done.
Status ZsmallocPool::start(const Params& params, std::string_view name) noexcept {
  const unsigned count = sizes_.count();
  capacities_.reset(new (std::nothrow) std::uint8_t[count]);
  classes_.reset(new (std::nothrow) Class[count]);
  if (!capacities_ || !classes_) return fail(Errc::out_of_memory);

  std::size_t record_bytes = ObjectEngine::kFirstPlacementHead;
  for (unsigned c = 0; c < count; ++c) {
    capacities_[c] = static_cast<std::uint8_t>(capacity_for(sizes_[c], params.cache_objects));
    heads_[c] = static_cast<std::uint16_t>(record_bytes);
    record_bytes += CpuStacks::stack_bytes(capacities_[c]);
  }
  if (Status ready = begin_life(name, record_bytes); !ready) return ready;
  keep_descriptors_ready();
  const Result<std::uint32_t> number = take_number(/*nowait=*/false);
  if (!number) return fail(number.error());
  give_number(*number);
  return take_part_in_forks();
}

ZsmallocPool::~ZsmallocPool() {
  end_life();
  for (std::uint32_t n = 0; n < descriptors_.size(); ++n) {
    if (Zspage* zspage = find_zspage(n)) end(*zspage);
  }
  for (std::uint8_t kind = 0; kind < 2; ++kind) {
    ShortLockGuard lock(numbers_lock_);
    while (Spare* spare = spares_[kind]) {
      spares_[kind] = spare->next;
      ::operator delete(spare);
    }
  }
}

// ---------------------------------------------------------------- fork

// All that may change zspages: the same for a fork and for validate(), the only ones that hold several
// class locks. With slices_ among them no object is busy.
void ZsmallocPool::lock_zspages() noexcept {
  slices_.lock_for_fork();
  evictions_mutex_.lock_for_fork();
  for (unsigned c = 0; c < sizes_.count(); ++c) classes_[c].lock.lock_for_fork();
}
void ZsmallocPool::unlock_zspages() noexcept {
  for (unsigned c = sizes_.count(); c-- != 0;) classes_[c].lock.unlock();
  evictions_mutex_.unlock();
  slices_.unlock();
}

void ZsmallocPool::lock_for_fork() noexcept {
  lock_zspages();
  numbers_lock_.lock_for_fork();
  engine_.lock_for_fork();
}
void ZsmallocPool::unlock_after_fork() noexcept {
  engine_.unlock_after_fork();
  numbers_lock_.unlock();
  unlock_zspages();
}

void ZsmallocPool::on_child() noexcept {
  begin_in_child();
  while (Eviction* const others = eviction_of_another()) {
    static_cast<void>(end_eviction(static_cast<ZspageEviction&>(*others)));
  }
}

// ---------------------------------------------------------------- statistics

std::size_t ZsmallocPool::metadata_bytes() const noexcept {
  const std::size_t of_class = sizeof(Class) + sizeof(capacities_[0]);
  return sizeof(*this) + shared_metadata_bytes() + sizes_.count() * of_class + bases_.bytes() +
         ages_.bytes() + descriptors_.bytes() + descriptor_bytes_.load(std::memory_order_relaxed);
}

ZpoolStats ZsmallocPool::stats() const noexcept {
  ZpoolStats stats = count(/*gone_bytes=*/0);
  stats.metadata_bytes = metadata_bytes();
  for (unsigned c = 0; c < sizes_.count(); ++c) {
    stats.compactable_pages += freeable_pages(c, kept(c));
  }
  return stats;
}

void ZsmallocPool::for_each_class(
    const std::function<void(const ZsmallocClassStats&)>& visit) const noexcept {
  ZsmallocClassStats rows[SizeClasses::kMost];
  for (std::uint32_t n = 0; n < descriptors_.size(); ++n) {
    if (find_zspage(n) == nullptr) continue;
    const unsigned c = base_of(n).size_class();
    if (c >= sizes_.count()) continue;  // gone meanwhile
    MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_counts_what_is_gone, static_cast<void>(0),
                 detail::hold_window_open());
    ShortLockGuard lock(classes_[c].lock);
    const Zspage* const zspage = find_zspage(n);
    if (MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_counts_what_is_gone,
                     zspage == nullptr || base_of(n).size_class() != c, false)) {
      continue;
    }
    ++rows[c].zspages[zspage->group()];
    rows[c].pages += zspage->pages();
    rows[c].objects += zspage->in_use();
    rows[c].cells += zspage->cells();
  }
  for (unsigned c = 0; c < sizes_.count(); ++c) {
    ZsmallocClassStats& row = rows[c];
    if (row.cells == 0) continue;
    row.number = c;
    row.shape = sizes_[c];
    row.kept = kept(c);
    row.freeable_pages = freeable_pages(c, row.kept);
    visit(row);
  }
}

}  // namespace mmkit
