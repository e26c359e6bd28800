// SPDX-License-Identifier: MIT
//
// Misuse of the page layer, by the message it ends with. And what the default page source does in a
// process whose address space is limited, which needs a process of its own.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <mmkit/page.hpp>

#include "support/captured_failure.hpp"
#include "support/child_process.hpp"
#include "support/sanitized.hpp"

namespace mmkit {
namespace {

class SimPageDeathTest : public ::testing::Test {
 protected:
  SimPageDeathTest() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    SimPageAllocatorOptions options;
    options.capacity_bytes = 64 * kPageSize;
    options.retain_bytes = 16 * kPageSize;
    pages_ = std::move(SimPageAllocator::create(options)).value();
    options.shareable = true;
    shared_ = std::move(SimPageAllocator::create(options)).value();
    first_ = pages_->allocate_pages({.pages = 4}).value();
    run_ = pages_->allocate_pages({.pages = 4}).value();
    next_ = pages_->allocate_pages({.pages = 4}).value();
  }
  ~SimPageDeathTest() override {
    for (const PageRun& run : {first_, run_, next_}) pages_->free_pages(run);
  }
  // Frees with the fields of the report printed.
  void free_loudly(const PageRun& run) {
    set_failure_handler(&testing::print_failure_fields);
    pages_->free_pages(run);
  }
  PageRun moved(std::ptrdiff_t frames, std::size_t pages) const {
    return {run_.data + frames * static_cast<std::ptrdiff_t>(kPageSize), pages,
            Pfn{static_cast<std::uint64_t>(4 + frames)}};
  }

  std::unique_ptr<SimPageAllocator> pages_;
  std::unique_ptr<SimPageAllocator> shared_;
  PageRun first_, run_, next_;
};

TEST_F(SimPageDeathTest, DefaultMessage) {
  EXPECT_DEATH(pages_->free_pages({}), "^mmkit: page: address not of this allocator 0x0\n$");
}

TEST_F(SimPageDeathTest, AddressesOfOthers) {
  int local = 0;
  PageRun wrong = run_;
  wrong.data = reinterpret_cast<std::byte*>(&local);
  EXPECT_DEATH(free_loudly(wrong), "\\[page\\|\\|address not of this allocator\\|[0-9]+\\]");
  EXPECT_DEATH(free_loudly(moved(-5, 1)), "address not of this allocator");
  EXPECT_DEATH(free_loudly(moved(60, 1)), "address not of this allocator");
  const PageRun foreign = shared_->allocate_pages({.pages = 4}).value();
  EXPECT_DEATH(free_loudly(foreign), "address not of this allocator");
  shared_->free_pages(foreign);
}

TEST_F(SimPageDeathTest, AFrameNumberThatIsNotTheAddress) {
  PageRun wrong = run_;
  wrong.first = first_.first;
  EXPECT_DEATH(free_loudly(wrong), "\\[page\\|\\|address not of this allocator\\|0\\]");
  wrong.first = Pfn{4 + (std::uint64_t{1} << 32)};
  EXPECT_DEATH(free_loudly(wrong), "address not of this allocator\\|4294967300\\]");
}

TEST_F(SimPageDeathTest, MisalignedAddresses) {
  PageRun wrong = run_;
  wrong.data += 8;
  EXPECT_DEATH(free_loudly(wrong), "\\[page\\|\\|misaligned address\\|[0-9]+\\]");
}

TEST_F(SimPageDeathTest, MemoryNotAllocated) {
  EXPECT_DEATH(free_loudly(moved(20, 1)), "\\[page\\|\\|free of memory not allocated\\|24\\]");
  EXPECT_DEATH(free_loudly(moved(20, 1000)), "free of memory not allocated\\|24\\]");
  EXPECT_DEATH(
      {
        pages_->free_pages(run_);
        free_loudly(run_);
      },
      "\\[page\\|\\|free of memory not allocated\\|4\\]");
  EXPECT_DEATH(
      {
        pages_->free_pages(run_);
        pages_->release();
        free_loudly(run_);
      },
      "\\[page\\|\\|free of memory not allocated\\|4\\]");
  // A run too long to be retained takes another way.
  EXPECT_DEATH(free_loudly(moved(20, 30)), "free of memory not allocated\\|24\\]");
}

TEST_F(SimPageDeathTest, OtherSizesAndOtherPlaces) {
  for (const std::size_t pages : {std::size_t{0}, std::size_t{3}, std::size_t{5}, std::size_t{8},
                                  std::size_t{20}, std::size_t{60}, ~std::size_t{0}}) {
    EXPECT_DEATH(free_loudly(moved(0, pages)), "size differs from the allocation\\|4\\]") << pages;
  }
  EXPECT_DEATH(free_loudly(moved(1, 3)), "size differs from the allocation\\|5\\]");
  EXPECT_DEATH(free_loudly(moved(1, 1)), "size differs from the allocation\\|5\\]");
}

TEST_F(SimPageDeathTest, AHandlerThatReturnsDoesNotSaveTheProgram) {
  EXPECT_EXIT(
      {
        set_failure_handler([](const FailureReport&) noexcept {});
        pages_->free_pages({});
      },
      ::testing::KilledBySignal(SIGABRT), "^$");
}

// No lock is held when the handler hears of a misuse: it may use the same allocator.
TEST_F(SimPageDeathTest, TheHandlerMayUseTheAllocator) {
  static SimPageAllocator* used = nullptr;
  used = pages_.get();
  for (const std::size_t pages : {std::size_t{3}, std::size_t{30}, ~std::size_t{0}}) {
    EXPECT_EXIT(
        {
          set_failure_handler([](const FailureReport&) noexcept {
            const Result<PageRun> run = used->allocate_pages({});
            ::_exit(run && used->validate() && used->release() == 0 ? 42 : 1);
          });
          pages_->free_pages(moved(0, pages));
        },
        ::testing::ExitedWithCode(42), "^$");
  }
}

TEST_F(SimPageDeathTest, NodeOfAForeignRun) {
  EXPECT_DEATH(static_cast<void>(pages_->node_of({})), "address not of this allocator");
}

TEST_F(SimPageDeathTest, ShareableMemoryInTheChildOfAFork) {
  const PageRun held = shared_->allocate_pages({.pages = 2}).value();
  const auto dies_in_child = [&](auto use) {
    const int code = testing::run_in_child([&] {
      use();
      return 0;
    });
    ::_exit(code == testing::kChildSignalled + SIGABRT ? 42 : 1);
  };
#define EXPECT_USED_AFTER_FORK(use)                                                          \
  EXPECT_EXIT(dies_in_child([&] { static_cast<void>(use); }), ::testing::ExitedWithCode(42), \
              "^mmkit: page: used after fork 0x40\n$")
  EXPECT_USED_AFTER_FORK(shared_->allocate_pages({}));
  EXPECT_USED_AFTER_FORK(shared_->allocate_pages({.gfp = Gfp::nowait}));
  EXPECT_USED_AFTER_FORK(shared_->free_pages(held));
  EXPECT_USED_AFTER_FORK(shared_->share(held));
  EXPECT_USED_AFTER_FORK(shared_->release());
  EXPECT_USED_AFTER_FORK(shared_->stats());
  EXPECT_USED_AFTER_FORK(shared_->validate());
  shared_->free_pages(held);
}

// AddressSanitizer is told what nobody may touch.
TEST_F(SimPageDeathTest, ASanitizerSeesUseAfterFree) {
#if defined(__SANITIZE_ADDRESS__)
  for (const std::size_t length : {std::size_t{1}, std::size_t{20}}) {  // retained; given back
    const PageRun run = pages_->allocate_pages({.pages = length}).value();
    volatile std::byte* const last = run.data + length * kPageSize - 1;
    *last = std::byte{1};
    pages_->free_pages(run);
    EXPECT_DEATH(*last = std::byte{1}, "use-after-poison");
    const PageRun again = pages_->allocate_pages({.pages = length}).value();
    again.data[length * kPageSize - 1] = std::byte{1};
    pages_->free_pages(again);
  }
#else
  GTEST_SKIP() << "needs AddressSanitizer";
#endif
}

void limit_address_space(std::size_t bytes) {
  const rlimit limit{bytes, bytes};
  ::setrlimit(RLIMIT_AS, &limit);
}

TEST_F(SimPageDeathTest, TheDefaultSourceTakesLessWhereAddressesAreLimited) {
  if (testing::kSanitized) GTEST_SKIP() << "shadow memory needs more addresses than that";
  EXPECT_EXIT(
      {
        limit_address_space(std::size_t{1} << 30);
        PageSource& pages = default_page_source();
        const Result<PageRun> run = pages.allocate_pages({.pages = 1000});
        if (run) pages.free_pages(*run);
        // 64 MiB are the least: 16384 pages; 1 GiB cannot be.
        const bool bounded = !pages.allocate_pages({.pages = 262144});
        ::_exit(run && bounded ? 42 : 1);
      },
      ::testing::ExitedWithCode(42), "^$");
}

TEST_F(SimPageDeathTest, TheDefaultSourceSaysSoWhenThereIsNoRoomAtAll) {
  if (testing::kSanitized) GTEST_SKIP() << "shadow memory needs more addresses than that";
  EXPECT_DEATH(
      {
        limit_address_space(std::size_t{32} << 20);
        default_page_source();
      },
      "^mmkit: page: no addresses for the default page source 0x[0-9a-f]+\n$");
}

// Used by objects that end after main, whose order nobody knows.
struct UsesPagesAtExit {
  PageRun run{};
  ~UsesPagesAtExit() {
    if (run.data != nullptr) default_page_source().free_pages(run);
  }
};
UsesPagesAtExit uses_pages_at_exit;

TEST_F(SimPageDeathTest, TheDefaultSourceOutlivesStaticObjects) {
  EXPECT_EXIT(
      {
        uses_pages_at_exit.run = default_page_source().allocate_pages({}).value();
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "^$");
}

}  // namespace
}  // namespace mmkit
