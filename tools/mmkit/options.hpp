// SPDX-License-Identifier: MIT
//
// Options - what each subcommand was asked to do, free of how it was written on the command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec.hpp"
#include "console.hpp"
#include "spill_file.hpp"

namespace mmkit::tool {

/// How results are written.
enum class ResultForm { text, json };
/// What input that cannot be read means, as long as some can.
enum class InputRule { lenient, strict };

/// How a command talks: a part of the options of each that measures something.
struct TalkOptions {
  ResultForm form = ResultForm::text;
  InputRule rule = InputRule::lenient;
  Chatter chatter = Chatter::normal;
  ProgressMode progress = ProgressMode::automatic;
};

/// Where a picture goes; an empty name: nowhere.
struct PictureOptions {
  std::string svg_path, html_path;
};

/// How a pool of ranges is tried.
struct HeapOptions {
  std::vector<std::string> policies;  // none: all
  std::uint64_t granule_bytes = 16;
  std::uint64_t heap_bytes = 0;   // 0: a quarter more than what is live at once
  std::uint64_t align_bytes = 0;  // of the aligned policy; 0: four granules
};

struct PackOptions : TalkOptions, PictureOptions {
  std::vector<std::string> paths;
  std::vector<std::string> drivers;  // NAME or NAME:PARAMS; none: every one registered
  CodecChoice codec;
  std::uint64_t max_bytes = std::uint64_t{1} << 30;
  std::uint64_t seed = 1;
  SpillPlan spill;
};

struct GenPoolRunOptions : TalkOptions, HeapOptions, PictureOptions {
  std::vector<std::string> traces;
};

/// What a trace is; automatic: by the end of its name.
enum class TraceFormat { automatic, u16, ops, gpt };

struct ReplayOptions : TalkOptions, HeapOptions, PictureOptions {
  std::vector<std::string> traces;
  std::vector<std::string> drivers;  // as in PackOptions
  TraceFormat format = TraceFormat::automatic;
  std::string events_path;  // empty: no such file
};

struct AdviseOptions : TalkOptions, HeapOptions {
  std::vector<std::string> inputs;  // traces, or files and directories
  TraceFormat format = TraceFormat::automatic;
  CodecChoice codec;  // of files
  std::uint64_t max_bytes = std::uint64_t{1} << 30;
};

struct PercpuRunOptions : TalkOptions, PictureOptions {
  unsigned threads = 8;
  double seconds = 1;       // for all ways of counting together
  std::string events_path;  // empty: no such file
};

struct DriversOptions {
  ResultForm form = ResultForm::text;
};

}  // namespace mmkit::tool
