// SPDX-License-Identifier: MIT
//
// `mmkit pack`: paths -> files -> pages -> corpus -> each store in turn -> table or JSON.
//
// What can be wrong with the request is looked at first, so that nobody waits for a compression
// whose driver has a typing error. Stores run one after the other and are gone before the next:
// memory is the corpus and one store.
#include "commands.hpp"

#include <fmt/format.h>

#include "codec_run.hpp"
#include "driver_run.hpp"
#include "malloc_run.hpp"
#include "pack_result.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

void warn_of(const Complaints& complaints, std::string_view more, Console& console) {
  for (const std::string& text : complaints.first()) console.warn(text);
  const std::uint64_t rest = complaints.count() - complaints.first().size();
  if (rest > 0) console.warn(fmt::format("and {} more {}", format_count(rest), more));
}

void report_input(const PackResult& result, Console& console) {
  warn_of(result.inputs.unreadable, "paths that cannot be read", console);
  warn_of(result.reading.unreadable, "files that cannot be read", console);
  warn_of(result.reading.shrunk, "files that became shorter", console);
  if (result.inputs.duplicates > 0) {
    console.note(
        fmt::format("{} given or met again (same device and inode): counted once",
                    result.inputs.duplicates == 1
                        ? std::string("1 file or directory was")
                        : format_count(result.inputs.duplicates) + " files or directories were"));
  }
  if (result.left_out_bytes() > 0) {
    console.note(fmt::format("input cut after {} (--max-bytes {}): {} more were found and left out",
                             format_counted(result.reading.pages, "page"),
                             format_bytes(result.options.max_bytes),
                             format_bytes(result.left_out_bytes())));
  }
}

/// Why there is not one page, in words.
std::string why_nothing(const PackResult& result) {
  const std::uint64_t unreadable = result.unreadable();
  if (unreadable == 1) {
    const Complaints& complaints =
        result.inputs.unreadable.empty() ? result.reading.unreadable : result.inputs.unreadable;
    return fmt::format("nothing could be read: {}", complaints.first().front());
  }
  if (unreadable > 1) {
    return fmt::format("nothing could be read: none of {} paths and files",
                       format_count(unreadable));
  }
  if (result.reading.shrunk.count() > 0) return "nothing to pack: the files were emptied meanwhile";
  if (result.inputs.empty_files > 0) {
    return fmt::format("nothing to pack: {}, all empty",
                       format_counted(result.inputs.empty_files, "file"));
  }
  return fmt::format("nothing to pack: no regular file in the paths given ({} and {} passed over)",
                     format_counted(result.inputs.links, "symbolic link"),
                     format_counted(result.inputs.special, "special file"));
}

void check_input(const PackResult& result, Console& console) {
  const bool nothing = result.corpus.pages == 0;
  // One complaint and nothing else: the error says it, a warning before it would say it twice.
  if (!nothing || result.unreadable() != 1) report_input(result, console);
  if (nothing) throw Problem(ExitCode::no_input, why_nothing(result));
  if (result.options.rule == InputRule::lenient) return;
  const std::uint64_t bad = result.unreadable() + result.reading.shrunk.count();
  if (bad == 0) return;
  throw Problem(ExitCode::no_input,
                fmt::format("{} could not be read as a whole, and --strict is set",
                            format_counted(bad, "path or file", "paths and files")));
}

std::uint64_t limit_in_pages(std::uint64_t max_bytes) {
  if (max_bytes < kPageSize) {
    throw Problem(ExitCode::usage, fmt::format("--max-bytes is {}; it must be at least one page, "
                                               "{} bytes",
                                               max_bytes, kPageSize));
  }
  return std::min<std::uint64_t>(max_bytes / kPageSize, kMaxCorpusPages);
}

void check_limit(const SpillPlan& spill) {
  if (spill.limit_bytes == 0 || spill.limit_bytes >= kPageSize) return;
  throw Problem(ExitCode::usage,
                fmt::format("--limit is {}; it must be at least one page, {} bytes",
                            spill.limit_bytes, kPageSize));
}

void read_input(PackResult& result, Corpus& corpus, Console& console) {
  const std::uint64_t limit_pages = limit_in_pages(result.options.max_bytes);
  result.inputs = walk_inputs(result.options.paths, limit_pages, console);
  Progress progress(console, "reading and compressing",
                    std::min(result.inputs.listed_pages, limit_pages) * kPageSize,
                    ProgressUnit::bytes);
  result.reading = read_pages(result.inputs.files, limit_pages, [&](PageBytes page, std::size_t) {
    corpus.add(page);
    progress.advance(kPageSize);
  });
  result.corpus = corpus.figures();
  result.objects = corpus.objects().size();
}

ExitCode judge(const PackResult& result, Console& console) {
  ExitCode code = ExitCode::ok;
  for (const StoreRow& row : result.rows) {
    if (row.verified()) continue;
    code = ExitCode::verification_failed;
    if (row.trial.mismatches > 0) {
      console.error(fmt::format(
          "{}: {} of {} did not come back; first: {}", row.name, format_count(row.trial.mismatches),
          format_counted(row.trial.objects, "object"), row.trial.first_mismatch));
    }
    if (!row.fault.empty()) console.error(fmt::format("{}: {}", row.name, row.fault));
  }
  return code;
}

}  // namespace

ExitCode run_pack(const PackOptions& options, Console& console, DriverRegistry& registry) {
  console.set_chatter(options.chatter);
  console.set_progress(options.progress);
  check_limit(options.spill);
  const std::unique_ptr<Codec> codec = make_codec(options.codec);
  const std::vector<DriverChoice> drivers = choose_drivers(options.drivers, registry);

  PackResult result;
  result.options = options;
  result.codec_version = codec->library_version();
  Corpus corpus(*codec);
  read_input(result, corpus, console);
  check_input(result, console);

  // A first impression of the codec's cost says how large a sample can be afforded.
  const CodecCost impression =
      measure_codec(corpus, spread(result.objects, kPagesAtATime), console);
  result.plan = plan_trial(corpus, impression, options.seed);
  result.codec_cost = measure_codec(corpus, result.plan.sample, console);
  for (const DriverChoice& driver : drivers) {
    result.rows.push_back(
        run_driver(driver, corpus, result.plan, registry, options.spill, console));
  }
  result.rows.push_back(run_malloc(corpus, result.plan, console));

  console.result(options.form == ResultForm::json ? pack_json(result)
                                                  : pack_report(result, console));
  return judge(result, console);
}

}  // namespace mmkit::tool
