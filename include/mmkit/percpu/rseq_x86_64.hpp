// SPDX-License-Identifier: MIT
//
// Restartable sequences for x86-64 - the one place where a CPU number excludes other threads.
//
// A sequence is a few instructions which the kernel restarts from the top when the thread was
// preempted, moved or interrupted by a signal in the middle; its last instruction, the commit, is
// the only one that others can see. So whatever it read about its CPU still holds when it commits,
// without any atomic. Every sequence here begins alike:
//
//        lea  descriptor, rax        3: {start 1, length 2 - 1, abort 4}
//        mov  rax, area.rseq_cs      tells the kernel: from here on
//     1: mov  area.cpu_id, eax       read inside, or it could be stale
//        test eax, eax; js unready   not registered: fallback mode, or the thread's first operation
//        imul stride, rax            distance of this CPU's unit
//        ...; commit                 one store or read-modify-write
//     2:
//     4: jmp  to the top             where the kernel goes instead; a signature stands before it
//
// Only rseq_cs is written, only cpu_id is read. rseq_cs is left pointing at the descriptor when the
// sequence is done: the kernel looks at it only to see that the thread is elsewhere. Hence the code
// that contains a sequence must never be unmapped (object_pin.hpp sees to that).
//
// The sections are emitted as "aw?" and "ax?": in the COMDAT group of the function they belong to,
// without which two translation units at -O0 do not link.
// Excludes:   threads and signal handlers on the same CPU; not other CPUs, and orders nothing
// Complexity: 7 instructions for an addition. A sequence that others keep interrupting starts anew;
//             it is far shorter than the shortest time slice, so it ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/mutant.hpp>
#include <mmkit/percpu/mode.hpp>

#if MMKIT_PERCPU_HAS_RSEQ

// The mutant forgets to tell the kernel.
#define MMKIT_RSEQ_ANNOUNCE \
  MMKIT_MUTATE(MMKIT_MUTANT_rseq_not_announced, "movq %%rax, %%fs:8(%[area])\n", "\n")

// `unready` is where a thread goes that is not registered.
// The CPU number is not widened with its sign: that would cost a third of an addition.
#define MMKIT_RSEQ_ENTER(unready)                              \
  ".pushsection __rseq_cs, \"aw?\"\n\t.balign 32\n"            \
  "3:\n\t.long 0, 0\n\t.quad 1f, 2f - 1f, 4f\n\t.popsection\n" \
  "5:\n\tleaq 3b(%%rip), %%rax\n\t" MMKIT_RSEQ_ANNOUNCE        \
  "1:\n\tmovl %%fs:4(%[area]), %%eax\n\t"                      \
  "testl %%eax, %%eax\n\tjs " unready "\n\timulq %[stride], %%rax, %%rax\n\t"

// 0x53053053 is the signature with which the areas are registered; as the operand of an ud1 it
// disassembles, and nobody can jump there by accident.
#define MMKIT_RSEQ_LEAVE                                                     \
  "\n2:\n\t.pushsection __rseq_abort, \"ax?\"\n\t.byte 0x0f, 0xb9, 0x3d\n\t" \
  ".long 0x53053053\n4:\n\tjmp 5b\n\t.popsection\n"

#define MMKIT_RSEQ_OPERANDS [area] "r"(rseq_area()), [stride] "i"(kStride)
#define MMKIT_RSEQ_CLOBBERS "rax", "memory", "cc"

// Which exit a sequence with a result took is a result too: the distance of the unit, or a number
// below zero when the thread is not registered. Jumps out of an asm are left to sequences without
// results: g++ before 12.4 and 13.3 then writes the result over other values where paths meet.
#define MMKIT_RSEQ_RESULTS(result) [where] "=&a"(where), [result] "=&r"(result)

namespace mmkit::detail::rseq {

/// How a sequence ended.
enum class Outcome : std::uint8_t {
  done,     ///< committed
  refused,  ///< a condition inside did not hold: nothing changed
  unready   ///< percpu_enter_thread() first
};

// Whether a sequence with a result went past the test for it.
template <std::size_t kStride>
constexpr bool was_ready(std::int32_t where) noexcept {
  static_assert(kStride * 8192 <= 0x7fffffff, "distances of the CPUs that Linux can have here");
  return where >= 0;
}

// A word is 4 or 8 bytes. Each function gives false when the thread is unready; `word` is unit 0's.
// The two widths differ in a suffix, which only the assembler can join.
#define MMKIT_RSEQ_MODIFY(name, instruction)                                          \
  template <std::size_t kStride>                                                      \
  [[gnu::always_inline]] inline bool name(std::uint64_t* word, std::uint64_t value) { \
    asm volatile goto(MMKIT_RSEQ_ENTER("%l[unready]") instruction                     \
                      "q %[value], (%[word],%%rax)" MMKIT_RSEQ_LEAVE                  \
                      :                                                               \
                      : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [value] "er"(value)    \
                      : MMKIT_RSEQ_CLOBBERS                                           \
                      : unready);                                                     \
    return true;                                                                      \
  unready:                                                                            \
    return false;                                                                     \
  }                                                                                   \
  template <std::size_t kStride>                                                      \
  [[gnu::always_inline]] inline bool name(std::uint32_t* word, std::uint32_t value) { \
    asm volatile goto(MMKIT_RSEQ_ENTER("%l[unready]") instruction                     \
                      "l %[value], (%[word],%%rax)" MMKIT_RSEQ_LEAVE                  \
                      :                                                               \
                      : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [value] "ir"(value)    \
                      : MMKIT_RSEQ_CLOBBERS                                           \
                      : unready);                                                     \
    return true;                                                                      \
  unready:                                                                            \
    return false;                                                                     \
  }

MMKIT_RSEQ_MODIFY(add, "add")
MMKIT_RSEQ_MODIFY(bit_and, "and")
MMKIT_RSEQ_MODIFY(bit_or, "or")
MMKIT_RSEQ_MODIFY(write, "mov")
#undef MMKIT_RSEQ_MODIFY

/// Adds, and gives the sum.
template <std::size_t kStride, class Word>
[[gnu::always_inline]] inline bool add_return(Word* word, Word value, Word& result) {
  Word sum;
  std::int32_t where;
  if constexpr (sizeof(Word) == 8) {
    asm volatile(MMKIT_RSEQ_ENTER("2f")
                 "movq (%[word],%%rax), %[sum]\n\taddq %[value], %[sum]\n\t"
                 "movq %[sum], (%[word],%%rax)" MMKIT_RSEQ_LEAVE
                 : MMKIT_RSEQ_RESULTS(sum)
                 : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [value] "er"(value)
                 : "memory", "cc");
  } else {
    asm volatile(MMKIT_RSEQ_ENTER("2f")
                 "movl (%[word],%%rax), %[sum]\n\taddl %[value], %[sum]\n\t"
                 "movl %[sum], (%[word],%%rax)" MMKIT_RSEQ_LEAVE
                 : MMKIT_RSEQ_RESULTS(sum)
                 : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [value] "ir"(value)
                 : "memory", "cc");
  }
  result = sum;
  return was_ready<kStride>(where);
}

/// Puts a value, and gives the one before.
template <std::size_t kStride, class Word>
[[gnu::always_inline]] inline bool exchange(Word* word, Word value, Word& result) {
  Word old;
  std::int32_t where;
  if constexpr (sizeof(Word) == 8) {
    asm volatile(MMKIT_RSEQ_ENTER("2f")
                 "movq (%[word],%%rax), %[old]\n\t"
                 "movq %[value], (%[word],%%rax)" MMKIT_RSEQ_LEAVE
                 : MMKIT_RSEQ_RESULTS(old)
                 : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [value] "er"(value)
                 : "memory", "cc");
  } else {
    asm volatile(MMKIT_RSEQ_ENTER("2f")
                 "movl (%[word],%%rax), %[old]\n\t"
                 "movl %[value], (%[word],%%rax)" MMKIT_RSEQ_LEAVE
                 : MMKIT_RSEQ_RESULTS(old)
                 : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [value] "ir"(value)
                 : "memory", "cc");
  }
  result = old;
  return was_ready<kStride>(where);
}

/// Puts `desired` where `expected` is; gives what was there.
template <std::size_t kStride, class Word>
[[gnu::always_inline]] inline bool compare_exchange(Word* word, Word expected, Word desired,
                                                    Word& result) {
  Word old;
  std::int32_t where;
  if constexpr (sizeof(Word) == 8) {
    asm volatile(MMKIT_RSEQ_ENTER("2f")
                 "movq (%[word],%%rax), %[old]\n\tcmpq %[expected], %[old]\n\tjne 2f\n\t"
                 "movq %[desired], (%[word],%%rax)" MMKIT_RSEQ_LEAVE
                 : MMKIT_RSEQ_RESULTS(old)
                 : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [expected] "er"(expected),
                   [desired] "er"(desired)
                 : "memory", "cc");
  } else {
    asm volatile(MMKIT_RSEQ_ENTER("2f")
                 "movl (%[word],%%rax), %[old]\n\tcmpl %[expected], %[old]\n\tjne 2f\n\t"
                 "movl %[desired], (%[word],%%rax)" MMKIT_RSEQ_LEAVE
                 : MMKIT_RSEQ_RESULTS(old)
                 : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [expected] "ir"(expected),
                   [desired] "ir"(desired)
                 : "memory", "cc");
  }
  result = old;
  return was_ready<kStride>(where);
}

/// Adds, if `*gate` (one word for all CPUs) is zero: for structures that can be closed. Who closes
/// writes the gate, then calls percpu_barrier_everywhere(): afterwards no addition can commit.
template <std::size_t kStride>
[[gnu::always_inline]] inline Outcome add_through_gate(std::uint64_t* word, std::uint64_t value,
                                                       const std::uint32_t* gate) {
  asm volatile goto(MMKIT_RSEQ_ENTER("%l[unready]")
                    "cmpl $0, (%[gate])\n\tjne %l[refused]\n\t"
                    "addq %[value], (%[word],%%rax)" MMKIT_RSEQ_LEAVE
                    :
                    : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [value] "er"(value), [gate] "r"(gate)
                    : MMKIT_RSEQ_CLOBBERS
                    : unready, refused);
  return Outcome::done;
refused:
  return Outcome::refused;
unready:
  return Outcome::unready;
}

/// Adds, if the sum stays in [-reach, reach] (reach at least 0); else refuses and changes nothing. No
/// barrier for the compiler, unlike the others, so that it may keep the operands in registers: who
/// reads the words does so in functions of other files.
template <std::size_t kStride>
[[gnu::always_inline]] inline Outcome add_within(std::uint64_t* word, std::uint64_t value,
                                                 std::uint64_t reach) {
  asm volatile goto(MMKIT_RSEQ_ENTER("%l[unready]")
                    "movq (%[word],%%rax), %%rcx\n\taddq %[value], %%rcx\n\t"
                    "leaq (%%rcx,%[reach]), %%rdx\n\tcmpq %[span], %%rdx\n\tja %l[refused]\n\t"
                    "movq %%rcx, (%[word],%%rax)" MMKIT_RSEQ_LEAVE
                    :
                    : MMKIT_RSEQ_OPERANDS, [word] "r"(word), [value] "er"(value),
                      [reach] "r"(reach), [span] "r"(2 * reach)
                    : "rax", "rcx", "rdx", "cc"
                    : unready, refused);
  return Outcome::done;
refused:
  return Outcome::refused;
unready:
  return Outcome::unready;
}

/// Of three words side by side (a count, another to take from it, a limit): adds one to the count,
/// unless the difference would pass the limit; then refuses and changes nothing.
template <std::size_t kStride>
[[gnu::always_inline]] inline Outcome count_within(std::uint64_t* words) {
  asm volatile goto(MMKIT_RSEQ_ENTER("%l[unready]")
                    "movq (%[words],%%rax), %%rcx\n\tincq %%rcx\n\tmovq %%rcx, %%rdx\n\t"
                    "subq 8(%[words],%%rax), %%rdx\n\tcmpq 16(%[words],%%rax), %%rdx\n\t"
                    "jg %l[refused]\n\tmovq %%rcx, (%[words],%%rax)" MMKIT_RSEQ_LEAVE
                    :
                    : MMKIT_RSEQ_OPERANDS, [words] "r"(words)
                    : "rcx", "rdx", MMKIT_RSEQ_CLOBBERS
                    : unready, refused);
  return Outcome::done;
refused:
  return Outcome::refused;
unready:
  return Outcome::unready;
}

// Stacks. A unit's record holds a lock word (4 bytes) at its start, and `head` bytes on a count (8
// bytes) followed by as many slots of 8 bytes as the caller's capacity. While the lock word is not
// zero, push and pop refuse: whoever set it and then called percpu_barrier() owns the record.

/// Puts `item` on top, unless the stack is full or locked.
template <std::size_t kStride>
[[gnu::always_inline]] inline Outcome push(void* record, std::size_t head, void* item,
                                           std::size_t capacity) {
  asm volatile goto(MMKIT_RSEQ_ENTER("%l[unready]")
                    "addq %[record], %%rax\n\tcmpl $0, (%%rax)\n\tjne %l[refused]\n\t"
                    "addq %[head], %%rax\n\tmovq (%%rax), %%rcx\n\t"
                    "cmpq %[capacity], %%rcx\n\tjae %l[refused]\n\t"
                    "movq %[item], 8(%%rax,%%rcx,8)\n\tincq %%rcx\n\t"
                    "movq %%rcx, (%%rax)" MMKIT_RSEQ_LEAVE
                    :
                    : MMKIT_RSEQ_OPERANDS, [record] "r"(record), [head] "er"(head),
                      [item] "r"(item), [capacity] "er"(capacity)
                    : "rcx", MMKIT_RSEQ_CLOBBERS
                    : unready, refused);
  return Outcome::done;
refused:
  return Outcome::refused;
unready:
  return Outcome::unready;
}

/// Takes the top, unless the stack is empty or locked. Items are not null.
template <std::size_t kStride>
[[gnu::always_inline]] inline Outcome pop(void* record, std::size_t head, void*& item) {
  std::int32_t where;
  void* top;
  // The top is null from the beginning: so it is when the sequence leaves early.
  asm volatile(MMKIT_RSEQ_ENTER("2f")
               "xorl %k[top], %k[top]\n\t"
               "cmpl $0, (%[record],%%rax)\n\tjne 2f\n\t"
               "movq (%[counts],%%rax), %%rcx\n\ttestq %%rcx, %%rcx\n\tje 2f\n\t"
               "leaq (%[counts],%%rax), %[top]\n\tmovq (%[top],%%rcx,8), %[top]\n\t"
               "decq %%rcx\n\tmovq %%rcx, (%[counts],%%rax)" MMKIT_RSEQ_LEAVE
               : MMKIT_RSEQ_RESULTS(top)
               : MMKIT_RSEQ_OPERANDS, [record] "r"(record),
                 [counts] "r"(static_cast<std::byte*>(record) + head)
               : "rcx", "memory", "cc");
  item = top;
  if (!was_ready<kStride>(where)) [[unlikely]]
    return Outcome::unready;
  return top != nullptr ? Outcome::done : Outcome::refused;
}

/// Two words side by side, to which one store of sixteen bytes adds: aligned to that.
using Pair [[gnu::vector_size(16)]] = std::uint64_t;

/// Adds to both words of a pair; false when the thread is unready.
template <std::size_t kStride>
[[gnu::always_inline]] inline bool add_pair(std::uint64_t* words, std::uint64_t first,
                                            std::uint64_t second) {
  static_assert(kStride % 16 == 0);
  const Pair values = {first, second};
  asm volatile goto(MMKIT_RSEQ_ENTER("%l[unready]")
                    "movdqa (%[words],%%rax), %%xmm0\n\tpaddq %[values], %%xmm0\n\t"
                    "movdqa %%xmm0, (%[words],%%rax)" MMKIT_RSEQ_LEAVE
                    :
                    : MMKIT_RSEQ_OPERANDS, [words] "r"(words), [values] "x"(values)
                    : "xmm0", MMKIT_RSEQ_CLOBBERS
                    : unready);
  return true;
unready:
  return false;
}

// Stacks of numbers: as above, but count and slots have 4 bytes, and behind the count stands the limit
// of this very stack, so that CPUs can have room in different measure. All zero is a stack without
// room. The limit is written by any CPU, the count by its own alone; zero is no item.

/// Puts `item` on top, unless the stack is at its limit or locked.
template <std::size_t kStride>
[[gnu::always_inline]] inline Outcome push_number(void* record, std::size_t head,
                                                  std::uint32_t item) {
  asm volatile goto(MMKIT_RSEQ_ENTER("%l[unready]")
                    "addq %[record], %%rax\n\tcmpl $0, (%%rax)\n\tjne %l[refused]\n\t"
                    "addq %[head], %%rax\n\tmovl (%%rax), %%ecx\n\t"
                    "cmpl 4(%%rax), %%ecx\n\tjae %l[refused]\n\t"
                    "movl %[item], 8(%%rax,%%rcx,4)\n\tincl %%ecx\n\t"
                    "movl %%ecx, (%%rax)" MMKIT_RSEQ_LEAVE
                    :
                    : MMKIT_RSEQ_OPERANDS, [record] "r"(record), [head] "er"(head),
                      [item] "r"(item)
                    : "rcx", MMKIT_RSEQ_CLOBBERS
                    : unready, refused);
  return Outcome::done;
refused:
  return Outcome::refused;
unready:
  return Outcome::unready;
}

/// Takes the top, unless the stack is empty or locked.
template <std::size_t kStride>
[[gnu::always_inline]] inline Outcome pop_number(void* record, std::size_t head,
                                                 std::uint32_t& item) {
  std::int32_t where;
  std::uint32_t top;
  // The top is zero from the beginning: so it is when the sequence leaves early, also as unready
  // (before its first step), and also when it begins again (after its last but one).
  asm volatile("xorl %[top], %[top]\n\t" MMKIT_RSEQ_ENTER("2f") "xorl %[top], %[top]\n\t"
               "cmpl $0, (%[record],%%rax)\n\tjne 2f\n\t"
               "movl (%[counts],%%rax), %%ecx\n\ttestl %%ecx, %%ecx\n\tje 2f\n\t"
               "leaq (%[counts],%%rax), %q[top]\n\tmovl 4(%q[top],%%rcx,4), %[top]\n\t"
               "decl %%ecx\n\tmovl %%ecx, (%[counts],%%rax)" MMKIT_RSEQ_LEAVE
               : MMKIT_RSEQ_RESULTS(top)
               : MMKIT_RSEQ_OPERANDS, [record] "r"(record),
                 [counts] "r"(static_cast<std::byte*>(record) + head)
               : "rcx", "memory", "cc");
  item = top;
  if (!was_ready<kStride>(where)) [[unlikely]]
    return Outcome::unready;
  return top != 0 ? Outcome::done : Outcome::refused;
}

}  // namespace mmkit::detail::rseq

#undef MMKIT_RSEQ_ENTER
#undef MMKIT_RSEQ_LEAVE
#undef MMKIT_RSEQ_OPERANDS
#undef MMKIT_RSEQ_CLOBBERS
#undef MMKIT_RSEQ_RESULTS

#endif  // MMKIT_PERCPU_HAS_RSEQ
