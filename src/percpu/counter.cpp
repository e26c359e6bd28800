// SPDX-License-Identifier: MIT
#include <mmkit/percpu/counter.hpp>

#include <algorithm>
#include <limits>
#include <mmkit/base/cpu.hpp>
#include <mmkit/percpu/percpu.hpp>
#include <utility>

namespace mmkit {
namespace {

std::uint64_t default_batch() noexcept {
  constexpr std::uint64_t kLeast = 32;  // the kernel's; one central addition in 32 is not seen
  return std::max(kLeast, std::uint64_t{2} * possible_cpus());
}

// Adds to the unit of a CPU by atomics; what goes out of reach is folded out of that same unit, or
// one that was left behind in the middle would stay out of reach.
void add_by_atomics(std::uint64_t* word, std::uint64_t amount, std::uint64_t reach,
                    std::atomic<std::uint64_t>& central) noexcept {
  std::uint64_t* const local = detail::unit_address(word, current_cpu());
  const std::uint64_t now = __atomic_add_fetch(local, amount, __ATOMIC_RELAXED);
  if (now + reach <= 2 * reach) [[likely]]
    return;
  central.fetch_add(__atomic_exchange_n(local, 0, __ATOMIC_RELAXED), std::memory_order_relaxed);
}

}  // namespace

Result<PercpuCounter> PercpuCounter::create(std::int64_t initial, std::int32_t batch,
                                            PercpuAllocator* allocator) noexcept {
  if (batch < 0) return fail(Errc::invalid_argument);
  const Result<PercpuPtr<std::uint64_t>> locals = detail::percpu_allocate<std::uint64_t>(allocator);
  if (!locals) return fail(locals.error());
  const std::uint64_t used = batch == 0 ? default_batch() : static_cast<std::uint64_t>(batch);
  return PercpuCounter(*locals, static_cast<std::uint64_t>(initial), used - 1, *allocator);
}

PercpuCounter::PercpuCounter(PercpuPtr<std::uint64_t> locals, std::uint64_t initial,
                             std::uint64_t reach, PercpuAllocator& allocator) noexcept
    : locals_(locals),
      reach_(reach),
      allocator_(&allocator),
      units_(allocator.units()),
      central_(initial) {}

PercpuCounter::PercpuCounter(PercpuCounter&& other) noexcept
    : locals_(std::exchange(other.locals_, {})),
      reach_(other.reach_),
      allocator_(other.allocator_),
      units_(other.units_),
      central_(other.central_.load(std::memory_order_relaxed)) {}

PercpuCounter& PercpuCounter::operator=(PercpuCounter&& other) noexcept {
  if (this == &other) return *this;
  free_locals();
  locals_ = std::exchange(other.locals_, {});
  reach_ = other.reach_;
  allocator_ = other.allocator_;
  units_ = other.units_;
  central_.store(other.central_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  return *this;
}

PercpuCounter::~PercpuCounter() {
  free_locals();
}

void PercpuCounter::free_locals() noexcept {
  if (locals_) allocator_->free(percpu_cast<std::byte>(locals_));
}

// What did not fit, or a thread whose first operation this is: folding then is early, and right.
void PercpuCounter::add_and_fold(std::uint64_t amount) noexcept {
  if (detail::percpu_uses_atomics()) {
    return add_by_atomics(locals_.unit0, amount, reach_, central_);
  }
  // Possibly another CPU's unit than the one that refused: each is within reach at any time.
  const std::uint64_t local = this_cpu_xchg(locals_, 0);
  central_.fetch_add(local + amount, std::memory_order_relaxed);
}

std::int64_t PercpuCounter::sum() const noexcept {
  return static_cast<std::int64_t>(central_.load(std::memory_order_relaxed) +
                                   percpu_sum(locals_, units_));
}

int PercpuCounter::compare(std::int64_t value) const noexcept {
  const auto order = [](std::int64_t a, std::int64_t b) { return a < b ? -1 : a > b ? 1 : 0; };
  const auto distance = [](std::int64_t a, std::int64_t b) {
    return static_cast<std::uint64_t>(std::max(a, b)) - static_cast<std::uint64_t>(std::min(a, b));
  };
  using Limits = std::numeric_limits<std::int64_t>;
  const std::int64_t rough = read();
  const std::uint64_t off = reach_ * units_;
  // Where the sum may lie beyond the end of the numbers, the rough one says nothing.
  const bool wraps = distance(rough, Limits::min()) < off || distance(rough, Limits::max()) < off;
  if (distance(rough, value) > off && !wraps) return order(rough, value);
  return order(sum(), value);
}

void PercpuCounter::set(std::int64_t value) noexcept {
  // Adds what is missing, and leaves the locals alone: another CPU may be in the middle of one.
  central_.fetch_add(static_cast<std::uint64_t>(value) - static_cast<std::uint64_t>(sum()),
                     std::memory_order_relaxed);
}

}  // namespace mmkit
