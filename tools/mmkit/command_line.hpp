// SPDX-License-Identifier: MIT
//
// CommandLine - every subcommand and option, declared once: CLI11 parses by it, and the help, the
// man page and the completions of shells are made from it.
//
// Only the sources beside this header include it: CLI11 costs seconds to compile.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "arguments.hpp"

namespace mmkit::tool {

class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  CLI::App& app() noexcept { return app_; }
  const CLI::App& app() const noexcept { return app_; }
  /// What was asked for; nothing when no subcommand was named.
  const std::optional<Arguments>& chosen() const noexcept { return chosen_; }
  /// The words that an option takes, when there is a list of them.
  std::vector<std::string> words_of(const CLI::Option* option) const;

 private:
  CLI::App* add_command(const std::string& name, const std::string& about);
  /// Has `options` chosen when the command is parsed.
  template <class Options>
  void choose(CLI::App& command, Options& options) {
    command.final_callback([this, &options] { chosen_ = options; });
  }

  void add_pack();
  void add_replay();
  void add_advise();
  void add_genpool();
  void add_percpu();
  void add_drivers();
  void add_help();
  void add_generate();

  static void add_json(CLI::App& command, ResultForm& form);
  static void add_strict(CLI::App& command, TalkOptions& talk, const std::string& input);
  static void add_talk(CLI::App& command, TalkOptions& talk);
  void add_driver(CLI::App& command, std::vector<std::string>& drivers);
  void add_codec(CLI::App& command, CodecChoice& codec);
  void add_format(CLI::App& command, TraceFormat& format);
  static void add_max_bytes(CLI::App& command, std::uint64_t& max_bytes);
  void add_heap(CLI::App& command, HeapOptions& heap);
  static void add_size(CLI::App& command, const std::string& name, std::uint64_t& bytes,
                       const std::string& help);
  static void add_pictures(CLI::App& command, PictureOptions& pictures, const std::string& what);
  static void add_events(CLI::App& command, std::string& path);
  static void add_file(CLI::App& command, const std::string& name, std::string& path,
                       const std::string& help);

  CLI::App app_;
  std::optional<Arguments> chosen_;
  PackOptions pack_;
  ReplayOptions replay_;
  AdviseOptions advise_;
  GenPoolRunOptions genpool_;
  PercpuRunOptions percpu_;
  DriversOptions drivers_;
  std::optional<int> level_;
  std::string help_topic_;
  std::string generated_;
  std::map<const CLI::Option*, std::vector<std::string>> words_;
};

/// The help of the whole command, or of one subcommand. Throws a Problem (usage) when there is none
/// of that name.
std::string help_on(const std::string& topic);

}  // namespace mmkit::tool
