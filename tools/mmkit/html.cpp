// SPDX-License-Identifier: MIT
//
// The HTML renderer: one page that needs nothing else, no network and no file beside it. The picture
// stands in it as JSON whose long arrays are base64 of typed arrays; the script (viewer/viewer.js)
// draws them on canvases.
//
// An object of a RunMap is 8 bytes where its run is at most 64 KiB: 10.7 in base64. So a million are
// some 11 MB, and are decoded in a fraction of a second.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>

#include "picture.hpp"
#include "svg_canvas.hpp"
#include "viewer.hpp"

namespace mmkit::tool {
namespace {

using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "typed arrays of the page's readers are");

std::string base64_of(std::span<const unsigned char> bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text((bytes.size() + 2) / 3 * 4, '=');
  for (std::size_t at = 0, to = 0; at < bytes.size(); at += 3, to += 4) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
    std::uint32_t word = 0;
    for (std::size_t i = 0; i < 3; ++i) word = word << 8 | (i < count ? bytes[at + i] : 0u);
    for (std::size_t i = 0; i <= count; ++i) text[to + i] = kDigits[word >> (18 - 6 * i) & 63];
  }
  return text;
}

template <class T>
Json packed(const char* type, const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  return {{"type", type}, {"data", base64_of({bytes, values.size() * sizeof(T)})}};
}

/// The field of each, as an array of T.
template <class T, class Item, class Field>
Json packed(const char* type, const std::vector<Item>& items, Field field) {
  std::vector<T> values;
  values.reserve(items.size());
  for (const Item& item : items) values.push_back(static_cast<T>(item.*field));
  return packed(type, values);
}

Json body_of(const Bands& body) {
  Json bands = Json::array();
  for (const Band& band : body.bands) {
    std::vector<std::uint8_t> shares;
    for (const double share : band.shares) {
      // Only nothing is 0, and only full is 255.
      const long level = share <= 0 ? 0 : share >= 1 ? 255 : std::lround(1 + share * 253);
      shares.push_back(static_cast<std::uint8_t>(level));
    }
    bands.push_back(
        {{"label", band.label}, {"caption", band.caption}, {"shares", packed("u8", shares)}});
  }
  return {{"kind", "bands"}, {"bands", bands}};
}

Json body_of(const Chart& body) {
  Json series = Json::array();
  for (const ChartSeries& one : body.series) {
    series.push_back(
        {{"name", one.name}, {"x", packed("f64", one.x)}, {"y", packed("f64", one.y)}});
  }
  return {
      {"kind", "chart"}, {"x_label", body.x_label}, {"y_label", body.y_label}, {"series", series}};
}

Json body_of(const Grid& body) {
  return {{"kind", "grid"},
          {"row_label", body.row_label},
          {"column_label", body.column_label},
          {"cell_label", body.cell_label},
          {"rows", body.rows},
          {"columns", body.columns},
          {"values", packed("f64", body.values)}};
}

Json body_of(const RunMap& body) {
  constexpr std::uint32_t kMostPagesOf16Bits = 16;
  const bool small = std::all_of(body.runs.begin(), body.runs.end(),
                                 [](const MapRun& run) { return run.pages <= kMostPagesOf16Bits; });
  Json json = {{"kind", "map"},
               {"run_label", body.run_label},
               {"number_label", body.number_label},
               {"run_pages", packed<std::uint32_t>("u32", body.runs, &MapRun::pages)},
               {"run_objects", packed<std::uint32_t>("u32", body.runs, &MapRun::objects)},
               {"number", packed<std::uint32_t>("u32", body.objects, &MapObject::number)}};
  json["begin"] = small ? packed<std::uint16_t>("u16", body.objects, &MapObject::begin_bytes)
                        : packed<std::uint32_t>("u32", body.objects, &MapObject::begin_bytes);
  json["size"] = packed<std::uint16_t>("u16", body.objects, &MapObject::size_bytes);
  return json;
}

Json data_of(const Picture& picture) {
  Json sections = Json::array();
  for (const PictureSection& section : picture.sections) {
    Json one = {{"title", section.title}, {"caption", section.caption}};
    one.update(std::visit([](const auto& body) { return body_of(body); }, section.body));
    sections.push_back(std::move(one));
  }
  return {{"title", picture.title}, {"sections", sections}};
}

/// JSON that no text in it can end the element which it stands in.
std::string harmless(const std::string& json) {
  std::string text;
  text.reserve(json.size());
  for (const char byte : json) {
    if (byte == '<') {
      text += "\\u003c";
    } else {
      text += byte;
    }
  }
  return text;
}

}  // namespace

std::string html_document(const Picture& picture) {
  const std::string data = harmless(
      data_of(picture).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace));
  std::string text =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "script-src 'unsafe-inline'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>";
  text += escaped_xml(picture.title);
  text += "</title>\n<style>\n";
  text += viewer_style();
  text +=
      "</style>\n</head>\n<body>\n<header><h1></h1><input id=\"search\" type=\"search\" "
      "aria-label=\"search\" placeholder=\"search: a number or a name, then Enter\"><span "
      "id=\"hits\"></span><span>wheel, + and - zoom; drag and arrows move; 0 or a double click "
      "shows all</span></header>\n<main></main>\n<div id=\"tip\"></div>\n"
      "<script type=\"application/json\" id=\"mmkit-data\">";
  text += data;
  text += "</script>\n<script>\n";
  text += viewer_script();
  return text + "</script>\n</body>\n</html>\n";
}

}  // namespace mmkit::tool
