// SPDX-License-Identifier: MIT
#include <mmkit/zpool/zpool.hpp>

#include <algorithm>
#include <mmkit/base/mutant.hpp>
#include <mmkit/page/default_page_source.hpp>
#include <new>
#include <utility>

#include "base/probe.hpp"
#include "zpool/zpool_control.hpp"

namespace mmkit {

// ---------------------------------------------------------------- life

Zpool::Control::Control(detail::DriverHold hold, ZpoolOptions&& options, PageSource& source,
                        std::size_t limit_pages) noexcept
    : driver(std::move(hold)),
      name(std::move(options.name)),
      gfp(options.gfp),
      evict(std::move(options.evict)),
      pages(source, limit_pages),
      traits(driver->driver().traits()),
      evictable(traits.can_shrink && evict != nullptr),
      lost_backend(driver->type(), name) {}

Zpool::Control::~Control() {
  leave_fork();
}

// Pages that the child does not have are found missing at the next call, by name, instead of at the
// next access, by a signal.
void Zpool::Control::on_child() noexcept {
  if (!pages.inherited_by_fork()) {
    pool->backend_ = &lost_backend;
    return;
  }
  // Pages that other threads were taking or giving back are not coming any more. Each of their
  // calls may have cost the child a page; it must not cost a place under the limit for ever.
  pages.recount(pool->backend_->total_pages());
}

bool Zpool::Control::describe(ZpoolInfo* info) const {
  if (lost()) return false;
  info->type = driver->type();
  info->name = name;
  info->tag = pool->tag_;
  info->limit_bytes = pool->limit_bytes();
  info->stats = pool->stats();
  return true;
}

Zpool::Zpool(std::unique_ptr<Control> control) noexcept : control_(std::move(control)) {
  control_->pool = this;
}

Result<std::unique_ptr<Zpool>> Zpool::create(std::string_view type, ZpoolOptions options) noexcept {
  std::size_t limit_pages = LimitedPageSource::kNoLimit;
  if (options.limit_bytes != 0) {
    limit_pages = options.limit_bytes / kPageSize;
    if (limit_pages == 0) return fail(Errc::invalid_argument);
  }
  DriverRegistry& registry = options.registry ? *options.registry : default_registry();
  detail::DriverHold driver = registry.hold(type);
  if (driver == nullptr) return fail(Errc::not_found);
  PageSource& source = options.pages ? *options.pages : default_page_source();
  const std::string params = std::move(options.params);

  std::unique_ptr<Control> control(
      new (std::nothrow) Control(std::move(driver), std::move(options), source, limit_pages));
  if (control == nullptr) return fail(Errc::out_of_memory);
  std::unique_ptr<Zpool> pool(new (std::nothrow) Zpool(std::move(control)));
  if (pool == nullptr) return fail(Errc::out_of_memory);
  if (Status started = pool->start(params); !started) return fail(started.error());
  return pool;
}

// Everything that can fail once the object stands; the destructor undoes as much as was done.
Status Zpool::start(std::string_view params) noexcept {
  Control& control = *control_;
  const Result<std::uint16_t> tag = claim_pool_tag();
  if (!tag) return fail(tag.error());
  tag_ = *tag;

  BackendEnv env{.name = control.name,
                 .params = params,
                 .pages = &control.pages,
                 .gfp = control.gfp,
                 .pool_tag = tag_,
                 .evict = {}};
  // One captured pointer: fits into the function object, so nothing is allocated.
  if (control.evictable) env.evict = [this](Handle handle) { return evict(handle); };
  Result<std::unique_ptr<ZpoolBackend>> backend =
      control.driver->driver().create_pool(std::move(env));
  if (!backend) return fail(backend.error());
  if (*backend == nullptr) return fail(Errc::out_of_memory);  // a driver of little care
  control.backend = *std::move(backend);
  backend_ = control.backend.get();
  if (const std::size_t most = backend_->max_object_bytes(); most != 0) {
    control.traits.max_object_bytes = most;
  }

  if (Status joined = control.join_fork(LockRank::live_pools); !joined) return joined;
  add_live_pool(control);
  return {};
}

Zpool::~Zpool() {
  Control& control = *control_;
  remove_live_pool(control);
  control.leave_fork();
  if (backend_ != nullptr && control.lost()) {
    // Its pages are not in this process: it cannot be taken apart, only forgotten.
    static_cast<void>(control.backend.release());
  }
  control.backend.reset();
  if (tag_ != 0) release_pool_tag(tag_);
}

// ---------------------------------------------------------------- what it is

std::string_view Zpool::type() const noexcept {
  return control_->driver->type();
}
std::string_view Zpool::name() const noexcept {
  return control_->name;
}
bool Zpool::evictable() const noexcept {
  return control_->evictable;
}
std::size_t Zpool::max_object_bytes() const noexcept {
  return control_->traits.max_object_bytes;
}
std::size_t Zpool::limit_bytes() const noexcept {
  return control_->pages.limited() ? control_->pages.limit_pages() * kPageSize : 0;
}

// ---------------------------------------------------------------- eviction

namespace {

// The pools whose evict callbacks this thread is in, innermost first.
struct EvictFrame {
  const Zpool* pool;
  const EvictFrame* outer;
};
constinit thread_local const EvictFrame* evicting = nullptr;

bool is_evicting(const Zpool* pool) noexcept {
  for (const EvictFrame* at = evicting; at != nullptr; at = at->outer) {
    if (at->pool == pool) return true;
  }
  return false;
}

// Other threads may take the page that an eviction frees; more often than this in a row means that
// the limit is too small for what is going on.
constexpr unsigned kLimitTries = 16;

}  // namespace

Status Zpool::evict(Handle handle) noexcept {
  const EvictFrame frame{this, evicting};
  evicting = &frame;
  const Status given_up = control_->evict(*this, handle);
  evicting = frame.outer;
  MMKIT_PROBE(zpool_evict, tag_, handle_bits::raw(handle), given_up.has_value());
  return given_up;
}

Result<Handle> Zpool::retry(Errc why, const std::byte* object, std::size_t size_bytes,
                            Gfp gfp) noexcept {
  Control& control = *control_;
  // An eviction calls the user, who may wait. Inside a callback of this pool it would call the user
  // again, as deep as there are pages.
  if (why != Errc::out_of_memory || !control.pages.limited() || !control.evictable ||
      has(gfp | control.gfp, Gfp::nowait) ||
      MMKIT_MUTATE(MMKIT_MUTANT_zpool_evicts_inside_eviction, is_evicting(this), false)) {
    return fail(why);
  }
  for (unsigned tries = 0;; ++tries) {
    const std::uint64_t refusals = control.pages.refusals();
    // The try before was a failure that the backend counted and the caller does not see. Release:
    // pairs with stats().
    control.retried.fetch_add(1, std::memory_order_release);
    Result<Handle> handle = object == nullptr ? backend_->allocate(size_bytes, gfp)
                                              : backend_->store(std::span(object, size_bytes), gfp);
    if (handle || handle.error() != Errc::out_of_memory) return handle;
    // Only the limit is cured by evicting here; a source without pages is not.
    const bool was_limit = MMKIT_MUTATE(MMKIT_MUTANT_zpool_evicts_for_want_of_pages,
                                        control.pages.refusals() != refusals, true);
    if (!was_limit || tries == kLimitTries) return handle;
    // A shrink that frees no page may have made room in one, so there is a last try behind it.
    if (backend_->shrink(1).reclaimed_pages == 0) tries = kLimitTries - 1;
  }
}

ShrinkOutcome Zpool::shrink(std::size_t pages) noexcept {
  if (!control_->evictable || pages == 0) return {0, fail(Errc::invalid_argument)};
  return backend_->shrink(pages);
}

Result<std::size_t> Zpool::compact() noexcept {
  MMKIT_PROBE(zpool_compact_begin, tag_, total_bytes());
  const Result<std::size_t> freed = backend_->compact();
  MMKIT_PROBE(zpool_compact_end, tag_, freed ? *freed : 0);
  return freed;
}

ZpoolStats Zpool::stats() const noexcept {
  // First, and acquire: pairs with retry(), so that each of these is among the failures below.
  const std::uint64_t retried = control_->retried.load(std::memory_order_acquire);
  ZpoolStats stats = backend_->stats();
  stats.failures -= std::min(retried, stats.failures);  // a driver need not count
  stats.metadata_bytes += sizeof(Zpool) + sizeof(Control);
  return stats;
}

Status Zpool::validate() const noexcept {
  return backend_->validate();
}

// ---------------------------------------------------------------- misuse

void Zpool::report(Handle handle, std::string_view fault) const noexcept {
  report_failure({type(), name(), fault, handle_bits::raw(handle)});
}

void Zpool::report_free(Handle handle, Errc why) const noexcept {
  if (handle == Handle::none) report(handle, "null handle");
  if (handle_bits::tag(handle) != tag_) report(handle, "foreign handle");
  report(handle, why == Errc::busy ? "mapped handle freed" : "dead handle");
}

void Zpool::report_map(Handle handle, Errc why) const noexcept {
  if (why == Errc::out_of_memory) report(handle, "no memory to count the mappings of handle");
  report_free(handle, Errc::invalid_argument);
}

}  // namespace mmkit
