// SPDX-License-Identifier: MIT
//
// A cache of free objects per CPU in front of new and delete: most requests take what this CPU gave
// back last, without a lock or an atomic, and while it is still in this CPU's cache.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mmkit/percpu.hpp>
#include <new>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace {

struct Message {
  std::uint64_t number = 0;
  unsigned char body[248] = {};
};

class MessageCache {
 public:
  // Nothing when there is no memory.
  static std::optional<MessageCache> create(std::size_t kept_per_cpu) {
    auto free = mmkit::PercpuStack<Message>::create(kept_per_cpu);
    auto fresh = mmkit::Percpu<std::uint64_t>::create();
    if (!free || !fresh) return std::nullopt;
    return MessageCache(std::move(*free), std::move(*fresh));
  }
  MessageCache(MessageCache&&) = default;
  MessageCache& operator=(MessageCache&&) = delete;
  ~MessageCache() {
    if (free_.get()) trim();  // not moved from
  }

  // Null when there is no memory.
  Message* take() {
    if (Message* const kept = free_.pop()) return kept;
    mmkit::this_cpu_inc(fresh_.get());
    return new (std::nothrow) Message;
  }
  void give_back(Message* message) {
    if (!free_.push(message)) delete message;  // this CPU keeps enough
  }
  // Gives back what all CPUs keep, from any thread: when memory is short, say.
  std::size_t trim() {
    return free_.drain_all([](Message* message) { delete message; });
  }
  std::uint64_t made() const { return fresh_.sum(); }

 private:
  MessageCache(mmkit::PercpuStack<Message> free, mmkit::Percpu<std::uint64_t> fresh)
      : free_(std::move(free)), fresh_(std::move(fresh)) {}

  mmkit::PercpuStack<Message> free_;
  mmkit::Percpu<std::uint64_t> fresh_;
};

}  // namespace

int main() {
  constexpr unsigned kThreads = 4, kRounds = 20000, kAtOnce = 8;
  std::optional<MessageCache> cache = MessageCache::create(/*kept_per_cpu=*/64);
  if (!cache) return 1;
  std::atomic<unsigned> mixed_up{0};
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint64_t round = 0; round < kRounds; ++round) {
        Message* held[kAtOnce];
        for (Message*& message : held) {
          message = cache->take();
          if (message == nullptr) std::abort();
          message->number = round * kThreads + thread;
        }
        for (Message* const message : held) {
          if (message->number != round * kThreads + thread) ++mixed_up;
          cache->give_back(message);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  const std::uint64_t made = cache->made();
  const std::size_t kept = cache->trim();
  std::printf("%u messages used, %llu made, %zu kept at the end\n", kThreads * kRounds * kAtOnce,
              static_cast<unsigned long long>(made), kept);
  return mixed_up == 0 && kept != 0 && made < kThreads * kRounds * kAtOnce / 10 ? 0 : 1;
}
