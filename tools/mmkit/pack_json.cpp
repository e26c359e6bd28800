// SPDX-License-Identifier: MIT
//
// The JSON view: every figure of the table and some more, by full names with units. Figures that do
// not exist (the density of nothing) are null. Names of files that are not UTF-8 are shown with the
// replacement character.
#include "pack_result.hpp"

#include <nlohmann/json.hpp>

#include "json_text.hpp"

namespace mmkit::tool {
namespace {

using Json = nlohmann::ordered_json;

Json number_or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

Json limit_json(const PackOptions& options) {
  return options.spill.limit_bytes == 0 ? Json() : Json(options.spill.limit_bytes);
}

Json complaints_json(const Complaints& complaints) {
  return {{"count", complaints.count()}, {"first", complaints.first()}};
}

Json input_json(const PackResult& result) {
  return {{"paths", result.options.paths},
          {"files", result.reading.files},
          {"bytes", result.reading.bytes},
          {"max_bytes", result.options.max_bytes},
          {"left_out_bytes", result.left_out_bytes()},
          {"empty_files", result.inputs.empty_files},
          {"duplicates", result.inputs.duplicates},
          {"symbolic_links_not_followed", result.inputs.links},
          {"special_files_skipped", result.inputs.special},
          {"paths_unreadable", complaints_json(result.inputs.unreadable)},
          {"files_unreadable", complaints_json(result.reading.unreadable)},
          {"files_shrunk", complaints_json(result.reading.shrunk)}};
}

Json corpus_json(const PackResult& result) {
  const CorpusFigures& corpus = result.corpus;
  return {{"page_size_bytes", kPageSize},
          {"pages", corpus.pages},
          {"padding_bytes", result.reading.padding_bytes},
          {"same_filled_pages", corpus.same_filled_pages()},
          {"zero_pages", corpus.zero_pages},
          {"repeated_byte_pages", corpus.repeated_byte_pages},
          {"repeated_word_pages", corpus.repeated_word_pages},
          {"objects", result.objects},
          {"object_bytes", corpus.object_bytes},
          {"incompressible_objects", corpus.raw_objects}};
}

Json row_json(const StoreRow& row) {
  const TrialFigures& trial = row.trial;
  return {{"name", row.name},
          {"type", row.type},
          {"params", row.params},
          {"objects", trial.objects},
          {"payload_bytes", trial.payload_bytes},
          {"payload_in_pool_bytes", row.payload_in_pool_bytes()},
          {"evicted_objects", row.spill.evicted},
          {"passed_objects", row.spill.passed},
          {"spilled_bytes", row.spill.spilled_bytes},
          {"refused_objects", trial.refused},
          {"refused_bytes", trial.refused_bytes},
          {"pages", row.pages},
          {"held_bytes", row.held_bytes},
          {"held_is", row.measure},
          {"metadata_bytes", row.metadata_bytes},
          {"density", number_or_null(row.density())},
          {"density_with_metadata", number_or_null(row.density_with_metadata())},
          {"store_ns", number_or_null(trial.store_ns)},
          {"load_ns", number_or_null(trial.load_ns)},
          {"free_ns", number_or_null(trial.free_ns)},
          {"store_with_codec_ns", number_or_null(trial.store_codec_ns)},
          {"load_with_codec_ns", number_or_null(trial.load_codec_ns)},
          {"verified", row.verified()},
          {"mismatches", trial.mismatches},
          {"first_mismatch", trial.first_mismatch},
          {"fault", row.fault}};
}

Json rows_json(const PackResult& result) {
  Json rows = Json::array();
  for (const StoreRow& row : result.rows) {
    if (&row != &result.rows.back()) rows.push_back(row_json(row));
  }
  return rows;
}

}  // namespace

std::string pack_json(const PackResult& result) {
  const Json document = {{"mmkit", MMKIT_VERSION},
                         {"command", "pack"},
                         {"input", input_json(result)},
                         {"codec",
                          {{"name", name_of(result.options.codec.kind)},
                           {"level", result.options.codec.level},
                           {"version", result.codec_version},
                           {"compress_ns", result.codec_cost.compress_ns},
                           {"decompress_ns", result.codec_cost.decompress_ns}}},
                         {"corpus", corpus_json(result)},
                         {"limit_bytes", limit_json(result.options)},
                         {"measurement",
                          {{"clock", "processor time of the thread"},
                           {"seed", result.options.seed},
                           {"rounds", result.plan.rounds},
                           {"codec_rounds", result.plan.codec_rounds},
                           {"codec_sample_objects", result.plan.sample.size()}}},
                         {"drivers", rows_json(result)},
                         {"malloc", row_json(result.rows.back())}};
  return json_text(document);
}

}  // namespace mmkit::tool
