// SPDX-License-Identifier: MIT
//
// OddDriver - a driver that keeps each object in a page of its own and, on demand, does one thing
// wrong.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <mmkit/zpool.hpp>
#include <string>
#include <utility>

namespace mmkit::tool {

enum class Oddity {
  none,
  turns_a_bit,  // of the 3rd object, when it is stored
  mixes_up,     // the 2nd object reads as the 1st, where sizes are equal
  loses_count,  // stats() knows one object less
  breaks,       // validate() fails
  counts_pages_twice,
  has_no_memory,  // at the 3rd object
  is_busy,        // at the 3rd object: an error that store has no business to give
  refuses_large   // more than 2000 bytes: no_space
};

class OddBackend final : public ZpoolBackend {
 public:
  OddBackend(Oddity oddity, BackendEnv&& env)
      : oddity_(oddity), pages_(env.pages), tag_(std::uint64_t{env.pool_tag} << 48) {}
  ~OddBackend() override {
    for (auto& [number, object] : objects_) pages_->free_pages(object.run);
  }

  Result<Handle> allocate(std::size_t size_bytes, Gfp) noexcept override {
    if (oddity_ == Oddity::refuses_large && size_bytes > 2000) return fail(Errc::no_space);
    if (next_ == 3 && oddity_ == Oddity::has_no_memory) return fail(Errc::out_of_memory);
    if (next_ == 3 && oddity_ == Oddity::is_busy) return fail(Errc::busy);
    const Result<PageRun> run = pages_->allocate_pages({});
    if (!run) return fail(run.error());
    objects_[next_] = {*run, size_bytes};
    return Handle{tag_ | next_++};
  }
  Result<Handle> store(std::span<const std::byte> object, Gfp gfp) noexcept override {
    const Result<Handle> handle = ZpoolBackend::store(object, gfp);
    if (handle && number(*handle) == 3 && oddity_ == Oddity::turns_a_bit) {
      objects_[3].run.data[object.size() / 2] ^= std::byte{1};
    }
    return handle;
  }
  Status free(Handle handle) noexcept override {
    const auto place = objects_.find(number(handle));
    if (place == objects_.end()) return fail(Errc::invalid_argument);
    pages_->free_pages(place->second.run);
    objects_.erase(place);
    return {};
  }
  Result<std::span<std::byte>> map(Handle handle, MapMode mode) noexcept override {
    std::uint64_t wanted = number(handle);
    if (wanted == 2 && oddity_ == Oddity::mixes_up && mode == MapMode::read_only) wanted = 1;
    const auto place = objects_.find(wanted);
    if (place == objects_.end()) return fail(Errc::not_found);
    return std::span(place->second.run.data, kPageSize);
  }
  void unmap(Handle) noexcept override {}
  ShrinkOutcome shrink(std::size_t) noexcept override { return {0, fail(Errc::invalid_argument)}; }
  Result<std::size_t> compact() noexcept override { return fail(Errc::not_supported); }
  std::size_t total_pages() const noexcept override {
    return objects_.size() * (oddity_ == Oddity::counts_pages_twice ? 2 : 1);
  }
  ZpoolStats stats() const noexcept override {
    ZpoolStats stats;
    stats.objects = objects_.size() - (oddity_ == Oddity::loses_count ? 1 : 0);
    stats.pages = objects_.size();
    stats.metadata_bytes = 64 * objects_.size();
    return stats;
  }
  Status validate() const noexcept override {
    if (oddity_ == Oddity::breaks) return fail(Errc::bad_format);
    return {};
  }

 private:
  struct Object {
    PageRun run;
    std::size_t size_bytes = 0;
  };
  static std::uint64_t number(Handle handle) noexcept {
    return static_cast<std::uint64_t>(handle) & ((std::uint64_t{1} << 48) - 1);
  }

  Oddity oddity_;
  PageSource* pages_;
  std::uint64_t tag_;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, Object> objects_;
};

class OddDriver final : public ZpoolDriver {
 public:
  OddDriver(std::string type, Oddity oddity) : type_(std::move(type)), oddity_(oddity) {}
  std::string_view type() const noexcept override { return type_; }
  DriverTraits traits() const noexcept override { return {}; }
  Result<std::unique_ptr<ZpoolBackend>> create_pool(BackendEnv&& env) const noexcept override {
    if (!env.params.empty()) return fail(Errc::invalid_argument);
    return std::unique_ptr<ZpoolBackend>(std::make_unique<OddBackend>(oddity_, std::move(env)));
  }

 private:
  std::string type_;
  Oddity oddity_;
};

}  // namespace mmkit::tool
