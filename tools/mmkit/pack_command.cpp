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
#include "picture_files.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

void check_limit(const SpillPlan& spill) {
  if (spill.limit_bytes == 0 || spill.limit_bytes >= kPageSize) return;
  throw Problem(ExitCode::usage,
                fmt::format("--limit is {}; it must be at least one page, {} bytes",
                            spill.limit_bytes, kPageSize));
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
  static_cast<PackInput&>(result) = read_input(
      options.paths, options.max_bytes, [&](PageBytes page) { corpus.add(page); }, console);
  check_input(result, options.rule, console);
  result.corpus = corpus.figures();
  result.objects = corpus.objects().size();

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
  if (wants_picture(options)) {
    write_picture(options, pack_picture(drivers, corpus, options.spill, registry, console));
  }
  return judge(result, console);
}

}  // namespace mmkit::tool
