#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`mmkit replay` as a user and a script see it: figures by hand, every hostile trace by its offset.

Usage: replay_command_test.py --mmkit PATH --version X.Y.Z [--sanitized] [unittest arguments]
"""

import json
import os
import random
import signal
import struct
import subprocess
import xml.etree.ElementTree

from command_support import *

SVG = "{http://www.w3.org/2000/svg}"


def u16(sizes):
    return struct.pack(f"<{len(sizes)}H", *sizes)


def ops(records):
    return b"".join(struct.pack("<BIH", *record) for record in records)


def ops_life(snapshots, each=300, seed=1):
    source, live, records = random.Random(seed), {}, []
    for number in range(snapshots):
        for _ in range(each):
            key = source.randrange(500)
            if key not in live:
                live[key] = source.randint(30, 3600)
                records.append((1, key, live[key]))
            elif source.random() < 0.3:
                records.append((3, key, live.pop(key)))
            else:
                live[key] = source.randint(30, 3600)
                records.append((2, key, live[key]))
        records.append((0, number, 0))
    return ops(records), live


class Replay(CommandTest):
    def replay_json(self, *arguments):
        result = run("replay", "--json", *arguments)
        self.assertEqual((result.code, result.err), (0, ""))
        document = json.loads(result.out)
        self.assertEqual((document["mmkit"], document["command"]), (ARGS.version, "replay"))
        return document

    def test_ops(self):
        contents, live = ops_life(12)
        trace = self.write("life.ops", contents)
        [shown] = self.replay_json(trace)["traces"]
        self.assertEqual((shown["path"], shown["kind"], shown["snapshots"]), (trace, "sizes", 12))
        self.assertEqual(shown["operations"], 12 * 301)
        known = sorted(row["type"] for row in json.loads(run("drivers", "--json").out)["drivers"])
        self.assertEqual([row["driver"] for row in shown["drivers"]], known)
        for row in shown["drivers"]:
            with self.subTest(row["driver"]):
                self.assertTrue(row["verified"], row["fault"])
                self.assertEqual(row["over_time"]["operation"], [301 * (i + 1) for i in range(12)])
                self.assertEqual(row["end"]["objects"], len(live))
                self.assertEqual(row["end"]["payload_bytes"], sum(live.values()))
                densities = row["over_time"]["density_with_metadata"]
                self.assertAlmostEqual(row["mean_density_with_metadata"], sum(densities) / 12)
                self.assertEqual(row["worst_density_with_metadata"], min(densities))
                self.assertEqual(row["peak_pages"], max(row["over_time"]["pages"]))
                for density, payload, pages in zip(row["over_time"]["density"], row["over_time"]["payload_bytes"],
                                                   row["over_time"]["pages"]):
                    self.assertAlmostEqual(density, payload / pages / PAGE)
                self.assertGreater(row["operation_ns"], 0)

    def test_u16(self):
        trace = self.write("sizes.u16", u16([100, 4096, 2000] * 100))
        [shown] = self.replay_json(trace, "-d", "zbud", "-d", "zsmalloc:chain_pages=4")["traces"]
        self.assertEqual((shown["keys"], shown["snapshots"]), (300, 0))
        zbud, zsmalloc = shown["drivers"]
        self.assertEqual((zbud["driver"], zsmalloc["driver"]), ("zbud", "zsmalloc:chain_pages=4"))
        self.assertEqual((zbud["refused"], zsmalloc["refused"]), (100, 0))
        self.assertEqual(zbud["end"]["payload_bytes"], 2100 * 100)
        self.assertEqual(zsmalloc["end"]["payload_bytes"], 6196 * 100)
        self.assertEqual(len(zbud["over_time"]["operation"]), 64)
        self.assertIsNone(zbud["compacted"])
        self.assertLessEqual(zsmalloc["compacted"]["pages"], zsmalloc["end"]["pages"])

    def test_gpt(self):
        trace = self.write("life.gpt", gpt_life(4000))
        [shown] = self.replay_json(trace, "-p", "best-fit", "-p", "relaxed")["traces"]
        self.assertEqual((shown["kind"], shown["operations"]), ("allocations", 4000))
        self.assertEqual([row["policy"] for row in shown["policies"]], ["best-fit", "relaxed"])
        for row in shown["policies"]:
            self.assertTrue(row["verified"], row["fault"])
            over_time = row["over_time"]
            self.assertEqual(over_time["operation"][-1], 4000)
            self.assertTrue(all(taken + free == shown["heap_bytes"] for taken, free in
                                zip(over_time["taken_bytes"], over_time["free_bytes"])))
            self.assertEqual(row["most_free_runs"], max(over_time["free_runs"]))
            self.assertEqual(row["failures"], over_time["failures"][-1])

    def test_all_kinds_together_as_text_and_picture(self):
        paths = [self.write("a.ops", ops_life(5)[0]), self.write("b.u16", u16([700] * 500)),
                 self.write("c.gpt", gpt_life(1000))]
        picture = self.path("lines.svg")
        result = run("replay", *paths, "--svg", picture)
        self.assertEqual((result.code, result.err), (0, ""))
        for path in paths:
            self.assertIn(f"trace    '{path}'", result.out)
        self.assertRegex(result.out, r"\nzheap +[\d.,]+ +0\.\d{3} .* ok\n")
        self.assertRegex(result.out, r"\nfirst-fit +[\d.,]+ .* ok\n")
        self.assertLessEqual(max(map(len, result.out.splitlines())), 120)
        root = xml.etree.ElementTree.parse(picture).getroot()
        self.assertEqual(root.tag, SVG + "svg")
        drivers = len(json.loads(run("drivers", "--json").out)["drivers"])
        self.assertEqual(len(list(root.iter(SVG + "polyline"))), 2 * drivers * 2 + 5 * 2)

    def test_format_can_be_said(self):
        trace = self.write("sizes.dat", u16([100] * 50))
        self.assertEqual(self.replay_json(trace, "--format", "u16")["traces"][0]["keys"], 50)
        self.fails(3, "sizes.dat' does not end in .u16, .ops or .gpt; --format says what it is", "replay", trace)
        self.fails(2, "'csv' is not a format; known: u16, ops, gpt", "replay", trace, "--format", "csv")
        done = subprocess.run([ARGS.mmkit, "replay", "--json", "--format", "ops", "/dev/stdin"], input=ops_life(3)[0],
                              capture_output=True, timeout=TIMEOUT_SECONDS, env=clean_env())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["traces"][0]["snapshots"], 3)

    def test_hostile_traces(self):
        stored = ops([(1, 9, 100)])
        for name, words, contents in [
            ("x.u16", "offset 0: the file is empty", b""),
            ("x.u16", "offset 4: the file ends within a record of 2 bytes", u16([1, 2]) + b"\0"),
            ("x.u16", "offset 2: a size of 0; a compressed page has 1 to 4096 bytes", u16([1, 0])),
            ("x.u16", "offset 0: a size of 65535;", u16([65535])),
            ("x.ops", "offset 0: the file is empty", b""),
            ("x.ops", "offset 7: the file ends within a record of 7 bytes", stored + stored[:3]),
            ("x.ops", "offset 7: operation 255; there are only 0 to 3", stored + b"\xff" * 7),
            ("x.ops", "offset 8: key 9 is stored, and it lives", stored + stored),
            ("x.ops", "offset 1: key 9 is overwritten, and it does not live", ops([(2, 9, 5)])),
            ("x.ops", "offset 1: key 9 is dropped, and it does not live", ops([(3, 9, 5)])),
            ("x.ops", "offset 12: key 9 is dropped with 5 bytes, it was stored with 100", stored + ops([(3, 9, 5)])),
            ("x.ops", "offset 8: the end of snapshot 7, and it is number 0", stored + ops([(0, 7, 0)])),
            ("x.ops", "offset 0: a trace that stores nothing", ops([(0, 0, 0)])),
            ("x.gpt", "offset 0: not a GPT1 trace", b"#!/bin/sh\n"),
            ("x.gpt", "offset 20: the file ends after 1 of its 4294967295 operations", gpt([5], count=2**32 - 1)),
        ]:
            with self.subTest(words):
                result = self.fails(3, words, "replay", self.write(name, contents))
                self.assertIn(f"{name}': offset", result.err)
        self.fails(3, "Is a directory", "replay", self.path(), "--format", "u16")
        self.fails(3, "2 of 2 traces cannot be read", "replay", self.path("x.gpt"), self.path("none.u16"))
        good = self.write("good.u16", u16([5]))
        self.fails(3, "1 of 2 traces cannot be read, and --strict is set", "replay", "--strict", good, self.path("x.ops"))
        result = run("replay", "--json", good, self.path("x.ops"))
        self.assertEqual(result.code, 0)
        self.assertRegex(result.err, r"\Ammkit: warning: '.*x.ops': offset 0: a trace that stores nothing\n\Z")
        self.assertEqual(json.loads(result.out)["traces_unreadable"]["count"], 1)

    def test_random_bytes_never_do_harm(self):
        source = random.Random(7)
        for name in ("x.u16", "x.ops", "x.gpt"):
            for _ in range(12):
                result = run("replay", "--json", self.write(name, source.randbytes(source.randrange(200))))
                self.assertIn(result.code, (0, 3), result.err)

    def test_usage(self):
        good = self.write("good.u16", u16([5]))
        self.fails(2, "TRACE is required", "replay")
        self.fails(2, "there is no driver 'zbad'", "replay", good, "-d", "zbad")
        self.fails(2, "there is no policy 'worst-fit'", "replay", good, "-p", "worst-fit")
        self.fails(2, "--granule is 48; it must be a power of two", "replay", good, "--granule", "48")
        self.assertIn("Usage: mmkit replay [OPTIONS] TRACE...", run("help", "replay").out)
        self.assertLessEqual(max(map(len, run("help", "replay").out.splitlines())), 100)

    def test_picture_that_cannot_be_written(self):
        result = run("replay", self.write("good.u16", u16([5])), "--svg", self.path("none/x.svg"))
        self.assertEqual(result.code, 5)
        self.assertIn("the picture cannot be written to", result.err)
        self.assertIn("zbud", result.out, "the figures are shown nevertheless")

    def test_events(self):
        paths = [self.write("a.ops", ops_life(5)[0]), self.write("c.gpt", gpt_life(1000))]
        events = self.path("events.json")
        shown = self.replay_json(*paths, "--trace", events)["traces"]
        lanes, spans, counters = check_events(self, events)
        drivers = [row["driver"] for row in shown[0]["drivers"]]
        policies = [row["policy"] for row in shown[1]["policies"]]
        self.assertEqual(lanes, drivers + policies)
        for row in shown[0]["drivers"]:
            values = [event["args"]["with metadata"] for event in counters if event["name"] == row["driver"] + ": density"]
            self.assertEqual(values, row["over_time"]["density_with_metadata"])
            rounds = [event for event in spans if event["tid"] == 1 + lanes.index(row["driver"])
                      and event["name"].startswith("round")]
            self.assertEqual(len(rounds), shown[0]["rounds"])
        self.fails_after_output(5, "the trace of events cannot be written to", "replay", paths[0], "--trace",
                                self.path("none/x.json"))

    def test_progress_and_interruption(self):
        trace = self.write("life.u16", u16([1000] * 400_000))
        terminal = Terminal(100, "replay", trace, controlling=True)
        self.assertTrue(terminal.read_until(rb"replaying  \["))
        os.kill(terminal.process.pid, signal.SIGINT)
        self.assertEqual(terminal.finish(), 130)


if __name__ == "__main__":
    main()
