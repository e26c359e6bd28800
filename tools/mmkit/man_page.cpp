// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <string_view>

#include "command_texts.hpp"
#include "option_view.hpp"

namespace mmkit::tool {
namespace {

/// Text for roff: its own marks made harmless, and a minus that can be copied.
std::string roff(std::string_view text) {
  std::string result;
  if (text.starts_with('.') || text.starts_with('\'')) result += "\\&";
  for (const char byte : text) {
    if (byte == '\\') {
      result += "\\e";
    } else if (byte == '-') {
      result += "\\-";
    } else {
      result += byte;
    }
  }
  return result;
}

std::string option_entry(const OptionView& option) {
  std::string head;
  for (const std::string& name : option.names) {
    head += (head.empty() ? "\\fB" : ", \\fB") + roff(name) + "\\fR";
  }
  if (!option.value.empty())
    head += (head.empty() ? "\\fI" : " \\fI") + roff(option.value) + "\\fR";
  return ".TP\n" + head + "\n" + roff(option.about) + "\n";
}

/// A footer of the help: paragraphs; lines of two spaces begin an entry, of more go on with it.
std::string notes(const std::string& footer) {
  std::string text;
  for (std::size_t at = 0; at < footer.size();) {
    const std::size_t end = std::min(footer.find('\n', at), footer.size());
    const std::string_view line = std::string_view(footer).substr(at, end - at);
    at = end + 1;
    const std::size_t indent = line.find_first_not_of(' ');
    if (indent == line.npos) {
      text += ".PP\n";
    } else if (indent == 2) {
      const std::size_t gap = line.find("  ", 2);
      const std::size_t rest = line.find_first_not_of(' ', gap);
      text += fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(line.substr(2, gap - 2)),
                          rest == line.npos ? std::string() : roff(line.substr(rest)));
    } else {
      text += roff(line.substr(indent)) + "\n";
    }
  }
  return text;
}

std::string synopsis(const CommandLine& line, const CLI::App& command) {
  std::string text = ".br\n\\fBmmkit " + roff(command.get_name()) + "\\fR [\\fIOPTIONS\\fR]";
  for (const OptionView& option : options_of(line, command)) {
    if (!option.positional) continue;
    const std::string value = "\\fI" + roff(option.value) + "\\fR" + (option.repeats ? "..." : "");
    text += command.get_name() == "help" ? " [" + value + "]" : " " + value;
  }
  return text + "\n";
}

}  // namespace

std::string man_page(const CommandLine& line) {
  std::string text =
      ".\\\" SPDX-License-Identifier: MIT\n"
      ".\\\" Made by the command itself from the declaration of its options.\n";
  text += fmt::format(".TH MMKIT 1 \"\" \"mmkit {}\" \"User Commands\"\n", MMKIT_VERSION);
  text +=
      ".SH NAME\nmmkit \\- the Linux kernel's memory allocators in user space, tried on real "
      "data\n";
  text += ".SH SYNOPSIS\n\\fBmmkit\\fR [\\fB\\-\\-help\\fR] [\\fB\\-\\-version\\fR]\n";
  for (const CLI::App* command : shown_commands(line)) text += synopsis(line, *command);
  text +=
      ".SH DESCRIPTION\nEach command tries the library on data of yours or on this machine, and "
      "says what came "
      "of it.\n";
  for (const CLI::App* command : shown_commands(line)) {
    text += ".SH \"" + roff(command->get_name()) + "\"\n" + roff(command->get_description()) + "\n";
    for (const OptionView& option : options_of(line, *command)) text += option_entry(option);
    if (!command->get_footer().empty()) text += ".PP\n" + notes(command->get_footer());
  }
  text +=
      ".SH ENVIRONMENT\n.TP\n\\fBTMPDIR\\fR\nwhere spill files are, unless \\fB\\-\\-spill\\fR "
      "says so\n"
      ".TP\n\\fBNO_COLOR\\fR\nturns escape sequences off\n"
      ".TP\n\\fBMMKIT_PERCPU_MODE\\fR\n\\fBfallback\\fR: no restartable sequences\n";
  return text;
}

}  // namespace mmkit::tool
