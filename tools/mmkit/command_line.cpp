// SPDX-License-Identifier: MIT
#include "command_line.hpp"

#include <charconv>

#include "command_texts.hpp"
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
    "  5    the result could not be written to standard output or the file named,\n"
    "       or what a pool evicts not to its spill file\n"
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

/// Kept as text because CLI11 takes -1 for 2^64 - 1.
void set_seed(std::uint64_t& seed, const std::string& text) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, seed);
  if (error == std::errc{} && rest == end) return;
  throw CLI::ValidationError("--seed", in_quotes(text) + " is not a number from 0 to 2^64 - 1");
}

}  // namespace

CommandLine::CommandLine()
    : app_{"mmkit - the Linux kernel's memory allocators in user space, tried on real data",
           "mmkit"} {
  app_.set_version_flag("--version", std::string("mmkit ") + MMKIT_VERSION);
  app_.require_subcommand(0, 1);
  app_.get_formatter()->column_width(30);
  app_.footer("'mmkit help COMMAND' or 'mmkit COMMAND --help' says more about one.");
  add_pack();
  add_replay();
  add_advise();
  add_drivers();
  add_genpool();
  add_percpu();
  add_help();
  add_generate();
}

CLI::App* CommandLine::add_command(const std::string& name, const std::string& about) {
  return app_.add_subcommand(name, about);
}

void CommandLine::add_pack() {
  CLI::App& command = *add_command(
      "pack", "compress real files page by page, store them in every driver, verify, compare");
  command.add_option("PATH", pack_.paths, "files and directories to pack")
      ->required()
      ->type_name("");
  add_driver(command, pack_.drivers);
  add_codec(command, pack_.codec);
  add_max_bytes(command, pack_.max_bytes);
  command
      .add_option_function<std::string>(
          "--seed", [this](const std::string& text) { set_seed(pack_.seed, text); },
          "for the random order of loads (default: 1)")
      ->type_name("N");
  add_size(command, "--limit", pack_.spill.limit_bytes,
           "what each pool may hold; what it evicts goes to a\nspill file (default: no limit)");
  command
      .add_option("--spill", pack_.spill.directory,
                  "where spill files are, which have no name and\n"
                  "go with the process (default: TMPDIR, or /tmp)")
      ->type_name("DIR");
  add_pictures(command, pack_, "pages, objects and classes");
  add_strict(command, pack_, "input");
  add_talk(command, pack_);
  command.footer(std::string(kPackNotes) + kExitCodes);
  command.final_callback([this] {
    pack_.codec.level = level_.value_or(levels_of(pack_.codec.kind).usual);
    chosen_ = pack_;
  });
}

void CommandLine::add_replay() {
  CLI::App& command = *add_command(
      "replay", "replay traces in every driver or policy, and show how each fares over time");
  command
      .add_option("TRACE", replay_.traces,
                  "files: sizes of pages (.u16), operations on\nthem (.ops), allocations (.gpt)")
      ->required()
      ->type_name("");
  add_format(command, replay_.format);
  add_driver(command, replay_.drivers);
  add_heap(command, replay_);
  add_pictures(command, replay_, "the lines over time");
  add_events(command, replay_.events_path);
  add_strict(command, replay_, "trace");
  add_talk(command, replay_);
  command.footer(
      "Drivers are for .u16 and .ops, policies and heaps for .gpt. Figures are taken at the end "
      "of\n"
      "each snapshot of an .ops trace, and at 64 even points of others.\n"
      "A trace that cannot be read gives a warning; the others are replayed, unless --strict is "
      "given.\n"
      "Exit code 1 when an object or a place was wrong; else as 'mmkit help pack' says.");
  choose(command, replay_);
}

void CommandLine::add_advise() {
  CLI::App& command = *add_command(
      "advise",
      "say which driver, chain length or policy suits traces or files, and by which figures");
  command
      .add_option("INPUT", advise_.inputs,
                  "traces (.u16, .ops, .gpt), each advised on by itself;\n"
                  "or files and directories, all of them together")
      ->required()
      ->type_name("");
  add_format(command, advise_.format);
  add_codec(command, advise_.codec);
  add_max_bytes(command, advise_.max_bytes);
  add_heap(command, advise_);
  add_strict(command, advise_, "input");
  add_talk(command, advise_);
  command.footer(
      "Every driver is tried, zsmalloc with chains of 4, 8 and 16 pages; of an allocation trace "
      "(.gpt)\n"
      "every policy. The best share of memory that is data counts; within a hundredth of it the\n"
      "quickest candidate. --codec, --level and --max-bytes are for files, which are compressed "
      "page\n"
      "by page; --policy, --granule, --heap and --align for .gpt.\n"
      "Exit code 1 when a candidate was found to fail; else as 'mmkit help pack' says.");
  command.final_callback([this] {
    advise_.codec.level = level_.value_or(levels_of(advise_.codec.kind).usual);
    chosen_ = advise_;
  });
}

void CommandLine::add_genpool() {
  CLI::App& command = *add_command(
      "genpool", "replay traces of allocations through every policy of a pool of ranges, compare");
  command.add_option("TRACE", genpool_.traces, "files in the format GPT1 (.gpt)")
      ->required()
      ->type_name("");
  add_heap(command, genpool_);
  add_pictures(command, genpool_, "the heap at its peak");
  add_strict(command, genpool_, "trace");
  add_talk(command, genpool_);
  command.footer(
      "The trace's addresses are made up: no memory is managed, only the pool's own books are "
      "there.\n"
      "A trace that cannot be read gives a warning; the others are replayed, unless --strict is "
      "given.\n"
      "Exit code 1 when the places that a pool gave or its books are wrong; else as 'mmkit help "
      "pack'\nsays.");
  choose(command, genpool_);
}

void CommandLine::add_percpu() {
  CLI::App& command = *add_command(
      "percpu", "show how per-CPU variables work here: the mode, counters racing, chunks drawn");
  command.add_option("--threads", percpu_.threads, "threads that count (default: 8)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  command
      .add_option("--seconds", percpu_.seconds,
                  "time for all ways of counting together\n(default: 1)")
      ->type_name("S")
      ->check(CLI::Range(0.01, 3600.0));
  add_pictures(command, percpu_, "the chunks");
  add_events(command, percpu_.events_path);
  add_talk(command, percpu_);
  command.footer(
      "MMKIT_PERCPU_MODE=fallback in the environment shows the mode without restartable "
      "sequences.\n"
      "Exit code 1 when this_cpu_add lost an addition, which must not be; else as 'mmkit help "
      "pack'\n"
      "says.");
  choose(command, percpu_);
}

void CommandLine::add_drivers() {
  CLI::App& command = *add_command("drivers", "list the drivers and what they can do");
  add_json(command, drivers_.form);
  choose(command, drivers_);
}

void CommandLine::add_help() {
  CLI::App& command = *add_command("help", "help, on a command when one is named");
  CLI::Option* topic = command.add_option("COMMAND", help_topic_)->type_name("");
  for (const CLI::App* other : app_.get_subcommands(nullptr)) {
    if (!other->get_group().empty()) words_[topic].push_back(other->get_name());
  }
  command.final_callback([this] { chosen_ = TextRequest{help_on(help_topic_)}; });
}

void CommandLine::add_generate() {
  CLI::App& command = *add_command("generate", "print the man page or a completion of a shell");
  command.group("");  // for packages: not shown
  command.add_option("TEXT", generated_, "man, bash or zsh")->required()->type_name("");
  command.final_callback([this] {
    // From a parser that has parsed nothing, as help_on() does.
    const CommandLine line;
    if (generated_ == "man") {
      chosen_ = TextRequest{man_page(line)};
    } else if (generated_ == "bash") {
      chosen_ = TextRequest{bash_completion(line)};
    } else if (generated_ == "zsh") {
      chosen_ = TextRequest{zsh_completion(line)};
    } else {
      throw CLI::ValidationError("TEXT",
                                 in_quotes(generated_) + " is not a text; known: man, bash, zsh");
    }
  });
}

std::string help_on(const std::string& topic) {
  // From a parser that has parsed nothing: CLI11 turns every request for help to the subcommand that
  // was parsed last.
  const CommandLine line;
  if (topic.empty()) return line.app().help();
  for (const CLI::App* command : line.app().get_subcommands(nullptr)) {
    if (command->get_name() == topic) return command->help("mmkit");
  }
  throw Problem(ExitCode::usage, "there is no command " + in_quotes(topic) + "; see 'mmkit help'");
}

}  // namespace mmkit::tool
