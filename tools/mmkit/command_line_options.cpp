// SPDX-License-Identifier: MIT
//
// The options that several commands share, each declared once.
#include "command_line.hpp"
#include "driver_run.hpp"
#include "policies.hpp"
#include "trace_file.hpp"
#include "units.hpp"

namespace mmkit::tool {

std::vector<std::string> CommandLine::words_of(const CLI::Option* option) const {
  const auto found = words_.find(option);
  return found == words_.end() ? std::vector<std::string>{} : found->second;
}

void CommandLine::add_json(CLI::App& command, ResultForm& form) {
  command.add_flag_callback(
      "--json", [&form] { form = ResultForm::json; },
      "print one JSON document instead of the text");
}

void CommandLine::add_strict(CLI::App& command, TalkOptions& talk, const std::string& input) {
  command.add_flag_callback(
      "--strict", [&talk] { talk.rule = InputRule::strict; },
      "fail when any " + input + " cannot be read");
}

void CommandLine::add_talk(CLI::App& command, TalkOptions& talk) {
  add_json(command, talk.form);
  command.add_flag_callback(
      "-q,--quiet", [&talk] { talk.chatter = Chatter::quiet; }, "no progress, notes or warnings");
  command.add_flag_callback(
      "--no-progress", [&talk] { talk.progress = ProgressMode::never; },
      "no progress line on the terminal");
}

void CommandLine::add_driver(CLI::App& command, std::vector<std::string>& drivers) {
  CLI::Option* option =
      command
          .add_option("-d,--driver", drivers,
                      "a driver to use, with parameters after a colon;\n"
                      "may be repeated (default: all; 'mmkit drivers' lists them)")
          ->type_name("NAME[:PARAMS]")
          ->expected(1)
          ->take_all();
  words_[option] = registered_types(default_registry());
}

void CommandLine::add_codec(CLI::App& command, CodecChoice& codec) {
  CLI::Option* option =
      command
          .add_option_function<std::string>(
              "-c,--codec",
              [&codec](const std::string& text) {
                for (const CodecKind kind : {CodecKind::lz4, CodecKind::zstd}) {
                  if (text != name_of(kind)) continue;
                  codec.kind = kind;
                  return;
                }
                throw CLI::ValidationError("--codec",
                                           in_quotes(text) + " is not a codec; known: lz4, zstd");
              },
              "lz4 (default) or zstd")
          ->type_name("NAME");
  words_[option] = {"lz4", "zstd"};
  command
      .add_option("-l,--level", level_,
                  "the codec's level: lz4 1 (default) to 12,\n"
                  "zstd up to 22 (default 3), fast ones below 0")
      ->type_name("N");
}

/// Kept as text so that the message can be ours.
void CommandLine::add_size(CLI::App& command, const std::string& name, std::uint64_t& bytes,
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

void CommandLine::add_file(CLI::App& command, const std::string& name, std::string& path,
                           const std::string& help) {
  command.add_option(name, path, help)->type_name("FILE");
}

void CommandLine::add_pictures(CLI::App& command, PictureOptions& pictures,
                               const std::string& what) {
  add_file(command, "--svg", pictures.svg_path, "write " + what + " as an SVG picture");
  add_file(command, "--html", pictures.html_path,
           "write the same as a page for a browser, with zoom,\nhover and search");
}

void CommandLine::add_events(CLI::App& command, std::string& path) {
  add_file(
      command, "--trace", path,
      "write what happened when as Chrome trace events,\nwhich Perfetto and chrome://tracing show");
}

void CommandLine::add_max_bytes(CLI::App& command, std::uint64_t& max_bytes) {
  add_size(command, "--max-bytes", max_bytes,
           "read at most so much, which bounds the memory needed\n(default: 1 GiB)");
}

void CommandLine::add_format(CLI::App& command, TraceFormat& format) {
  CLI::Option* option =
      command
          .add_option_function<std::string>(
              "--format",
              [&format](const std::string& text) {
                const std::optional<TraceFormat> known = format_named(text);
                if (!known) {
                  throw CLI::ValidationError(
                      "--format", in_quotes(text) + " is not a format; known: u16, ops, gpt");
                }
                format = *known;
              },
              "u16, ops or gpt, of all traces (default: by the\nend of each name)")
          ->type_name("NAME");
  words_[option] = {"u16", "ops", "gpt"};
}

void CommandLine::add_heap(CLI::App& command, HeapOptions& heap) {
  CLI::Option* option = command
                            .add_option("-p,--policy", heap.policies,
                                        "first-fit, best-fit, first-fit-align,\n"
                                        "first-fit-order-align or relaxed;\n"
                                        "may be repeated (default: all)")
                            ->type_name("NAME")
                            ->expected(1)
                            ->take_all();
  for (const PolicyChoice& policy : choose_policies({}, 0)) words_[option].push_back(policy.name);
  add_size(command, "--granule", heap.granule_bytes,
           "what sizes are rounded up to, a power of two\n(default: 16)");
  add_size(command, "--heap", heap.heap_bytes,
           "the heap to replay in (default: a quarter more\nthan what is live at once)");
  add_size(command, "--align", heap.align_bytes,
           "of first-fit-align, a power of two\n(default: four granules)");
}

}  // namespace mmkit::tool
