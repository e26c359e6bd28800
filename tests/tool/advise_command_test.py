#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`mmkit advise` as a user and a script see it: what it recommends follows from the figures that it shows.

Usage: advise_command_test.py --mmkit PATH --version X.Y.Z [--sanitized] [unittest arguments]
"""

import json
import os
import signal
import struct

from command_support import *

CHAINS = ["zsmalloc:chain_pages=4", "zsmalloc:chain_pages=8", "zsmalloc:chain_pages=16"]


def by_the_rule(candidates):
    """The quickest of those within a hundredth of the best."""
    best = max(one["yield"] for one in candidates)
    reach = [one for one in candidates if one["yield"] >= best * 0.99]
    return min(reach, key=lambda one: one["operation_ns"])["name"]


class Advise(CommandTest):
    def advise_json(self, *arguments):
        result = run("advise", "--json", *arguments)
        self.assertEqual((result.code, result.err), (0, ""))
        document = json.loads(result.out)
        self.assertEqual((document["mmkit"], document["command"], document["reach"]), (ARGS.version, "advise", 0.01))
        for advice in document["advice"]:
            self.assertEqual(advice["recommended"], by_the_rule(advice["candidates"]))
            self.assertIn(f"{advice['recommended']} suits ", advice["sentence"])
            self.assertTrue(all(one["verified"] for one in advice["candidates"]))
        return document["advice"]

    def test_sizes(self):
        # Halves of a page and a little: only what fills holes of any size is dense.
        trace = self.write("x.u16", struct.pack("<3000H", *([2100, 700, 1290] * 1000)))
        [advice] = self.advise_json(trace)
        names = [one["name"] for one in advice["candidates"]]
        known = [row["type"] for row in json.loads(run("drivers", "--json").out)["drivers"]]
        self.assertEqual(sorted(names), sorted([name for name in known if name != "zsmalloc"] + CHAINS))
        zbud = advice["candidates"][names.index("zbud")]
        self.assertNotEqual(advice["recommended"], "zbud")
        self.assertLess(zbud["yield"], max(one["yield"] for one in advice["candidates"]) - 0.1)
        chains = [one for one in advice["candidates"] if one["name"] in CHAINS]
        self.assertEqual(advice["recommended_chain"], by_the_rule(chains))
        self.assertRegex(advice["sentence"], r" Of zsmalloc's chains that of (4|8|16) pages suits it: 0\.\d{3} at \d+ ns\.")

    def test_allocations(self):
        trace = self.write("x.gpt", gpt_life(3000))
        [advice] = self.advise_json(trace, "-p", "first-fit", "-p", "best-fit", "-p", "first-fit-align")
        self.assertEqual(advice["kind"], "allocations")
        self.assertEqual([one["name"] for one in advice["candidates"]], ["first-fit", "best-fit", "first-fit-align"])
        for one in advice["candidates"]:
            self.assertGreater(one["smallest_heap_bytes"], 0)

    def test_files(self):
        os.mkdir(self.path("d"))
        self.write("d/a", text_bytes(300_000))
        self.write("d/b", bytes(3 * PAGE))
        [advice] = self.advise_json(self.path("d"))
        self.assertEqual(advice["kind"], "sizes")
        [zstd] = self.advise_json(self.path("d"), "-c", "zstd")
        self.assertNotEqual([one["peak_pages"] for one in advice["candidates"]],
                            [one["peak_pages"] for one in zstd["candidates"]])

    def test_text(self):
        trace = self.write("x.u16", struct.pack("<200H", *[900] * 200))
        result = run("advise", trace, self.write("y.gpt", gpt_life(500)))
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertRegex(result.out, r"\A\S+ suits '.*x.u16': density 0\.\d{3} at \d+ ns an operation[;.]")
        self.assertRegex(result.out, r"\n\S+ suits '.*y.gpt': use of the smallest heap 0\.\d{3} at ")
        self.assertEqual(sum(line.endswith("<-") for line in result.out.splitlines()), 2)

    def test_usage_and_inputs(self):
        trace = self.write("x.u16", struct.pack("<H", 900))
        self.fails(2, "INPUT is required", "advise")
        self.fails(2, "cannot be advised on in one run", "advise", trace, self.write("file", b"x"))
        self.fails(2, "lz4 has no level 13", "advise", self.path("file"), "--level", "13")
        self.fails(3, "nothing could be read: ", "advise", self.path("none"))
        self.fails(3, "x.ops': offset 0: the file is empty", "advise", self.write("x.ops", b""))
        self.fails(3, "there is nothing to store", "advise", self.write("zero", bytes(PAGE)))
        self.assertLessEqual(max(map(len, run("help", "advise").out.splitlines())), 100)

    def test_interruption(self):
        trace = self.write("x.u16", struct.pack("<H", 900) * 400_000)
        terminal = Terminal(100, "advise", trace, controlling=True)
        self.assertTrue(terminal.read_until(rb"replaying  \["))
        os.kill(terminal.process.pid, signal.SIGINT)
        self.assertEqual(terminal.finish(), 130)


if __name__ == "__main__":
    main()
