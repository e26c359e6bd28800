// SPDX-License-Identifier: MIT
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/mutex.hpp>
#include <new>

namespace mmkit {
namespace {

// Who takes part, ordered by rank. Never destroyed: a fork may come at exit.
struct Participants {
  Mutex mutex{LockRank::fork};
  IntrusiveList<ForkParticipant> list MMKIT_GUARDED_BY(mutex);
  bool handlers_registered MMKIT_GUARDED_BY(mutex) = false;
};

constinit Participants participants;

// The analysis cannot follow locks that one handler takes and another lets go.
void before_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  participants.mutex.lock();
  IntrusiveList<ForkParticipant>& list = participants.list;
  for (ForkParticipant* at = list.front(); at != nullptr; at = list.next(*at)) {
    MMKIT_MUTATE(MMKIT_MUTANT_fork_locks_one_alone, at->lock_for_fork(),
                 if (at == list.front()) at->lock_for_fork());
  }
}

void after_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  IntrusiveList<ForkParticipant>& list = participants.list;
  for (ForkParticipant* at = list.back(); at != nullptr; at = list.prev(*at)) {
    MMKIT_MUTATE(MMKIT_MUTANT_fork_locks_one_alone, at->unlock_after_fork(),
                 if (at == list.front()) at->unlock_after_fork());
  }
  participants.mutex.unlock();
}

void after_fork_in_child() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  after_fork();
  IntrusiveList<ForkParticipant>& list = participants.list;
  ForkParticipant* at = list.front();
  while (at != nullptr) {
    ForkParticipant* const following = list.next(*at);  // on_child() may leave the list
    at->on_child();
    at = following;
  }
}

}  // namespace

Status ForkParticipant::join_fork(LockRank rank) noexcept {
  MutexLock lock(participants.mutex);
  if (is_linked()) return {};
  if (!participants.handlers_registered) {
    if (::pthread_atfork(before_fork, after_fork, after_fork_in_child) != 0) {
      return fail(Errc::out_of_memory);
    }
    participants.handlers_registered = true;
  }
  rank_ = rank;
  // Newest last within its rank; there are few ranks and the list is walked from its end.
  ForkParticipant* before = participants.list.back();
  while (before != nullptr && before->rank_ > rank) before = participants.list.prev(*before);
  if (before == nullptr) {
    participants.list.push_front(*this);
  } else {
    participants.list.insert_after(*before, *this);
  }
  return {};
}

void ForkParticipant::leave_fork() noexcept {
  MutexLock lock(participants.mutex);
  if (is_linked()) participants.list.remove(*this);
}

}  // namespace mmkit
