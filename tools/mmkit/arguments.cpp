// SPDX-License-Identifier: MIT
#include "arguments.hpp"

#include <CLI/CLI.hpp>
#include <cctype>
#include <charconv>
#include <optional>

#include "exit_code.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

constexpr const char* kExitCodes =
    "Exit codes:\n"
    "  0    all stored objects came back as they were\n"
    "  1    verification failed: an object came back different, or a pool's books are wrong\n"
    "  2    the arguments make no sense, or name a driver that does not exist\n"
    "  3    nothing could be read, or --strict and not everything could\n"
    "  4    out of memory; a smaller --max-bytes needs less\n"
    "  5    the result could not be written to standard output or the file named\n"
    "  6    a driver or codec failed in a way that it should not\n"
    "  129, 130, 143   ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM";

constexpr const char* kPackNotes =
    "Paths are files or directories. Symbolic links found inside directories are not followed; a\n"
    "file met twice counts once; special files and the kernel's file systems are passed over.\n"
    "Input that cannot be read gives a warning; the rest is packed and the exit code is 0, unless\n"
    "nothing could be read or --strict is given.\n"
    "\n"
    "Sizes: K, M, G (or KiB, MiB, GiB) are powers of 1024; kB, MB, GB powers of 1000.\n"
    "The progress line appears only on a terminal. NO_COLOR=1 turns escape sequences off.\n"
    "\n";

/// The parts that live while CLI11 parses into them.
struct Parser {
  CLI::App app{"mmkit - the Linux kernel's memory allocators in user space, tried on real data",
               "mmkit"};
  PackOptions pack;
  DriversOptions drivers;
  GenPoolRunOptions genpool;
  PercpuRunOptions percpu;
  std::optional<int> level;
  bool pack_json = false;
  bool drivers_json = false;
  bool genpool_json = false;
  bool percpu_json = false;
  bool strict = false;
  bool quiet = false;
  bool no_progress = false;
  std::string help_topic;
  CLI::App* pack_command = nullptr;
  CLI::App* drivers_command = nullptr;
  CLI::App* genpool_command = nullptr;
  CLI::App* percpu_command = nullptr;
  CLI::App* help_command = nullptr;
};

void set_codec(PackOptions& options, const std::string& text) {
  for (const CodecKind kind : {CodecKind::lz4, CodecKind::zstd}) {
    if (text != name_of(kind)) continue;
    options.codec.kind = kind;
    return;
  }
  throw CLI::ValidationError("--codec", in_quotes(text) + " is not a codec; known: lz4, zstd");
}

/// Kept as text because CLI11 takes -1 for 2^64 - 1.
void set_seed(PackOptions& options, const std::string& text) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, options.seed);
  if (error == std::errc{} && rest == end) return;
  throw CLI::ValidationError("--seed", in_quotes(text) + " is not a number from 0 to 2^64 - 1");
}

/// --max-bytes, kept as text so that the message can be ours.
void add_size_option(CLI::App& command, const std::string& name, std::uint64_t& bytes,
                     const std::string& help) {
  command
      .add_option_function<std::string>(
          name,
          [name, &bytes](const std::string& text) {
            const std::optional<std::uint64_t> count = parse_byte_count(text);
            if (!count) {
              throw CLI::ValidationError(
                  name, in_quotes(text) + " is not a size such as 4096, 64M or 1.5GiB");
            }
            bytes = *count;
          },
          help)
      ->type_name("SIZE");
}

void add_pack(Parser& parser) {
  CLI::App* command = parser.app.add_subcommand(
      "pack", "compress real files page by page, store them in every driver, verify, compare");
  PackOptions& options = parser.pack;
  command->add_option("PATH", options.paths, "files and directories to pack")
      ->required()
      ->type_name("");
  command
      ->add_option("-d,--driver", options.drivers,
                   "a driver to use, with parameters after a colon;\n"
                   "may be repeated (default: all; 'mmkit drivers' lists them)")
      ->type_name("NAME[:PARAMS]")
      ->expected(1)
      ->take_all();
  command
      ->add_option_function<std::string>(
          "-c,--codec", [&options](const std::string& text) { set_codec(options, text); },
          "lz4 (default) or zstd")
      ->type_name("NAME");
  command
      ->add_option("-l,--level", parser.level,
                   "the codec's level: lz4 1 (default) to 12,\n"
                   "zstd up to 22 (default 3), fast ones below 0")
      ->type_name("N");
  add_size_option(*command, "--max-bytes", options.max_bytes,
                  "read at most so much, which bounds the memory needed\n(default: 1 GiB)");
  command
      ->add_option_function<std::string>(
          "--seed", [&options](const std::string& text) { set_seed(options, text); },
          "for the random order of loads (default: 1)")
      ->type_name("N");
  command->add_flag("--json", parser.pack_json, "print one JSON document instead of the table");
  command->add_flag("--strict", parser.strict, "fail when any input cannot be read");
  command->add_flag("-q,--quiet", parser.quiet, "no progress, notes or warnings");
  command->add_flag("--no-progress", parser.no_progress, "no progress line on the terminal");
  command->footer(std::string(kPackNotes) + kExitCodes);
  parser.pack_command = command;
}

void add_genpool(Parser& parser) {
  CLI::App* command = parser.app.add_subcommand(
      "genpool", "replay traces of allocations through every policy of a pool of ranges, compare");
  GenPoolRunOptions& options = parser.genpool;
  command->add_option("TRACE", options.traces, "files in the format GPT1 (.gpt)")
      ->required()
      ->type_name("");
  command
      ->add_option("-p,--policy", options.policies,
                   "first-fit, best-fit, first-fit-align,\n"
                   "first-fit-order-align or relaxed;\nmay be repeated (default: all)")
      ->type_name("NAME")
      ->expected(1)
      ->take_all();
  add_size_option(*command, "--granule", options.granule_bytes,
                  "what sizes are rounded up to, a power of two\n(default: 16)");
  add_size_option(*command, "--heap", options.heap_bytes,
                  "the heap to replay in (default: a quarter more\nthan what is live at once)");
  add_size_option(*command, "--align", options.align_bytes,
                  "of first-fit-align, a power of two\n(default: four granules)");
  command->add_option("--svg", options.svg_path, "write the picture to a file too")
      ->type_name("FILE");
  command->add_flag("--json", parser.genpool_json, "print one JSON document instead of the text");
  command->add_flag("--strict", parser.strict, "fail when any trace cannot be read");
  command->add_flag("-q,--quiet", parser.quiet, "no progress, notes or warnings");
  command->add_flag("--no-progress", parser.no_progress, "no progress line on the terminal");
  command->footer(
      "The trace's addresses are made up: no memory is managed, only the pool's own books are "
      "there.\n"
      "A trace that cannot be read gives a warning; the others are replayed, unless --strict is "
      "given.\n"
      "Exit code 1 when the places that a pool gave or its books are wrong; else as 'mmkit help "
      "pack'\nsays.");
  parser.genpool_command = command;
}

void add_percpu(Parser& parser) {
  CLI::App* command = parser.app.add_subcommand(
      "percpu", "show how per-CPU variables work here: the mode, counters racing, chunks drawn");
  command->add_option("--threads", parser.percpu.threads, "threads that count (default: 8)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--seconds", parser.percpu.seconds,
                   "time for all ways of counting together\n(default: 1)")
      ->type_name("S")
      ->check(CLI::Range(0.01, 3600.0));
  command->add_flag("--json", parser.percpu_json, "print one JSON document instead of the text");
  command->add_flag("-q,--quiet", parser.quiet, "no progress, notes or warnings");
  command->add_flag("--no-progress", parser.no_progress, "no progress line on the terminal");
  command->footer(
      "MMKIT_PERCPU_MODE=fallback in the environment shows the mode without restartable "
      "sequences.\n"
      "Exit code 1 when this_cpu_add lost an addition, which must not be; else as 'mmkit help "
      "pack'\n"
      "says.");
  parser.percpu_command = command;
}

void add_commands(Parser& parser) {
  parser.app.set_version_flag("--version", std::string("mmkit ") + MMKIT_VERSION);
  parser.app.require_subcommand(0, 1);
  parser.app.get_formatter()->column_width(30);
  parser.app.footer("'mmkit help COMMAND' or 'mmkit COMMAND --help' says more about one.");
  add_pack(parser);
  parser.drivers_command =
      parser.app.add_subcommand("drivers", "list the drivers and what they can do");
  parser.drivers_command->add_flag("--json", parser.drivers_json,
                                   "print one JSON document instead of the table");
  add_genpool(parser);
  add_percpu(parser);
  parser.help_command = parser.app.add_subcommand("help", "help, on a command when one is named");
  parser.help_command->add_option("COMMAND", parser.help_topic)->type_name("");
}

/// The help of the whole command, or of one subcommand. From a parser that has parsed nothing:
/// CLI11 turns every request for help to the subcommand that was parsed last.
std::string help_on(const std::string& topic) {
  Parser parser;
  add_commands(parser);
  if (topic.empty()) return parser.app.help();
  for (const CLI::App* command : parser.app.get_subcommands(nullptr)) {
    if (command->get_name() == topic) return command->help("mmkit");
  }
  throw Problem(ExitCode::usage, "there is no command " + in_quotes(topic) + "; see 'mmkit help'");
}

/// What --help stands behind.
std::string topic_of(const Parser& parser) {
  const std::vector<CLI::App*> commands = parser.app.get_subcommands();
  return commands.empty() ? std::string{} : commands.front()->get_name();
}

Arguments settle(Parser& parser) {
  if (parser.help_command->parsed()) return TextRequest{help_on(parser.help_topic)};
  if (parser.drivers_command->parsed()) {
    if (parser.drivers_json) parser.drivers.form = ResultForm::json;
    return parser.drivers;
  }
  if (parser.genpool_command->parsed()) {
    if (parser.genpool_json) parser.genpool.form = ResultForm::json;
    if (parser.strict) parser.genpool.rule = InputRule::strict;
    if (parser.quiet) parser.genpool.chatter = Chatter::quiet;
    if (parser.no_progress) parser.genpool.progress = ProgressMode::never;
    return parser.genpool;
  }
  if (parser.percpu_command->parsed()) {
    if (parser.percpu_json) parser.percpu.form = ResultForm::json;
    if (parser.quiet) parser.percpu.chatter = Chatter::quiet;
    if (parser.no_progress) parser.percpu.progress = ProgressMode::never;
    return parser.percpu;
  }
  if (!parser.pack_command->parsed()) {
    throw Problem(ExitCode::usage, "no command given; 'mmkit help' lists them");
  }
  PackOptions& options = parser.pack;
  options.codec.level = parser.level.value_or(levels_of(options.codec.kind).usual);
  if (parser.pack_json) options.form = ResultForm::json;
  if (parser.strict) options.rule = InputRule::strict;
  if (parser.quiet) options.chatter = Chatter::quiet;
  if (parser.no_progress) options.progress = ProgressMode::never;
  return options;
}

}  // namespace

Arguments parse_arguments(int argc, const char* const* argv) {
  Parser parser;
  add_commands(parser);
  try {
    parser.app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return TextRequest{help_on(topic_of(parser))};
  } catch (const CLI::CallForVersion& request) {
    return TextRequest{std::string(request.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    const std::string topic = parser.pack_command->parsed()      ? " pack"
                              : parser.genpool_command->parsed() ? " genpool"
                              : parser.percpu_command->parsed()  ? " percpu"
                                                                 : "";
    // CLI11's sentences begin like sentences, ours do not.
    std::string what = error.what();
    if (what.starts_with("The ") || what.starts_with("Could "))
      what.front() = static_cast<char>(std::tolower(what.front()));
    throw Problem(ExitCode::usage, what + " (see 'mmkit help" + topic + "')");
  }
  return settle(parser);
}

}  // namespace mmkit::tool
