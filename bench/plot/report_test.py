#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves that report.py takes every comparison over as it was printed, and draws the figures and spreads that it read."""
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import report

MACHINE = "machine  A CPU, 2 CPUs (2 usable), Linux 6, huge pages madvise, load 0.3\nbuild    g++, check level 0\npeers    glibc 2\n"
PAIR = """steady/touch:0: ns an object, <new> & old
                first pairs   quartiles  pair   quartiles  / glibc
  zbud                  169    163..173  20.0  19.7..20.8     0.50
  ZbudPool              100  99.0..1010  10.0  9.00..12.0     0.25
  glibc                 213    210..215  40.0  40.0..40.0     1.00
  3 rounds; an atomic addition 4.75 ns
"""
DENSITY = """density/zheap: payload by bytes held
  fill      objects  density
  mem-node    72973    0.994
"""
BESIDE = """density/zheap beside zsmalloc: payload by bytes held
  with metadata  zheap filled  zsmalloc-8
  mem-node              0.982       0.950
"""
VERDICT = "1 target missed: steady/touch:0\n"


class Reading(unittest.TestCase):
    def test_every_block_is_what_it_is(self):
        machine, sections, verdict = report.parse("\n".join([MACHINE, PAIR, DENSITY, BESIDE, VERDICT]))
        self.assertEqual(machine[0].split()[0], "machine")
        self.assertEqual([s.name for s in sections], ["steady/touch:0", "density/zheap", "density/zheap beside zsmalloc"])
        self.assertEqual(verdict, [VERDICT.strip()])

    def test_bars_are_the_last_measured_column(self):
        column, bars = report.bars_of(PAIR.splitlines()[1:])
        self.assertEqual(column, "pair")
        self.assertEqual([(b.name, b.median, b.low, b.high) for b in bars],
                         [("zbud", 20.0, 19.7, 20.8), ("ZbudPool", 10.0, 9.0, 12.0), ("glibc", 40.0, 40.0, 40.0)])

    def test_a_table_without_spread_has_no_bars(self):
        self.assertEqual(report.bars_of(DENSITY.splitlines()[1:])[1], [])


class Writing(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, name, text):
        (Path(self.folder.name) / name).write_text(text, encoding="utf-8")

    def test_the_report_has_every_line_and_the_machine_once(self):
        self.write("a.txt", MACHINE + "\n" + PAIR + "\n" + VERDICT)
        self.write("b.txt", MACHINE.replace("load 0.3", "load 1.5") + "\n" + DENSITY)
        said = report.make_report(self.folder.name, "A note.")
        text = (Path(self.folder.name) / "report.md").read_text(encoding="utf-8")
        self.assertTrue(said.startswith("report: 2 comparisons, 1 pictures"), said)
        for line in PAIR.splitlines()[1:] + DENSITY.splitlines()[1:] + [VERDICT.strip(), "A note."]:
            self.assertIn(line, text)
        self.assertEqual(text.count("machine  A CPU"), 1)

    def test_the_picture_is_in_proportion(self):
        self.write("a.txt", MACHINE + "\n" + PAIR)
        report.make_report(self.folder.name, "")
        svg = ElementTree.parse(Path(self.folder.name) / "steady-touch-0.svg")
        bars = [(float(r.get("width")), r.get("fill")) for r in svg.iter("{http://www.w3.org/2000/svg}rect")][1:]
        self.assertEqual(bars, [(report.BARS / 2, report.OURS), (report.BARS / 4, report.OURS), (float(report.BARS), report.THEIRS)])

    def test_what_is_no_output_is_refused(self):
        for text in ("", MACHINE, PAIR, "nothing\n"):
            with self.subTest(text), self.assertRaises(SystemExit):
                self.write("a.txt", text)
                report.make_report(self.folder.name, "")


if __name__ == "__main__":
    unittest.main()
