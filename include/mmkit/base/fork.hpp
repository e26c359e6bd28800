// SPDX-License-Identifier: MIT
//
// Fork - locks that are held around fork(2), so that a child finds whole structures.
//
// Each object with a lock (and, in src, each process-wide lock) is a participant while it lives:
//
//   fork() -> prepare: lock all, lowest rank first -> the system's fork -> parent and child:
//             unlock all, in reverse -> child: on_child() of each, with no lock held
//
// The handlers are registered with pthread_atfork when the first participant appears.
// Locking:    the list has a lock of its own, LockRank::fork: the outermost
#pragma once

#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/lock_rank.hpp>
#include <mmkit/base/result.hpp>

namespace mmkit {

/// Something with locks that must be held while the process forks. Never moves.
class ForkParticipant : public ListNode<> {
 public:
  ForkParticipant(const ForkParticipant&) = delete;
  ForkParticipant& operator=(const ForkParticipant&) = delete;

  /// Enters the list, after all of a lower or the same rank; does nothing when in it. Errors: out_of_memory when the system
  /// takes no fork handler. Thread safety: safe; called with no lock held.
  Status join_fork(LockRank rank) noexcept;
  /// Leaves the list; does nothing when not in it. Thread safety: safe; called with no lock held.
  void leave_fork() noexcept;

  LockRank fork_rank() const noexcept { return rank_; }

  /// Take and let go of every lock of this object, in rank order. Called by the handlers alone.
  virtual void lock_for_fork() noexcept = 0;
  virtual void unlock_after_fork() noexcept = 0;
  /// In the child, which has one thread, after every lock is free again.
  virtual void on_child() noexcept {}

 protected:
  ForkParticipant() noexcept = default;
  /// A derived class leaves in its own destructor: here its locks are gone already.
  ~ForkParticipant() { MMKIT_ASSERT(!is_linked()); }

 private:
  LockRank rank_ = LockRank::leaf;
};

}  // namespace mmkit
