// SPDX-License-Identifier: MIT
//
// Page layer - what a page costs: warm, in runs, in a random working set, and given back.
//
// Beside SimPageAllocator stand the mallocs' aligned_alloc, which is what a program would use
// instead, and for memory given back the bare madvise. The allocator is called twice over: by its
// own class, and through PageSource, as the pools call it.
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/page.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/comparison.hpp"
#include "support/harness.hpp"
#include "support/opaque.hpp"
#include "support/steady_state.hpp"

namespace mmkit::bench {
namespace {

constexpr const char* kDirect = "SimPageAllocator";
constexpr const char* kThroughSource = "as PageSource";

std::shared_ptr<SimPageAllocator> new_pages(std::size_t retain_bytes) {
  SimPageAllocatorOptions options;
  options.retain_bytes = retain_bytes;
  auto created = SimPageAllocator::create(options);
  if (!created)
    throw std::runtime_error("no page allocator: " + std::string(name(created.error())));
  return std::move(*created);
}

// ---------------------------------------------------------------- heaps of whole pages

// `Source` is the allocator's own class, or PageSource for the virtual call.
template <class Source>
struct PageHeap {
  using Object = PageRun;
  std::shared_ptr<SimPageAllocator> owner;
  Source* pages;

  Object make(std::size_t count) {
    Result<PageRun> run = pages->allocate_pages({.pages = count});
    if (!run) throw std::runtime_error("out of pages");
    use(run->data);
    return *run;
  }
  void drop(Object run) { pages->free_pages(run); }
};

struct AlignedHeap {
  using Object = void*;
  const Malloc* heap;

  Object make(std::size_t count) {
    void* const block = heap->allocate_aligned(kPageSize, count * kPageSize);
    use(block);
    if (block == nullptr) throw std::runtime_error(heap->name + ": out of memory");
    return block;
  }
  void drop(Object block) { heap->free(block); }
};

// Makes a contender of each heap by `contender_of(name, heap)`.
template <class MakeContender>
std::vector<Contender> contenders_of_all_heaps(MakeContender contender_of) {
  // As much as the largest working set below, so that nothing goes back to the system.
  constexpr std::size_t kRetainBytes = std::size_t{64} << 20;
  const auto direct = new_pages(kRetainBytes);
  const auto behind = new_pages(kRetainBytes);
  PageSource* const source = of_unknown_type<PageSource>(behind.get());
  std::vector<Contender> all;
  all.push_back(contender_of(kDirect, PageHeap<SimPageAllocator>{direct, direct.get()}));
  all.push_back(contender_of(kThroughSource, PageHeap<PageSource>{behind, source}));
  for (const Malloc& heap : peers().present) {
    all.push_back(contender_of(heap.name, AlignedHeap{&heap}));
  }
  return all;
}

// ---------------------------------------------------------------- warm pages

// Allocate and free at once, over and over.
template <class Heap>
Contender pair_contender(const std::string& name, Heap heap, std::size_t run_pages) {
  return {name, [heap, run_pages]() mutable -> Figures {
            constexpr std::size_t kPairs = 4096;
            Stopwatch watch;
            for (std::size_t i = 0; i < kPairs; ++i) heap.drop(heap.make(run_pages));
            return {watch.lap_ns_per(kPairs)};
          }};
}

void register_pair(const Options& options, std::size_t run_pages) {
  Comparison pair;
  pair.name = "page/pair/" + std::to_string(run_pages);
  pair.title = "ns to allocate and free " + std::to_string(run_pages) +
               (run_pages == 1 ? " page" : " pages") + ", at once, warm";
  pair.columns = {"pair"};
  pair.references = {"glibc"};
  pair.make = [run_pages] {
    return contenders_of_all_heaps([run_pages](const std::string& name, auto heap) {
      return pair_contender(name, heap, run_pages);
    });
  };
  if (run_pages == 1) {
    pair.targets = {{kDirect, "glibc", 1.0}, {kThroughSource, "glibc", 1.0}};
  }
  register_comparison(std::move(pair), options);
}

const std::vector<std::uint16_t>& one_page() {
  static const std::vector<std::uint16_t> sizes{1};
  return sizes;
}
// Orders and exact runs in equal parts.
const std::vector<std::uint16_t>& mixed_runs() {
  static const std::vector<std::uint16_t> sizes{1, 2, 3, 4, 5, 8, 16};
  return sizes;
}

void register_working_set(const Options& options, const std::string& name, const std::string& title,
                          const std::vector<std::uint16_t>& sizes) {
  Comparison set;
  set.name = "page/working-set/" + name;
  set.title = "ns, 1024 live; free 256 random ones, allocate 256: " + title;
  set.columns = {"allocate", "free", "pair"};
  set.references = {"glibc"};
  set.make = [&sizes] {
    return contenders_of_all_heaps([&sizes](const std::string& contender, auto heap) {
      const SteadyShape shape{.live = 1024, .batch = 256, .batches_per_turn = 16};
      auto state = std::make_shared<SteadyState<decltype(heap)>>(heap, sizes, shape);
      return Contender{contender, [state] { return state->turn(); }};
    });
  };
  if (sizes.size() == 1) {
    set.targets = {{kDirect, "glibc", 1.0}, {kThroughSource, "glibc", 1.0}};
  }
  register_comparison(std::move(set), options);
}

// ---------------------------------------------------------------- memory given back

constexpr std::size_t kGivenBackPages = 1024;

void touch(std::byte* page) {
  *reinterpret_cast<volatile std::byte*>(page) = std::byte{1};
}

Contender give_back_contender(const std::string& name, std::size_t retain_bytes) {
  return {name, [pages = new_pages(retain_bytes)]() -> Figures {
            std::vector<PageRun> runs(kGivenBackPages);
            Stopwatch watch;
            for (PageRun& run : runs) {
              Result<PageRun> allocated = pages->allocate_pages({});
              if (!allocated) throw std::runtime_error("out of pages");
              run = *allocated;
            }
            const double allocate_ns = watch.lap_ns_per(kGivenBackPages);
            for (const PageRun& run : runs) touch(run.data);
            const double touch_ns = watch.lap_ns_per(kGivenBackPages);
            for (const PageRun& run : runs) pages->free_pages(run);
            return {allocate_ns, touch_ns, watch.lap_ns_per(kGivenBackPages)};
          }};
}

// The same by hand: one mapping, given back by calls of so many pages each.
Contender madvise_contender(const std::string& name, std::size_t pages_per_call) {
  constexpr std::size_t kBytes = kGivenBackPages * kPageSize;
  void* const raw =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::runtime_error("mmap refuses 4 MiB");
  ::madvise(raw, kBytes, MADV_NOHUGEPAGE);
  const std::shared_ptr<std::byte> range(static_cast<std::byte*>(raw),
                                         [](std::byte* start) { ::munmap(start, kBytes); });
  return {name, [range, pages_per_call]() -> Figures {
            Stopwatch watch;
            for (std::size_t i = 0; i < kGivenBackPages; ++i) touch(range.get() + i * kPageSize);
            const double touch_ns = watch.lap_ns_per(kGivenBackPages);
            const std::size_t step = pages_per_call * kPageSize;
            for (std::size_t at = 0; at < kBytes; at += step) {
              if (::madvise(range.get() + at, step, MADV_DONTNEED) != 0) {
                throw std::runtime_error("madvise fails");
              }
            }
            return {0, touch_ns, watch.lap_ns_per(kGivenBackPages)};
          }};
}

void register_give_back(const Options& options) {
  Comparison back;
  back.name = "page/give-back";
  back.title = "ns a page to allocate 1024 pages, touch each for the first time, free them all";
  back.columns = {"allocate", "touch", "free"};
  back.references = {"madvise each page"};
  back.make = [] {
    return std::vector<Contender>{give_back_contender("retain 0", 0),
                                  give_back_contender("retain 1 MiB", std::size_t{1} << 20),
                                  give_back_contender("retain all", kGivenBackPages * kPageSize),
                                  madvise_contender("madvise each page", 1),
                                  madvise_contender("madvise once", kGivenBackPages)};
  };
  back.footnote = [] {
    return std::string(
        "  retain 1 MiB keeps a quarter of the pages, retain all every one: those are neither\n"
        "  given back nor touched for the first time again\n");
  };
  register_comparison(std::move(back), options);
}

void register_all(const Options& options) {
  register_pair(options, 1);
  for (const std::size_t run_pages : {2u, 3u, 4u, 5u, 8u, 16u}) register_pair(options, run_pages);
  register_working_set(options, "1", "single pages", one_page());
  register_working_set(options, "mixed", "runs of 1, 2, 3, 4, 5, 8 and 16 pages", mixed_runs());
  register_give_back(options);
}

}  // namespace
}  // namespace mmkit::bench

int main(int argc, char** argv) {
  return mmkit::bench::run_benchmarks(argc, argv, mmkit::bench::register_all);
}
