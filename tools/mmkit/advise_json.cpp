// SPDX-License-Identifier: MIT
//
// The JSON view of `mmkit advise`: the recommendation, the sentence, and each candidate's figures.
#include <nlohmann/json.hpp>

#include "advise_result.hpp"
#include "json_text.hpp"

namespace mmkit::tool {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json more_of(const DriverReplay& row) {
  return {{"worst_density_with_metadata", or_null(row.worst_density())},
          {"compacted_density_with_metadata",
           or_null(row.compacted ? row.compacted->density_with_metadata() : std::nullopt)},
          {"peak_pages", row.peak_pages()},
          {"moved", row.moved},
          {"refused", row.refused}};
}

Json more_of(const PolicyRow& row) {
  return {{"smallest_heap_bytes", or_null(row.smallest_heap_bytes)},
          {"allocate_p999_ns", row.allocate_p999_ns},
          {"allocate_worst_ns", row.allocate_worst_ns},
          {"failures", row.failures}};
}

template <class Trial>
Json candidates_json(const Advised& advised, const Trial& trial) {
  Json candidates = Json::array();
  for (std::size_t i = 0; i < advised.candidates.size(); ++i) {
    const Candidate& candidate = advised.candidates[i];
    Json one = {{"name", candidate.name},
                {"yield", or_null(candidate.yield)},
                {"operation_ns", candidate.operation_ns},
                {"verified", candidate.fault.empty()},
                {"fault", candidate.fault}};
    one.update(more_of(trial.rows[i]));
    candidates.push_back(one);
  }
  return candidates;
}

Json advised_json(const Advised& advised) {
  const bool pools = std::holds_alternative<PoolReplay>(advised.trial);
  const auto name = [&](std::size_t candidate) { return advised.candidates[candidate].name; };
  Json json = {{"path", std::visit([](const auto& trial) { return trial.path; }, advised.trial)},
               {"kind", pools ? "sizes" : "allocations"},
               {"yield_is", pools ? "payload by memory held, a page for each object refused"
                                  : "most bytes live by the smallest heap"}};
  json["recommended"] = advised.advice ? Json(name(advised.advice->recommended)) : Json();
  json["recommended_chain"] = advised.chain.empty() ? Json() : Json(advised.chain);
  json["sentence"] = advised.sentence;
  if (advised.advice) {
    json["densest"] = name(advised.advice->densest);
    json["quickest"] = name(advised.advice->quickest);
    json["runner_up"] = advised.advice->runner_up ? Json(name(*advised.advice->runner_up)) : Json();
  }
  json["candidates"] =
      std::visit([&](const auto& trial) { return candidates_json(advised, trial); }, advised.trial);
  return json;
}

}  // namespace

std::string advise_json(const AdviseResult& result) {
  Json all = Json::array();
  for (const Advised& advised : result.advised) all.push_back(advised_json(advised));
  return json_text({{"mmkit", MMKIT_VERSION},
                    {"command", "advise"},
                    {"inputs", result.options.inputs},
                    {"reach", kReach},
                    {"traces_unreadable",
                     {{"count", result.unreadable.count()}, {"first", result.unreadable.first()}}},
                    {"advice", all}});
}

}  // namespace mmkit::tool
