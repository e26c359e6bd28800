// SPDX-License-Identifier: MIT
//
// Fallback - additions where there are no restartable sequences, beside atomics sharded by hand.
//
// The mode of a process never changes, so the program runs itself once more, with
// MMKIT_PERCPU_MODE=fallback, for this comparison alone, and shows what it printed.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "percpu/add.hpp"

namespace mmkit::bench {
namespace detail {

inline std::string output_of(const std::string& command) {
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run itself in fallback mode");
  std::string text;
  char part[4096];
  for (std::size_t got; (got = std::fread(part, 1, sizeof part, pipe)) != 0;)
    text.append(part, got);
  if (::pclose(pipe) != 0) throw std::runtime_error("the run in fallback mode failed");
  return text;
}

inline Section fallback_by_child(const Options& options) {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (length <= 0) throw std::runtime_error("/proc/self/exe cannot be read");
  self[length] = '\0';
  std::string command =
      "MMKIT_PERCPU_MODE=fallback '" + std::string(self) +
      "' --benchmark_filter='^fallback/add' --rounds=" + std::to_string(options.rounds);
  if (options.quick) command += " --quick";
  const std::string text = output_of(command);
  const std::size_t begin = text.find("fallback/add"), verdicts = text.find("\ntargets\n");
  if (begin == std::string::npos) throw std::runtime_error("the run in fallback mode is silent");
  const std::size_t end = options.quick ? text.find("\na quick run") : verdicts;
  return {text.substr(begin, end == std::string::npos ? end : end - begin),
          verdicts == std::string::npos ? "" : text.substr(verdicts + 9)};
}

}  // namespace detail

/// Registers fallback/add; in a process of the other mode it is a child's.
inline void register_fallback(const Options& options) {
  if (percpu_mode() != PercpuMode::fallback) {
    register_section("fallback", 1, [options](::benchmark::State& state) {
      Section section;
      for (auto _ : state) section = detail::fallback_by_child(options);
      return section;
    });
    return;
  }
  const std::size_t count = options.scale(1 << 16, 1 << 12);
  const PercpuPtr<std::uint64_t> local = new_number(PercpuAllocator::instance());
  Comparison add;
  add.name = "fallback/add";
  add.title = "ns an addition, one thread; " + std::string(percpu_mode_reason());
  add.columns = {"add"};
  add.references = {"atomic of the CPU"};
  add.make = [count, local] {
    const auto shards = std::make_shared<detail::AtomicShards>();
    std::vector<Contender> all;
    all.push_back(timed<Turn::eight>("this_cpu_add", count, [local] { this_cpu_add(local, 1); }));
    all.push_back(timed<Turn::eight>("atomic of the CPU", count, [shards] { shards->add(); }));
    return all;
  };
  add.targets = {{"this_cpu_add", "atomic of the CPU", 1.15}};
  register_comparison(std::move(add), options);
}

}  // namespace mmkit::bench
