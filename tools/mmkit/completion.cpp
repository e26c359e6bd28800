// SPDX-License-Identifier: MIT
//
// Completions: commands, then the options of the command, then what an option takes: words, files,
// directories or nothing that could be known. What is no option is a file.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "command_texts.hpp"
#include "option_view.hpp"

namespace mmkit::tool {
namespace {

enum class Takes { nothing, words, files, directories };

Takes takes_of(const OptionView& option) {
  if (!option.words.empty()) return Takes::words;
  if (option.value == "FILE" || (option.positional && option.value != "COMMAND")) {
    return Takes::files;
  }
  return option.value == "DIR" ? Takes::directories : Takes::nothing;
}

std::vector<std::string> command_names(const CommandLine& line) {
  std::vector<std::string> names;
  for (const CLI::App* command : shown_commands(line)) names.push_back(command->get_name());
  return names;
}

std::string bash_action(const OptionView& option) {
  switch (takes_of(option)) {
    case Takes::words:
      return fmt::format("_mmkit_words '{}'", fmt::join(option.words, " "));
    case Takes::files:
      return "_mmkit_files -f";
    case Takes::directories:
      return "_mmkit_files -d";
    case Takes::nothing:
      break;
  }
  return ":";
}

/// The cases "command:option" of values, and the case "command" of the rest.
void add_bash(const CommandLine& line, const CLI::App& command, std::string& values,
              std::string& rest) {
  std::vector<std::string> names;
  std::string positional = ":";
  for (const OptionView& option : options_of(line, command)) {
    names.insert(names.end(), option.names.begin(), option.names.end());
    if (option.positional) {
      positional = bash_action(option);
    } else if (!option.value.empty()) {
      std::vector<std::string> patterns;
      for (const std::string& name : option.names) {
        patterns.push_back(command.get_name() + ":" + name);
      }
      values +=
          fmt::format("    {}) {}; return ;;\n", fmt::join(patterns, "|"), bash_action(option));
    }
  }
  rest += fmt::format("    {}) if [[ $word == -* ]]; then _mmkit_words '{}'; else {}; fi ;;\n",
                      command.get_name(), fmt::join(names, " "), positional);
}

/// A text inside single quotes and the brackets of _arguments.
std::string zsh_quoted(std::string_view text) {
  std::string result;
  for (const char byte : text) {
    if (byte == '\'') {
      result += "'\\''";
    } else if (byte == '[' || byte == ']' || byte == ':') {
      result += std::string("\\") + byte;
    } else {
      result += byte;
    }
  }
  return result;
}

std::string zsh_action(const OptionView& option) {
  switch (takes_of(option)) {
    case Takes::words:
      return fmt::format("({})", fmt::join(option.words, " "));
    case Takes::files:
      return "_files";
    case Takes::directories:
      return "_files -/";
    case Takes::nothing:
      break;
  }
  return " ";
}

void add_zsh(const CommandLine& line, const CLI::App& command, std::string& text) {
  text += fmt::format("    {})\n      _arguments", command.get_name());
  for (const OptionView& option : options_of(line, command)) {
    const std::string value =
        option.value.empty() ? "" : ":" + zsh_quoted(option.value) + ":" + zsh_action(option);
    if (option.positional)
      text += fmt::format(" \\\n        '{}{}'", option.repeats ? "*" : "1", value);
    for (const std::string& name : option.names) {
      text += fmt::format(" \\\n        '{}{}[{}]{}'", option.repeats ? "*" : "", name,
                          zsh_quoted(option.about), value);
    }
  }
  text += "\n      ;;\n";
}

}  // namespace

std::string bash_completion(const CommandLine& line) {
  std::string values, rest;
  for (const CLI::App* command : shown_commands(line)) add_bash(line, *command, values, rest);
  const std::vector<std::string> names = command_names(line);
  return fmt::format(
      "# SPDX-License-Identifier: MIT\n"
      "# Completion of mmkit for bash; made by the command itself.\n"
      "_mmkit_words() {{\n  mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$word\")\n}}\n"
      "_mmkit_files() {{\n  compopt -o filenames 2>/dev/null\n"
      "  mapfile -t COMPREPLY < <(compgen \"$1\" -- \"$word\")\n}}\n"
      "_mmkit() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command= i\n"
      "  COMPREPLY=()\n"
      "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
      "    case ${{COMP_WORDS[i]}} in\n      {}) command=${{COMP_WORDS[i]}}; break ;;\n    esac\n"
      "  done\n"
      "  case $command:$before in\n{}  esac\n"
      "  case $command in\n    '') _mmkit_words '{} --help --version' ;;\n{}  esac\n}}\n"
      "complete -F _mmkit mmkit\n",
      fmt::join(names, "|"), values, fmt::join(names, " "), rest);
}

std::string zsh_completion(const CommandLine& line) {
  std::string commands, cases;
  for (const CLI::App* command : shown_commands(line)) {
    commands +=
        fmt::format("    '{}:{}'\n", command->get_name(), zsh_quoted(command->get_description()));
    add_zsh(line, *command, cases);
  }
  return fmt::format(
      "#compdef mmkit\n"
      "# SPDX-License-Identifier: MIT\n"
      "# Completion of mmkit for zsh; made by the command itself.\n"
      "_mmkit() {{\n  local curcontext=$curcontext state line\n  local -a commands\n"
      "  commands=(\n{}  )\n"
      "  _arguments -C '(- *)--help[help]' '(- *)--version[the version]' '1:command:->command' "
      "'*::argument:->rest'\n"
      "  if [[ $state == command ]]; then\n    _describe command commands\n    return\n  fi\n"
      "  [[ $state == rest ]] || return\n"
      "  case $words[1] in\n{}  esac\n}}\n"
      "_mmkit \"$@\"\n",
      commands, cases);
}

}  // namespace mmkit::tool
