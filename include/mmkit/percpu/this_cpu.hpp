// SPDX-License-Identifier: MIT
//
// this_cpu_* - operations on this CPU's copy of a variable, at the cost of ordinary instructions.
//
// Each is atomic against everything else that happens on the same CPU: other threads, signal
// handlers. It says nothing about other CPUs and orders nothing; the thread may be elsewhere when
// it returns, and a result may belong to a CPU that it has left. Copies are summed by reading all.
//
// The mode (mode.hpp) decides how: the sequence is inlined, and a thread that cannot run it goes
// once through percpu_enter_thread(), then here again or to the atomics. Inlined always: compilers
// take the assembly's many lines for much code and would call it, which costs three additions.
// For:        integers, enumerations and pointers of 4 and 8 bytes
// Complexity: O(1); an addition is 7 instructions
#pragma once

#include <bit>
#include <cstdint>
#include <mmkit/percpu/mode.hpp>
#include <mmkit/percpu/object_pin.hpp>
#include <mmkit/percpu/percpu_ptr.hpp>
#include <mmkit/percpu/rseq_fallback.hpp>
#include <mmkit/percpu/rseq_x86_64.hpp>
#include <type_traits>

namespace mmkit {

namespace detail {

/// What a T is to the instructions: a word of 4 or 8 bytes.
template <class T>
struct PercpuWord {
  static_assert((std::is_integral_v<T> || std::is_enum_v<T> ||
                 std::is_pointer_v<T>)&&(sizeof(T) == 4 || sizeof(T) == 8),
                "this_cpu operations take integers and pointers of 4 or 8 bytes");
  using type = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
};
template <class T>
using PercpuWordOf = typename PercpuWord<std::remove_cv_t<T>>::type;

template <class T>
[[gnu::always_inline]] inline PercpuWordOf<T> to_word(T value) noexcept {
  return std::bit_cast<PercpuWordOf<T>>(value);
}
template <class T>
[[gnu::always_inline]] inline PercpuWordOf<T>* to_words(T* unit0) noexcept {
  return reinterpret_cast<PercpuWordOf<T>*>(unit0);
}

// SEQUENCE(...) until it is done, or the mode turns out to be the other one: then FALLBACK.
#if MMKIT_PERCPU_HAS_RSEQ
#define MMKIT_PERCPU_RUN(sequence, atomics)             \
  while (!(sequence)) [[unlikely]] {                    \
      if (::mmkit::detail::percpu_must_use_atomics()) { \
        atomics;                                        \
        break;                                          \
      }                                                 \
    }
#else
#define MMKIT_PERCPU_RUN(sequence, atomics) \
  { atomics; }
#endif

}  // namespace detail

/// This CPU's copy as an address. Whoever uses it may meet another CPU's thread there: keep to
/// reading, or to atomics, unless the thread is pinned. Thread safety: safe.
template <class T>
T* this_cpu_ptr(PercpuPtr<T> p) noexcept {
  return detail::unit_address(p.unit0, this_cpu_index());
}

/// Reads this CPU's copy. Thread safety: safe, also in signal handlers, as all below.
template <class T>
T this_cpu_read(PercpuPtr<T> p) noexcept {
  static_cast<void>(sizeof(detail::PercpuWordOf<T>));
  return detail::read_racing(this_cpu_ptr(p));
}

/// Writes this CPU's copy.
template <class T>
[[gnu::always_inline]] inline void this_cpu_write(PercpuPtr<T> p,
                                                  std::type_identity_t<T> value) noexcept {
  MMKIT_PERCPU_RUN(
      detail::rseq::write<kPercpuUnitStride>(detail::to_words(p.unit0), detail::to_word(value)),
      detail::fallback::write<kPercpuUnitStride>(detail::to_words(p.unit0), detail::to_word(value)))
}

/// Adds to this CPU's copy; wraps around as unsigned numbers do.
template <class T>
[[gnu::always_inline]] inline void this_cpu_add(PercpuPtr<T> p,
                                                std::type_identity_t<T> value) noexcept {
  static_assert(std::is_integral_v<T>);
  MMKIT_PERCPU_RUN(
      detail::rseq::add<kPercpuUnitStride>(detail::to_words(p.unit0), detail::to_word(value)),
      detail::fallback::add<kPercpuUnitStride>(detail::to_words(p.unit0), detail::to_word(value)))
}
/// Takes from this CPU's copy.
template <class T>
[[gnu::always_inline]] inline void this_cpu_sub(PercpuPtr<T> p,
                                                std::type_identity_t<T> value) noexcept {
  this_cpu_add(p, static_cast<T>(detail::PercpuWordOf<T>{0} - detail::to_word(value)));
}
/// Adds one.
template <class T>
[[gnu::always_inline]] inline void this_cpu_inc(PercpuPtr<T> p) noexcept {
  this_cpu_add(p, T{1});
}
/// Takes one.
template <class T>
[[gnu::always_inline]] inline void this_cpu_dec(PercpuPtr<T> p) noexcept {
  this_cpu_add(p, static_cast<T>(-1));
}
/// Keeps the bits of `mask` alone.
template <class T>
[[gnu::always_inline]] inline void this_cpu_and(PercpuPtr<T> p,
                                                std::type_identity_t<T> mask) noexcept {
  static_assert(std::is_integral_v<T>);
  MMKIT_PERCPU_RUN(
      detail::rseq::bit_and<kPercpuUnitStride>(detail::to_words(p.unit0), detail::to_word(mask)),
      detail::fallback::bit_and<kPercpuUnitStride>(detail::to_words(p.unit0),
                                                   detail::to_word(mask)))
}
/// Sets the bits of `mask`.
template <class T>
[[gnu::always_inline]] inline void this_cpu_or(PercpuPtr<T> p,
                                               std::type_identity_t<T> mask) noexcept {
  static_assert(std::is_integral_v<T>);
  MMKIT_PERCPU_RUN(
      detail::rseq::bit_or<kPercpuUnitStride>(detail::to_words(p.unit0), detail::to_word(mask)),
      detail::fallback::bit_or<kPercpuUnitStride>(detail::to_words(p.unit0), detail::to_word(mask)))
}

/// Adds, and gives the sum as it was then, on the CPU where it happened.
template <class T>
[[gnu::always_inline]] inline T this_cpu_add_return(PercpuPtr<T> p,
                                                    std::type_identity_t<T> value) noexcept {
  static_assert(std::is_integral_v<T>);
  detail::PercpuWordOf<T> sum{};
  MMKIT_PERCPU_RUN(detail::rseq::add_return<kPercpuUnitStride>(detail::to_words(p.unit0),
                                                               detail::to_word(value), sum),
                   sum = detail::fallback::add_return<kPercpuUnitStride>(detail::to_words(p.unit0),
                                                                         detail::to_word(value)))
  return std::bit_cast<T>(sum);
}

/// Puts `value`, and gives what was there.
template <class T>
[[gnu::always_inline]] inline T this_cpu_xchg(PercpuPtr<T> p,
                                              std::type_identity_t<T> value) noexcept {
  detail::PercpuWordOf<T> before{};
  MMKIT_PERCPU_RUN(detail::rseq::exchange<kPercpuUnitStride>(detail::to_words(p.unit0),
                                                             detail::to_word(value), before),
                   before = detail::fallback::exchange<kPercpuUnitStride>(detail::to_words(p.unit0),
                                                                          detail::to_word(value)))
  return std::bit_cast<T>(before);
}

/// Puts `desired` if `expected` is there; gives what was there: `expected` exactly if it did.
template <class T>
[[gnu::always_inline]] inline T this_cpu_cmpxchg(PercpuPtr<T> p, std::type_identity_t<T> expected,
                                                 std::type_identity_t<T> desired) noexcept {
  detail::PercpuWordOf<T> before{};
  MMKIT_PERCPU_RUN(
      detail::rseq::compare_exchange<kPercpuUnitStride>(
          detail::to_words(p.unit0), detail::to_word(expected), detail::to_word(desired), before),
      before = detail::fallback::compare_exchange<kPercpuUnitStride>(
          detail::to_words(p.unit0), detail::to_word(expected), detail::to_word(desired)))
  return std::bit_cast<T>(before);
}

namespace detail {

/// A per-CPU stack of pointers, as rseq_x86_64.hpp lays it out: false when full, or when somebody
/// drains it at this moment.
template <std::size_t kStride>
[[gnu::always_inline]] inline bool stack_push(void* record, std::size_t head, void* item,
                                              std::size_t capacity) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
  while (true) {
    const rseq::Outcome outcome = rseq::push<kStride>(record, head, item, capacity);
    if (outcome != rseq::Outcome::unready) [[likely]]
      return outcome == rseq::Outcome::done;
    if (percpu_must_use_atomics()) break;
  }
#endif
  return fallback::push<kStride>(record, head, item, capacity);
}
/// nullptr when empty, or when somebody drains it at this moment.
template <std::size_t kStride>
[[gnu::always_inline]] inline void* stack_pop(void* record, std::size_t head) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
  while (true) {
    void* item = nullptr;
    const rseq::Outcome outcome = rseq::pop<kStride>(record, head, item);
    if (outcome == rseq::Outcome::done) [[likely]]
      return item;
    if (outcome == rseq::Outcome::refused) return nullptr;
    if (percpu_must_use_atomics()) break;
  }
#endif
  return fallback::pop<kStride>(record, head);
}

/// A per-CPU stack of numbers (rseq_x86_64.hpp): false when at its limit, or when somebody has locked
/// the record at this moment.
template <std::size_t kStride>
[[gnu::always_inline]] inline bool stack_push_number(void* record, std::size_t head,
                                                     std::uint32_t item) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
  while (true) {
    const rseq::Outcome outcome = rseq::push_number<kStride>(record, head, item);
    if (outcome != rseq::Outcome::unready) [[likely]]
      return outcome == rseq::Outcome::done;
    if (percpu_must_use_atomics()) break;
  }
#endif
  return fallback::push_number<kStride>(record, head, item);
}
/// Zero when empty, or when somebody has locked the record at this moment.
template <std::size_t kStride>
[[gnu::always_inline]] inline std::uint32_t stack_pop_number(void* record,
                                                             std::size_t head) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
  while (true) {
    std::uint32_t item = 0;
    const rseq::Outcome outcome = rseq::pop_number<kStride>(record, head, item);
    if (outcome == rseq::Outcome::done) [[likely]]
      return item;
    if (outcome == rseq::Outcome::refused) return 0;
    if (percpu_must_use_atomics()) break;
  }
#endif
  return fallback::pop_number<kStride>(record, head);
}

}  // namespace detail
}  // namespace mmkit
