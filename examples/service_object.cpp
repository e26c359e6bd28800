// SPDX-License-Identifier: MIT
//
// A service that many threads use and one thread replaces: each use holds a reference, which costs
// no shared cache line; the old service ends when its last use does, and no sooner.
//
// The registry hands out the current service under its lock; from there on the reference count says
// how long it lives.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mmkit/percpu.hpp>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace {

std::atomic<int> services_alive{0};
std::atomic<int> used_after_end{0};

class Service {
 public:
  // Null when there is no memory. It ends itself: after retire(), with the last put().
  static Service* start(int version) {
    auto service = std::unique_ptr<Service>(new Service(version));
    auto ref = mmkit::PercpuRef::create([raw = service.get()] { delete raw; });
    if (!ref) return nullptr;
    service->ref_ = std::move(*ref);
    return service.release();
  }
  bool tryget() { return ref_->tryget_live(); }
  void put() { ref_->put(); }
  void retire() { ref_->kill(); }

  int answer() const {
    if (version_ == kEnded) ++used_after_end;
    return version_;
  }

 private:
  static constexpr int kEnded = -1;
  explicit Service(int version) : version_(version) { ++services_alive; }
  ~Service() {
    version_ = kEnded;
    --services_alive;
  }
  friend std::default_delete<Service>;

  int version_;
  std::unique_ptr<mmkit::PercpuRef> ref_;  // release may destroy the count it is of
};

class Registry {
 public:
  // The current service with a reference, or null.
  Service* acquire() {
    const std::lock_guard lock(mutex_);
    return current_ != nullptr && current_->tryget() ? current_ : nullptr;
  }
  void replace(Service* service) {
    Service* old = nullptr;
    {
      const std::lock_guard lock(mutex_);
      old = std::exchange(current_, service);
    }
    if (old != nullptr) old->retire();  // nobody finds it any more; who has it may go on
  }

 private:
  std::mutex mutex_;
  Service* current_ = nullptr;
};

}  // namespace

int main() {
  Registry registry;
  Service* const first = Service::start(0);
  if (first == nullptr) return 1;
  registry.replace(first);

  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> answers{0};
  std::vector<std::thread> users;
  for (int i = 0; i < 3; ++i) {
    users.emplace_back([&] {
      while (!stop) {
        Service* const service = registry.acquire();
        if (service == nullptr) continue;
        for (int use = 0; use < 100; ++use) {
          if (service->tryget()) {  // as if handed to somebody else
            service->answer();
            service->put();
          }
        }
        service->answer();
        service->put();
        ++answers;
      }
    });
  }
  constexpr int kVersions = 200;
  for (int version = 1; version <= kVersions; ++version) {
    const std::uint64_t before = answers;
    while (answers == before) std::this_thread::yield();
    Service* const next = Service::start(version);
    if (next == nullptr) return 1;
    registry.replace(next);
  }
  stop = true;
  for (std::thread& user : users) user.join();
  registry.replace(nullptr);

  std::printf("%d services replaced under %llu uses; %d alive, %d used after their end\n",
              kVersions, static_cast<unsigned long long>(answers.load()), services_alive.load(),
              used_after_end.load());
  return services_alive == 0 && used_after_end == 0 ? 0 : 1;
}
