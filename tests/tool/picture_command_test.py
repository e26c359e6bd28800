#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The pages that `mmkit ... --html FILE` writes: complete, self-contained, and with the figures of the JSON.

Usage: picture_command_test.py --mmkit PATH --version X.Y.Z [--sanitized] [unittest arguments]

Where there is a node, the page's script runs on a page of the command (viewer_test.js).
"""

import array
import base64
import html.parser
import json
import os
import shutil
import struct
import subprocess
import xml.etree.ElementTree

from command_support import *

HERE = os.path.dirname(os.path.abspath(__file__))


class Page(html.parser.HTMLParser):
    """Checks nesting, finds the data, and collects whatever could load something."""
    VOID = {"meta", "input", "link", "img", "br"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.loads, self.data, self.scripts = [], [], [], "", []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "action", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, text):
        if self.open and self.open[-1][0] == "script":
            if self.open[-1][1].get("id") == "mmkit-data":
                self.data += text
            else:
                self.scripts.append(text)


def unpacked(value):
    kind = {"u8": "B", "u16": "H", "u32": "I", "f64": "d"}[value["type"]]
    return array.array(kind, base64.b64decode(value["data"], validate=True))


class Pages(CommandTest):
    def page(self, *arguments):
        path = self.path("page.html")
        result = run(*arguments, "--html", path)
        self.assertEqual((result.code, result.err), (0, ""))
        with open(path, encoding="utf-8") as file:
            text = file.read()
        page = Page(text)
        self.assertEqual(page.loads, [], "loads nothing")
        self.assertEqual(page.tags.count("script"), 2)
        self.assertIn("default-src 'none'", text)
        self.assertNotRegex(text.replace("http-equiv", ""), r"https?:|@import|url\(|fetch\(|XMLHttpRequest|import\(")
        return json.loads(page.data)

    def test_pack(self):
        file = self.write("text", text_bytes(400_000))
        document = self.pack_json(file)
        sections = self.page("pack", file)["sections"]
        self.assertEqual([section["kind"] for section in sections], ["map", "grid"] * len(document["drivers"]))
        for row, map, grid in zip(document["drivers"], sections[::2], sections[1::2]):
            with self.subTest(row["name"]):
                self.assertTrue(map["title"].startswith(row["name"] + ": "))
                pages, objects = unpacked(map["run_pages"]), unpacked(map["run_objects"])
                number, begin, size = unpacked(map["number"]), unpacked(map["begin"]), unpacked(map["size"])
                self.assertEqual(sum(pages), row["pages"])
                self.assertEqual(sum(objects), row["objects"])
                self.assertEqual((len(number), len(begin), len(size)), (row["objects"],) * 3)
                self.assertEqual(sum(size), row["payload_bytes"])
                self.assertEqual(len(set(number)), row["objects"])
                self.assertEqual(sum(unpacked(grid["values"])), len(pages))
                at = 0
                for run_pages, count in zip(pages, objects):
                    reached = 0
                    for _ in range(count):
                        self.assertGreaterEqual(begin[at], reached)
                        reached = begin[at] + size[at]
                        at += 1
                    self.assertLessEqual(reached, run_pages * PAGE)

    def test_pack_with_limit_shows_what_stayed(self):
        file = self.write("text", text_bytes(400_000))
        [map, _] = self.page("pack", file, "--limit", "40K", "-d", "zbud")["sections"]
        self.assertEqual(sum(unpacked(map["run_pages"])), 10)

    def test_ten_thousand_objects_are_small(self):
        self.page("pack", self.write("text", text_bytes(10_000 * PAGE)), "-d", "zheap", "--no-progress")
        self.assertLess(os.path.getsize(self.path("page.html")), 10_000 * 11 + 60_000)

    def test_genpool(self):
        trace = self.write("life.gpt", gpt_life(3000))
        [section] = self.page("genpool", trace)["sections"]
        self.assertEqual([band["label"] for band in section["bands"]],
                         ["first-fit", "best-fit", "first-fit-align", "first-fit-order-align", "relaxed"])
        self.assertEqual(len(unpacked(section["bands"][0]["shares"])), 1024)

    def test_replay(self):
        trace = self.write("x.u16", struct.pack("<500H", *[900] * 500))
        shown = json.loads(run("replay", "--json", trace).out)["traces"][0]["drivers"]
        density, pages = self.page("replay", trace)["sections"]
        self.assertEqual([series["name"] for series in density["series"]], [row["driver"] for row in shown])
        self.assertEqual(list(unpacked(pages["series"][0]["y"])), shown[0]["over_time"]["pages"])
        self.assertEqual(list(unpacked(pages["series"][0]["x"])), shown[0]["over_time"]["operation"])

    def test_percpu(self):
        document = json.loads(run("percpu", "--json", "--seconds", "0.1").out)
        taken, memory = self.page("percpu", "--seconds", "0.1")["sections"]
        self.assertEqual(len(taken["rows"]), len(document["chunks"]))
        self.assertEqual(len(taken["columns"]), 16)
        for row, chunk in enumerate(document["chunks"]):
            for page, letter in enumerate(chunk["pages"]):
                self.assertEqual(unpacked(memory["values"])[row * 16 + page] == 0, letter == ".")
                self.assertEqual(unpacked(taken["values"])[row * 16 + page] == PAGE, letter == "#")

    def test_svg_of_the_same(self):
        for arguments in (["pack", self.write("text", text_bytes(200_000))], ["percpu", "--seconds", "0.1"]):
            result = run(*arguments, "--svg", self.path("x.svg"))
            self.assertEqual((result.code, result.err), (0, ""))
            root = xml.etree.ElementTree.parse(self.path("x.svg")).getroot()
            self.assertGreater(len(root), 20)

    def test_names_are_harmless(self):
        os.mkdir(self.path("d"))
        trace = self.write("d/<b>&\"'.u16", struct.pack("<H", 9))
        bad = os.path.join(self.path("d"), "<!-- <script>")
        os.mkdir(bad)
        worse = self.write("d/<!-- <script>/x.u16", struct.pack("<H", 9))
        sections = self.page("replay", trace, worse)["sections"]
        self.assertEqual(sections[0]["title"], trace + ": density")
        self.assertEqual(sections[2]["title"], worse + ": density")

    def test_a_page_that_cannot_be_written(self):
        result = run("percpu", "--seconds", "0.1", "--html", self.path("none/x.html"))
        self.assertEqual(result.code, 5)
        self.assertIn("the page cannot be written to", result.err)
        result = run("pack", self.write("a", b"x"), "--html", "/dev/full")
        self.assertEqual(result.code, 5)
        self.assertIn("No space left on device", result.err)

    def test_the_script_runs(self):
        node = shutil.which("node") or shutil.which("nodejs")
        if node is None:
            self.skipTest("there is no node")
        self.page("pack", self.write("text", text_bytes(300_000)))
        script = os.path.join(HERE, "../../tools/mmkit/viewer/viewer.js")
        done = subprocess.run([node, os.path.join(HERE, "viewer_test.js"), script, self.path("page.html")],
                              capture_output=True, timeout=TIMEOUT_SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertIn(b"a million objects in ", done.stdout)


if __name__ == "__main__":
    main()
