// SPDX-License-Identifier: MIT
#include "arguments.hpp"

#include <cctype>

#include "command_line.hpp"
#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

/// The subcommand that was met, also when what stands behind it was wrong.
std::string topic_of(CommandLine& line) {
  for (const CLI::App* command : line.app().get_subcommands(nullptr)) {
    if (command->parsed()) return command->get_name();
  }
  return {};
}

}  // namespace

Arguments parse_arguments(int argc, const char* const* argv) {
  CommandLine line;
  try {
    line.app().parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return TextRequest{help_on(topic_of(line))};
  } catch (const CLI::CallForVersion& request) {
    return TextRequest{std::string(request.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    const std::string topic = topic_of(line);
    // CLI11's sentences begin like sentences, ours do not.
    std::string what = error.what();
    if (what.starts_with("The ") || what.starts_with("Could "))
      what.front() = static_cast<char>(std::tolower(what.front()));
    throw Problem(ExitCode::usage,
                  what + " (see 'mmkit help" + (topic.empty() ? "" : " " + topic) + "')");
  }
  if (!line.chosen()) throw Problem(ExitCode::usage, "no command given; 'mmkit help' lists them");
  return *line.chosen();
}

}  // namespace mmkit::tool
