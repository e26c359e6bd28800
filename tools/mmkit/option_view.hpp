// SPDX-License-Identifier: MIT
//
// OptionView - what texts say of a command's options, without CLI11's ways of saying it.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "command_line.hpp"

namespace mmkit::tool {

struct OptionView {
  std::vector<std::string> names;  // "-d", "--driver"; none of a positional
  std::string value;               // "NAME[:PARAMS]"; empty of a flag
  std::string about;               // one line
  std::vector<std::string> words;  // that it takes
  bool positional = false, repeats = false;
};

inline OptionView view_of(const CommandLine& line, const CLI::Option* option) {
  OptionView view;
  for (const std::string& name : option->get_snames()) view.names.push_back("-" + name);
  for (const std::string& name : option->get_lnames()) view.names.push_back("--" + name);
  view.positional = view.names.empty();
  view.words = line.words_of(option);
  view.about = option->get_description();
  std::replace(view.about.begin(), view.about.end(), '\n', ' ');
  view.repeats = option->get_items_expected_max() > 1;
  if (view.positional) {
    view.value = option->get_name(true);
    return view;
  }
  if (option->get_items_expected_max() == 0) return view;
  // A range that is checked stands behind the name: "N:INT in [1 - 1024]".
  view.value = option->get_type_name();
  const std::size_t colon = view.value.find(':');
  if (colon != std::string::npos && colon != 0 && view.value[colon - 1] != '[') {
    view.value.resize(colon);
  }
  view.repeats = option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
  return view;
}

inline std::vector<OptionView> options_of(const CommandLine& line, const CLI::App& command) {
  std::vector<OptionView> views;
  for (const CLI::Option* option : command.get_options()) views.push_back(view_of(line, option));
  return views;
}

/// The subcommands that the help shows.
inline std::vector<const CLI::App*> shown_commands(const CommandLine& line) {
  std::vector<const CLI::App*> commands;
  for (const CLI::App* command : line.app().get_subcommands(nullptr)) {
    if (!command->get_group().empty()) commands.push_back(command);
  }
  return commands;
}

}  // namespace mmkit::tool
