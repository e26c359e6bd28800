// SPDX-License-Identifier: MIT
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/mutex.hpp>
#include <new>

namespace mmkit {
namespace {

// Who takes part, oldest first within a rank. Never destroyed: a fork may come at exit.
class Participants {
 public:
  Mutex mutex{LockRank::fork};
  bool handlers_registered MMKIT_GUARDED_BY(mutex) = false;

  void add(ForkParticipant& one) noexcept MMKIT_REQUIRES(mutex) { list_of(one).push_back(one); }
  void remove(ForkParticipant& one) noexcept MMKIT_REQUIRES(mutex) { list_of(one).remove(one); }

  // Ascending ranks and back; nullptr at the end.
  ForkParticipant* first() const noexcept { return first_from(0); }
  ForkParticipant* last() const noexcept { return last_below(kLockRanks); }
  ForkParticipant* next(const ForkParticipant& of) const noexcept {
    ForkParticipant* const beside = of_rank_[rank_of(of)].next(of);
    return beside != nullptr ? beside : first_from(rank_of(of) + 1);
  }
  ForkParticipant* prev(const ForkParticipant& of) const noexcept {
    ForkParticipant* const beside = of_rank_[rank_of(of)].prev(of);
    return beside != nullptr ? beside : last_below(rank_of(of));
  }

 private:
  static unsigned rank_of(const ForkParticipant& one) noexcept {
    return static_cast<unsigned>(one.fork_rank());
  }
  IntrusiveList<ForkParticipant>& list_of(const ForkParticipant& one) noexcept {
    return of_rank_[rank_of(one)];
  }
  ForkParticipant* first_from(unsigned rank) const noexcept {
    while (rank < kLockRanks && of_rank_[rank].empty()) ++rank;
    return rank < kLockRanks ? of_rank_[rank].front() : nullptr;
  }
  ForkParticipant* last_below(unsigned rank) const noexcept {
    while (rank != 0 && of_rank_[rank - 1].empty()) --rank;
    return rank != 0 ? of_rank_[rank - 1].back() : nullptr;
  }

  IntrusiveList<ForkParticipant> of_rank_[kLockRanks];
};

constinit Participants participants;

// The analysis cannot follow locks that one handler takes and another lets go.
void before_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  participants.mutex.lock();
  const Participants& all = participants;
  for (ForkParticipant* at = all.first(); at != nullptr; at = all.next(*at)) {
    MMKIT_MUTATE(MMKIT_MUTANT_fork_locks_one_alone, at->lock_for_fork(),
                 if (at == all.first()) at->lock_for_fork());
  }
}

void after_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  const Participants& all = participants;
  for (ForkParticipant* at = all.last(); at != nullptr; at = all.prev(*at)) {
    MMKIT_MUTATE(MMKIT_MUTANT_fork_locks_one_alone, at->unlock_after_fork(),
                 if (at == all.first()) at->unlock_after_fork());
  }
  participants.mutex.unlock();
}

void after_fork_in_child() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  after_fork();
  const Participants& all = participants;
  ForkParticipant* at = all.first();
  while (at != nullptr) {
    ForkParticipant* const following = all.next(*at);  // on_child() may leave the list
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
  participants.add(*this);
  return {};
}

void ForkParticipant::leave_fork() noexcept {
  MutexLock lock(participants.mutex);
  if (is_linked()) participants.remove(*this);
}

}  // namespace mmkit
