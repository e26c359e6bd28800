// SPDX-License-Identifier: MIT
//
// ExitCode - how the command ends, and Problem, the exception that carries an early end to main().
//
// The library never throws; the command does, for whatever ends it: a dozen passes over the corpus
// would otherwise hand the same "stop, and say this" up through every loop. Only main() and the
// tests catch a Problem.
#pragma once

#include <stdexcept>
#include <string>

namespace mmkit::tool {

/// The exit codes of `mmkit`; `mmkit help` prints this table, scripts may rely on it.
enum class ExitCode : int {
  ok = 0,
  verification_failed = 1,  // some object came back different, or a pool's structure is broken
  usage = 2,                // arguments that make no sense, a driver that does not exist
  no_input = 3,             // nothing could be read; with --strict, something could not
  out_of_memory = 4,
  no_output = 5,      // the result could not be written: closed pipe, full disk
  internal = 6,       // a driver or codec failed in a way that it should not
  hung_up = 129,      // 128 + SIGHUP
  interrupted = 130,  // 128 + SIGINT
  terminated = 143,   // 128 + SIGTERM
};

/// Ends the command with a code and one line for standard error.
class Problem : public std::runtime_error {
 public:
  Problem(ExitCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

}  // namespace mmkit::tool
