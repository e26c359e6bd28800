// SPDX-License-Identifier: MIT
//
// Verdict - a line for the end of the run: what was promised of a figure, and whether it was kept.
#pragma once

#include <string>

namespace mmkit::bench {

/// "met  SECTION  WHAT = FIGURE, BOUND"; `bound` says which way: "at most 1.00".
inline std::string verdict(bool met, const std::string& section, const std::string& what,
                           const std::string& figure, const std::string& bound) {
  return std::string(met ? "  met     " : "  MISSED  ") + section + "  " + what + " = " + figure +
         ", " + bound + "\n";
}

}  // namespace mmkit::bench
