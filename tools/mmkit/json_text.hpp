// SPDX-License-Identifier: MIT
//
// JsonText - a JSON document as every command prints it: indented, ASCII-safe for names that are
// not UTF-8, newline last.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace mmkit::tool {

inline std::string json_text(const nlohmann::ordered_json& document) {
  constexpr int kIndent = 2;
  // A name that is not UTF-8 must not end the command: its odd bytes become U+FFFD.
  return document.dump(kIndent, ' ', /*ensure_ascii=*/false,
                       nlohmann::ordered_json::error_handler_t::replace) +
         "\n";
}

}  // namespace mmkit::tool
