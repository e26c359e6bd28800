// SPDX-License-Identifier: MIT
//
// ZspageWatch - what can be known of a zsmalloc pool from outside: which runs of pages it holds, which
// objects lie in which, and which classes the kernel's rule gives them.
//
// It shares no code with the library. Runs are seen by a page source in between; places of objects by
// the addresses of their mappings.
// Locking: none: one thread
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mmkit/page/page_source.hpp>
#include <utility>
#include <vector>

namespace mmkit::testing {

/// The kernel's rule for size classes, in its own words: all sizes, one after the other.
class NaiveClasses {
 public:
  struct Shape {
    std::size_t bytes, pages, objects;
  };
  explicit NaiveClasses(std::size_t chain_pages) {
    for (std::size_t bytes = 4096; bytes >= 32; bytes -= 16) {
      Shape shape{bytes, 0, 0};
      std::size_t least_waste = ~std::size_t{0};
      for (std::size_t pages = 1; pages <= chain_pages; ++pages) {
        if (pages * 4096 % bytes >= least_waste) continue;
        least_waste = pages * 4096 % bytes;
        shape.pages = pages;
        shape.objects = pages * 4096 / bytes;
      }
      const bool merges = !shapes_.empty() && shapes_.back().pages == shape.pages &&
                          shapes_.back().objects == shape.objects;
      if (!merges) shapes_.push_back(shape);
      for (std::size_t size = bytes; size + 16 > bytes && size != 0; --size) {
        class_of_[size] = shapes_.size() - 1;
      }
    }
    for (std::size_t size = 1; size < 32; ++size) class_of_[size] = class_of_[32];
  }
  /// Numbered from the largest.
  std::size_t find(std::size_t size_bytes) const { return class_of_[size_bytes]; }
  const Shape& shape(std::size_t number) const { return shapes_[number]; }
  std::size_t count() const { return shapes_.size(); }

 private:
  std::vector<Shape> shapes_;
  std::array<std::size_t, 4097> class_of_{};
};

/// The kernel's rule for places: the fullest group that has room; without compaction. For counts alone.
class NaiveZspages {
 public:
  explicit NaiveZspages(const NaiveClasses& classes) : classes_(classes), used_(classes.count()) {}

  /// Adds an object; the number of its zspage within its class.
  std::size_t add(std::size_t size_bytes) {
    const std::size_t c = classes_.find(size_bytes);
    const NaiveClasses::Shape& shape = classes_.shape(c);
    std::vector<std::size_t>& used = used_[c];
    std::size_t best = used.size(), free = used.size();
    for (std::size_t z = 0; z < used.size(); ++z) {
      if (used[z] == 0) free = z;
      if (used[z] == 0 || used[z] == shape.objects) continue;
      if (best == used.size() || used[z] * 10 / shape.objects > used[best] * 10 / shape.objects) {
        best = z;
      }
    }
    if (best == used.size()) {
      best = free;
      if (best == used.size()) used.push_back(0);
      pages_ += shape.pages;
    }
    ++used[best];
    return best;
  }
  void remove(std::size_t size_bytes, std::size_t zspage) {
    const std::size_t c = classes_.find(size_bytes);
    if (--used_[c][zspage] == 0) pages_ -= classes_.shape(c).pages;
  }
  std::size_t pages() const { return pages_; }
  /// What one zspage more for each class in use would take.
  std::size_t slack_pages() const {
    std::size_t pages = 0;
    for (std::size_t c = 0; c < used_.size(); ++c) {
      std::size_t objects = 0;
      for (const std::size_t used : used_[c]) objects += used;
      if (objects != 0) pages += classes_.shape(c).pages;
    }
    return pages;
  }

 private:
  const NaiveClasses& classes_;
  std::vector<std::vector<std::size_t>> used_;
  std::size_t pages_ = 0;
};

/// Hands runs through and remembers which are held.
class WatchedSource final : public PageSource {
 public:
  using Runs = std::map<std::uintptr_t, std::size_t>;  // pages by address
  /// `freed` is called before a run goes back.
  WatchedSource(PageSource& inner, std::function<void(std::uintptr_t)> freed)
      : inner_(inner), freed_(std::move(freed)) {}

  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    Result<PageRun> run = inner_.allocate_pages(request);
    if (!run) return run;
    runs_.emplace(reinterpret_cast<std::uintptr_t>(run->data), run->pages);
    held_ += run->pages;
    return run;
  }
  void free_pages(PageRun run) noexcept override {
    const auto at = reinterpret_cast<std::uintptr_t>(run.data);
    freed_(at);
    held_ -= run.pages;
    runs_.erase(at);
    inner_.free_pages(run);
  }
  PageSourceStats stats() const noexcept override { return inner_.stats(); }

  const Runs& runs() const { return runs_; }
  std::size_t held_pages() const { return held_; }
  /// The run that an address is in; end() when it is in none.
  Runs::const_iterator find(std::uintptr_t address) const {
    auto at = runs_.upper_bound(address);
    if (at == runs_.begin()) return runs_.end();
    --at;
    return address < at->first + at->second * kPageSize ? at : runs_.end();
  }

 private:
  PageSource& inner_;
  std::function<void(std::uintptr_t)> freed_;
  Runs runs_;
  std::size_t held_ = 0;
};

}  // namespace mmkit::testing
