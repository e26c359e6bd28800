#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the real command `mmkit` and looks at what a user, a script and a terminal see.

Usage: command_test.py --mmkit PATH --version X.Y.Z [--sanitized] [unittest arguments]
"""

import fcntl
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
import time
import xml.etree.ElementTree

from command_support import *


class HelpAndUsage(CommandTest):
    def test_version_and_help(self):
        self.assertEqual(run("--version").out, f"mmkit {ARGS.version}\n")
        for arguments in (["help"], ["--help"], ["-h"]):
            result = run(*arguments)
            self.assertEqual(result.code, 0)
            self.assertEqual(result.err, "")
            for command in ("pack", "genpool", "percpu", "drivers", "help"):
                self.assertRegex(result.out, rf"\n  {command} ")
        by_help, by_option = run("help", "pack"), run("pack", "--help")
        self.assertEqual(by_help.out, by_option.out)
        self.assertIn("Usage: mmkit pack [OPTIONS] PATH...", by_help.out)
        self.assertLessEqual(max(map(len, by_help.out.splitlines())), 100)

    def test_help_documents_every_exit_code(self):
        text = run("help", "pack").out
        for code in (0, 1, 2, 3, 4, 5, 6):
            self.assertRegex(text, rf"\n  {code}    ")
        for code in ("129", "130", "143"):
            self.assertIn(code, text)

    def test_usage_errors(self):
        file = self.write("a", b"x")
        for words, arguments in {
            "no command given; 'mmkit help' lists them": [],
            "PATH is required": ["pack"],
            "argument was not expected: frob": ["frob"],
            "argument was not expected: --frob": ["pack", "--frob", file],
            "argument was not expected: extra": ["drivers", "extra"],
            "there is no command 'frob'": ["help", "frob"],
            "'lzma' is not a codec; known: lz4, zstd": ["pack", file, "--codec", "lzma"],
            "lz4 has no level 13; its levels are 1 to 12": ["pack", file, "--level", "13"],
            "lz4 has no level -5": ["pack", file, "--level", "-5"],
            "zstd has no level 99": ["pack", file, "-c", "zstd", "-l", "99"],
            "--level = high": ["pack", file, "--level", "high"],
            "'-1' is not a number": ["pack", file, "--seed", "-1"],
            "'lots' is not a size such as": ["pack", file, "--max-bytes", "lots"],
            "--max-bytes is 4095; it must be at least one page": ["pack", file, "--max-bytes", "4095"],
            "there is no driver 'zbad'; known: ": ["pack", file, "--driver", "zbad"],
            "driver 'zbud' does not take the parameters 'colour=red'": ["pack", file, "-d", "zbud:colour=red"],
            "--driver": ["pack", file, "--driver"],
            "--threads: Value 0 not in range": ["percpu", "--threads", "0"],
            "see 'mmkit help percpu'": ["percpu", "--seconds", "soon"],
            "TRACE is required": ["genpool"],
            "see 'mmkit help genpool'": ["genpool", "--frob", file],
            "there is no policy 'worst-fit'; known: first-fit, best-fit, ": ["genpool", file, "-p", "worst-fit"],
            "--granule is 48; it must be a power of two up to 1.0 GiB": ["genpool", file, "--granule", "48"],
            "--granule is 2147483648": ["genpool", file, "--granule", "2G"],
            "--align is 24; it must be a power of two": ["genpool", file, "--align", "24"],
            "--heap is 8 B; it must be at least one granule, 16 B": ["genpool", file, "--heap", "8"],
            "'much' is not a size such as": ["genpool", file, "--heap", "much"],
        }.items():
            with self.subTest(words):
                self.fails(2, words, *arguments)


class Drivers(CommandTest):
    def test_table(self):
        result = run("drivers")
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertRegex(result.out, r"\Adriver +largest object .*\n(.*\n)*zbud +3,968 B +yes +no")

    def test_json(self):
        document = json.loads(run("drivers", "--json").out)
        self.assertEqual(document["mmkit"], ARGS.version)
        zbud = {row["type"]: row for row in document["drivers"]}["zbud"]
        self.assertEqual(zbud, {"type": "zbud", "max_object_bytes": 3968, "can_shrink": True,
                                "can_compact": False, "highmem": False})


class GenPool(CommandTest):
    POLICIES = ["first-fit", "best-fit", "first-fit-align", "first-fit-order-align", "relaxed"]

    def genpool_json(self, *arguments):
        result = run("genpool", "--json", *arguments)
        self.assertEqual((result.code, result.err), (0, ""))
        return json.loads(result.out)

    def test_json(self):
        trace = self.write("life.gpt", gpt_life(5000))
        document = self.genpool_json(trace)
        self.assertEqual((document["mmkit"], document["command"]), (ARGS.version, "genpool"))
        self.assertEqual((document["granule_bytes"], document["align_bytes"]), (16, 64))
        [shown] = document["traces"]
        self.assertEqual((shown["path"], shown["operations"]), (trace, 5000))
        self.assertLessEqual(shown["peak_bytes"], shown["peak_granules"] * 16)
        self.assertEqual(shown["heap_bytes"], (shown["peak_granules"] + shown["peak_granules"] // 4) * 16)
        self.assertEqual([row["policy"] for row in shown["policies"]], self.POLICIES)
        for row in shown["policies"]:
            with self.subTest(row["policy"]):
                self.assertTrue(row["verified"], row["fault"])
                self.assertGreater(row["operation_ns"], 0)
                self.assertGreaterEqual(row["allocate_worst_ns"], row["allocate_p999_ns"])
                self.assertGreaterEqual(row["smallest_heap_bytes"], shown["peak_granules"] * 16)
                self.assertAlmostEqual(row["utilisation"], shown["peak_bytes"] / row["smallest_heap_bytes"])
                self.assertGreater(row["metadata_bytes"], 0)
                self.assertEqual(len(row["occupancy_at_peak"]), 256)
                taken = row["taken_granules_at_peak"]
                self.assertAlmostEqual(sum(row["occupancy_at_peak"]) / 256, taken * 16 / shown["heap_bytes"], places=2)
                if row["failures"] == 0:
                    self.assertEqual(taken, shown["peak_granules"])

    def test_counts_are_the_same_in_every_run(self):
        trace = self.write("life.gpt", gpt_life(3000))
        runs = [self.genpool_json(trace, "-p", "first-fit", "-p", "best-fit") for _ in range(2)]
        for name in ("failures", "smallest_heap_bytes", "words_touched", "metadata_bytes", "occupancy_at_peak"):
            first, second = [[row[name] for row in run["traces"][0]["policies"]] for run in runs]
            self.assertEqual(first, second, name)

    def test_options(self):
        trace = self.write("few.gpt", gpt([1000, 3000, (0,), 2000]))
        [shown] = self.genpool_json(trace, "--granule", "1K", "--heap", "4K", "--align", "4K", "-p",
                                    "first-fit-align")["traces"]
        self.assertEqual((shown["peak_granules"], shown["heap_bytes"]), (5, 4096))
        [row] = shown["policies"]
        # Only one address is a multiple of 4096: the second and the third find no place.
        self.assertEqual((row["policy"], row["failures"]), ("first-fit-align", 1))

    def test_text(self):
        trace = self.write("life.gpt", gpt_life(3000))
        result = run("genpool", trace, "--policy", "best-fit")
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertRegex(result.out, r"\Atrace    '.*life.gpt'\n         3,000 operations, [\d,]+ of them allocations\n")
        self.assertRegex(result.out, r"\nbest-fit +[\d.]+ .* ok\n")
        self.assertRegex(result.out, r"\nbest-fit  \[[-.+*#]+\]\n")
        self.assertNotIn("first-fit", result.out)
        self.assertIn(". free   - up to a third taken", result.out)

    def test_a_heap_of_16_million_granules_stays_readable(self):
        trace = self.write("large.gpt", gpt([100, 1 << 27, 50, (1,), 70, 1 << 26]))
        result = run("genpool", trace, "--heap", "256M")
        self.assertEqual(result.code, 0, result.err)
        self.assertIn("heap     256.0 MiB, 16,777,216 granules", result.out)
        self.assertLessEqual(max(map(len, result.out.splitlines())), 130)
        self.assertLess(len(result.out.splitlines()), 50)

    def test_svg(self):
        trace = self.write("life.gpt", gpt_life(3000))
        picture = self.path("heap.svg")
        result = run("genpool", trace, "--svg", picture)
        self.assertEqual((result.code, result.err), (0, ""))
        root = xml.etree.ElementTree.parse(picture).getroot()
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        for policy in self.POLICIES:
            self.assertTrue(any(text.startswith(policy + ": ") for text in texts), policy)
        self.assertLess(os.path.getsize(picture), 500_000)

    def test_svg_that_cannot_be_written(self):
        trace = self.write("few.gpt", gpt([10]))
        result = run("genpool", trace, "--svg", self.path("none/heap.svg"))
        self.assertEqual(result.code, 5)
        self.assertIn("the picture cannot be written to", result.err)
        self.assertIn("No such file or directory", result.err)
        self.assertIn("first-fit", result.out, "the figures are shown nevertheless")

    def test_hostile_traces(self):
        good = gpt([5, 6, (0,)])
        for words, contents in {
            "offset 0: the file is empty": b"",
            "offset 0: not a GPT1 trace": b"#!/bin/sh\n",
            "offset 9: the file ends within its header of 16 bytes": good[:9],
            "offset 4: a trace of no operations": gpt([]),
            "offset 12: flags are 9, known is only 0": gpt([5], flags=9),
            "offset 24: the file ends after 2 of its 3 operations": good[:-1],
            "offset 28: the file goes on after its last operation": good + b"\0",
            "offset 20: an allocation of no bytes": gpt([5, 0]),
            "offset 20: a free of allocation 7, which is not made yet": gpt([5, (7,)]),
            "offset 24: a second free of allocation 0": gpt([5, (0,), (0,)]),
            "offset 20: the file ends after 1 of its 4294967295 operations": gpt([5], count=2**32 - 1),
        }.items():
            with self.subTest(words):
                result = self.fails(3, words, "genpool", self.write("hostile.gpt", contents))
                self.assertIn("hostile.gpt': offset", result.err)
        self.fails(3, "No such file or directory", "genpool", self.path("none.gpt"))
        self.fails(3, "Is a directory", "genpool", self.path())
        self.fails(3, "1 of 2 traces cannot be read, and --strict is set", "genpool", "--strict",
                   self.write("good.gpt", good), self.path("hostile.gpt"))
        self.fails(3, "2 of 2 traces cannot be read", "genpool", self.path("hostile.gpt"), self.path("none.gpt"))

    def test_one_bad_trace_does_not_spoil_the_others(self):
        good, bad = self.write("good.gpt", gpt([5, 6, (0,)])), self.write("bad.gpt", b"x")
        result = run("genpool", "--json", bad, good)
        self.assertEqual(result.code, 0)
        self.assertRegex(result.err, r"\Ammkit: warning: '.*bad.gpt': offset 0: not a GPT1 trace\n\Z")
        document = json.loads(result.out)
        self.assertEqual([trace["path"] for trace in document["traces"]], [good])
        self.assertEqual(document["traces_unreadable"]["count"], 1)

    def test_a_pipe_is_read_to_its_end(self):
        done = subprocess.run([ARGS.mmkit, "genpool", "--json", "/dev/stdin"], input=gpt_life(2000), capture_output=True,
                              timeout=TIMEOUT_SECONDS, env=clean_env())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["traces"][0]["operations"], 2000)

    def test_books_too_large_for_any_memory(self):
        trace = self.write("few.gpt", gpt([10]))
        self.fails(4, "at most 4,294,967,296 can be replayed, and a coarser --granule or a smaller --heap makes fewer",
                   "genpool", trace, "--granule", "1", "--heap", "1000T")
        huge = self.write("huge.gpt", gpt([2**31 - 1] * 2000))
        self.fails(4, "huge.gpt': a heap of 335,544,320,000 granules", "genpool", huge)

    def test_progress_and_interruption(self):
        trace = self.write("life.gpt", gpt_life(300_000))
        terminal = Terminal(100, "genpool", trace, controlling=True)
        self.assertTrue(terminal.read_until(rb"replaying  \["))
        os.kill(terminal.process.pid, signal.SIGINT)
        self.assertEqual(terminal.finish(), 130)


class Percpu(CommandTest):
    def percpu_json(self, *arguments, env=None):
        result = run("percpu", "--json", "--seconds", "0.1", *arguments, env=env)
        self.assertEqual((result.code, result.err), (0, ""))
        return json.loads(result.out)

    def test_json(self):
        document = self.percpu_json("--threads", "3")
        self.assertEqual((document["mmkit"], document["command"]), (ARGS.version, "percpu"))
        self.assertEqual(document["threads"], 3)
        self.assertEqual(document["allowed_cpus"], len(os.sched_getaffinity(0)))
        self.assertGreaterEqual(document["possible_cpus"], document["allowed_cpus"])
        self.assertEqual([row["way"] for row in document["race"]],
                         ["this_cpu_add", "atomic of the CPU", "one shared atomic", "unprotected"])
        self.assertEqual([row["lost"] for row in document["race"][:3]], [0, 0, 0])
        for row in document["race"]:
            self.assertGreater(row["adds"], 0)
            self.assertGreater(row["ns_per_add"], 0)
        for chunk in document["chunks"]:
            self.assertRegex(chunk["pages"], r"\A[.o+#]{16}\Z")

    def test_events(self):
        events = self.path("events.json")
        document = self.percpu_json("--threads", "3", "--trace", events)
        lanes, spans, _ = check_events(self, events)
        self.assertEqual(lanes, ["thread 0", "thread 1", "thread 2"])
        for row in document["race"]:
            mine = [event for event in spans if event["name"] == row["way"]]
            self.assertEqual(sorted(event["tid"] for event in mine), [1, 2, 3])
            self.assertEqual(sum(event["args"]["adds"] for event in mine), row["adds"])
        self.fails_after_output(5, "the trace of events cannot be written to", "percpu", "--seconds", "0.1", "--trace",
                                self.path("none/x.json"))

    def test_fallback_is_shown_with_its_reason(self):
        document = self.percpu_json(env={"MMKIT_PERCPU_MODE": "fallback"})
        self.assertEqual(document["mode"], "fallback")
        self.assertIn("MMKIT_PERCPU_MODE=fallback asks", document["reason"])
        self.assertEqual(document["race"][0]["lost"], 0)

    def test_text(self):
        result = run("percpu", "--seconds", "0.1", "--threads", "1")
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertRegex(result.out, r"\Amode      (rseq|fallback) \(.+\)\ncpus      \d+ possible, \d+ allowed\n")
        self.assertRegex(result.out, r"\nthis_cpu_add +[\d,]+ +[\d.]+ +0\n")
        self.assertRegex(result.out, r"\nchunk  0  \[[.o+#]{16}\]  .* free, longest .*\n")
        self.assertIn("1 thread counting", result.out)

    def test_progress_and_interruption(self):
        terminal = Terminal(100, "percpu", "--seconds", "60", controlling=True)
        self.assertTrue(terminal.read_until(rb"counting  \["))
        os.write(terminal.main, b"\x03")
        self.assertEqual(terminal.finish(), 130)
        self.assertEqual(screen(terminal.seen.replace(b"^C", b"")), ["mmkit: interrupted", ""])


class Packing(CommandTest):
    def test_mixed_input_with_each_codec(self):
        self.write("text", text_bytes(300_000))
        self.write("noise", noise(3 * PAGE))
        self.write("zero", bytes(2 * PAGE))
        self.write("byte", b"A" * PAGE)
        self.write("word", b"12345678" * (PAGE // 8))
        for codec in (["--codec", "lz4"], ["-c", "lz4", "-l", "9"], ["-c", "zstd"], ["-c", "zstd", "-l", "-7"],
                      ["-c", "zstd", "--level", "19"]):
            with self.subTest(codec):
                document = self.pack_json(self.directory, *codec)
                corpus = document["corpus"]
                self.assertEqual(corpus["pages"], 74 + 3 + 2 + 1 + 1)
                self.assertEqual((corpus["zero_pages"], corpus["repeated_byte_pages"],
                                  corpus["repeated_word_pages"]), (2, 1, 1))
                self.assertEqual(corpus["incompressible_objects"], 3)
                self.assertEqual(document["codec"]["name"], codec[1])
                zbud = {row["name"]: row for row in document["drivers"]}["zbud"]
                self.assertEqual((zbud["refused_objects"], zbud["refused_bytes"]), (3, 3 * PAGE))
                self.assertLess(corpus["object_bytes"], corpus["objects"] * PAGE)

    def test_higher_levels_compress_better(self):
        file = self.write("text", text_bytes(200_000))
        sizes = [self.pack_json(file, *codec)["corpus"]["object_bytes"]
                 for codec in (["-l", "1"], ["-l", "12"], ["-c", "zstd", "-l", "19"])]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertEqual(len(set(sizes)), 3)

    def test_one_byte(self):
        document = self.pack_json(self.write("one", b"x"))
        self.assertEqual(document["input"]["bytes"], 1)
        self.assertEqual(document["corpus"]["padding_bytes"], PAGE - 1)
        self.assertEqual(document["corpus"]["objects"], 1)
        self.assertEqual(document["drivers"][0]["pages"], 1)

    def test_only_same_filled_pages(self):
        file = self.write("zero", bytes(5 * PAGE))
        document = self.pack_json(file)
        self.assertEqual(document["corpus"]["zero_pages"], 5)
        self.assertEqual(document["corpus"]["objects"], 0)
        self.assertEqual(document["drivers"][0]["held_bytes"], 0)
        result = run("pack", file)
        self.assertEqual(result.code, 0)
        self.assertIn("there is nothing to store", result.out)

    def test_only_incompressible_pages(self):
        file = self.write("noise", noise(4 * PAGE))
        document = self.pack_json(file, "--driver", "zbud")
        self.assertEqual(document["drivers"][0]["refused_objects"], 4)
        self.assertEqual(document["drivers"][0]["objects"], 0)
        self.assertEqual(document["malloc"]["objects"], 4)
        result = run("pack", file, "--driver", "zbud")
        self.assertEqual(result.code, 0)
        self.assertIn("too large for that driver: kept aside", result.out)

    def test_table(self):
        self.write("a", text_bytes(100_000))
        result = run("pack", self.directory)
        self.assertEqual((result.code, result.err), (0, ""))
        lines = result.out.splitlines()
        self.assertTrue(lines[0].startswith(f"input    '{self.directory}'"))
        heading = next(line for line in lines if line.startswith("driver"))
        self.assertEqual(heading.split(), ["driver", "objects", "refused", "payload", "held", "pages", "bare", "+meta",
                                           "store", "load", "store", "load", "verified"])
        rows = [line for line in lines if line.startswith(("zbud", "malloc")) and line.endswith("ok")]
        self.assertEqual([row.split()[0] for row in rows][-1], "malloc")
        # Numbers end where their headings end.
        self.assertEqual({row.index(" ok") for row in rows}, {heading.index(" verified")})
        self.assertNotIn("\x1b", result.out)
        self.assertIn("glibc", result.out)

    def test_named_drivers(self):
        file = self.write("a", text_bytes(50_000))
        names = lambda *options: [row["name"] for row in self.pack_json(file, *options)["drivers"]]
        self.assertEqual(names("--driver", "zbud", "-d", "zbud"), ["zbud"])
        self.assertEqual(names("--driver", "zbud:reclaim_retries=3"), ["zbud:reclaim_retries=3"])
        known = [row["type"] for row in json.loads(run("drivers", "--json").out)["drivers"]]
        self.assertEqual(names(), sorted(known))

    def test_same_figures_for_the_same_input(self):
        file = self.write("a", text_bytes(200_000))

        def fixed(document):
            rows = document["drivers"]
            return [document["corpus"], [(row["objects"], row["pages"], row["metadata_bytes"]) for row in rows]]

        self.assertEqual(fixed(self.pack_json(file, "--seed", "1")), fixed(self.pack_json(file, "--seed", "77")))
        self.assertEqual(self.pack_json(file, "--seed", "77")["measurement"]["seed"], 77)

    def test_limit(self):
        self.write("a", text_bytes(10 * PAGE))
        self.write("b", text_bytes(10 * PAGE, seed=2))
        document = self.pack_json(self.directory, "--max-bytes", "60K")
        self.assertEqual(document["corpus"]["pages"], 15)
        self.assertEqual(document["input"]["left_out_bytes"], 5 * PAGE)
        self.assertIn("note: input cut after 15 pages (--max-bytes 60.0 KiB): 20.0 KiB more were found and left out", self.err)
        self.assertEqual(self.pack_json(self.directory, "--max-bytes", "80K")["input"]["left_out_bytes"], 0)
        self.assertEqual(self.err, "")

    def test_memory_follows_the_limit(self):
        """--max-bytes bounds what is held: the peak of a small limit stays far below that of a large one."""
        if ARGS.sanitized:
            self.skipTest("sanitizers keep freed memory")
        self.write("a", noise(48 << 20))

        def peak(limit):
            script = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
                      "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
                      "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
            return int(subprocess.run([sys.executable, "-c", script, ARGS.mmkit, "pack", self.directory, "-d", "zbud",
                                       "--max-bytes", limit], capture_output=True, check=True).stdout) * 1024

        self.assertLess(peak("4M"), 40 << 20)
        self.assertLess(peak("48M"), 3.2 * (48 << 20))


class Limited(CommandTest):
    """`pack --limit`: what a pool evicts goes to a spill file, and comes back from there."""

    def setUp(self):
        super().setUp()
        self.file = self.write("text", text_bytes(200 * PAGE))

    def test_json(self):
        result = run("pack", "--json", self.file, "--limit", "64K")
        self.assertEqual((result.code, result.err), (0, ""))
        document = json.loads(result.out)
        self.assertEqual(document["limit_bytes"], 65536)
        for row in document["drivers"]:
            with self.subTest(row["name"]):
                self.assertIs(row["verified"], True)
                self.assertEqual(row["objects"], 200)
                self.assertLessEqual(row["held_bytes"], 65536)
                self.assertGreater(row["evicted_objects"], 50)
                self.assertEqual(row["payload_in_pool_bytes"] + row["spilled_bytes"], row["payload_bytes"])
                self.assertAlmostEqual(row["density"], row["payload_in_pool_bytes"] / row["held_bytes"])
        self.assertEqual(document["malloc"]["evicted_objects"], 0)

    def test_no_limit(self):
        document = self.pack_json(self.file)
        self.assertIsNone(document["limit_bytes"])
        for row in document["drivers"]:
            self.assertEqual((row["evicted_objects"], row["passed_objects"], row["spilled_bytes"]), (0, 0, 0))
        self.assertNotIn("evicted", run("pack", self.file).out)

    def test_table(self):
        out = run("pack", self.file, "--limit", "64K", "-d", "zheap").out
        heading = next(line for line in out.splitlines() if line.startswith("driver"))
        self.assertEqual(heading.split()[4:7], ["evicted", "passed", "spilled"])
        self.assertIn("by a pool at its limit of 64.0 KiB", out)

    def test_nothing_is_left_behind(self):
        os.mkdir(self.path("spill"))
        self.assertEqual(run("pack", self.file, "--limit", "64K", "--spill", self.path("spill")).code, 0)
        self.assertEqual(os.listdir(self.path("spill")), [])
        self.assertEqual(run("pack", self.file, "--limit", "64K", env={"TMPDIR": self.path("spill")}).code, 0)
        self.assertEqual(os.listdir(self.path("spill")), [])

    def test_a_file_that_may_not_grow(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        self.fails(5, "the spill file cannot be written: File too large (after ", "pack", self.file, "--limit", "64K",
                   preexec_fn=limit)

    def test_usage(self):
        self.fails(2, "--limit is 100; it must be at least one page, 4096 bytes", "pack", self.file, "--limit", "100")
        self.fails(2, "'much' is not a size such as", "pack", self.file, "--limit", "much")
        self.fails(5, "there can be no spill file in '" + self.path("none") + "': No such file", "pack", self.file,
                   "--limit", "64K", "--spill", self.path("none"))


class Inputs(CommandTest):
    def test_nothing_readable(self):
        os.symlink("nowhere", self.path("dangling"))
        os.symlink("circle", self.path("circle"))
        os.mkfifo(self.path("pipe"))
        for name, words in {"missing": "No such file or directory (check the spelling)",
                            "dangling": "symbolic link to a file that does not exist",
                            "circle": "symbolic links that lead in a circle",
                            "pipe": "is a pipe; only regular files and directories are packed"}.items():
            with self.subTest(name):
                result = self.fails(3, words, "pack", self.path(name))
                self.assertEqual(result.err.count("\n"), 1, "said once")
        result = self.fails(3, "nothing could be read: none of 2 paths and files", "pack", self.path("missing"),
                            self.path("dangling"))
        self.assertEqual(result.err.count("warning"), 2)
        self.fails(3, "/dev/null' is a character device", "pack", "/dev/null")

    def test_nothing_in_it(self):
        self.fails(3, "no regular file in the paths given (0 symbolic links and 0 special files passed over)", "pack",
                   self.directory)
        os.symlink("/etc/passwd", self.path("link"))
        os.mkfifo(self.path("pipe"))
        self.fails(3, "(1 symbolic link and 1 special file passed over)", "pack", self.directory)
        self.write("empty", b"")
        self.fails(3, "nothing to pack: 1 file, all empty", "pack", self.directory)
        self.fails(3, "nothing to pack: no regular file", "pack", "/proc/self/task")

    def test_partly_readable(self):
        good = self.write("good", text_bytes(20_000))
        document = self.pack_json(good, self.path("missing"), self.path("gone"))
        self.assertEqual(document["input"]["paths_unreadable"]["count"], 2)
        self.assertEqual(self.err.count("warning: "), 2)
        self.assertIn("missing': No such file", self.err)
        quiet = run("pack", good, self.path("missing"), "--quiet")
        self.assertEqual((quiet.code, quiet.err), (0, ""))
        self.assertIn("zbud", quiet.out)
        self.fails(3, "1 path or file could not be read as a whole, and --strict is set", "pack", "--strict", good,
                   self.path("missing"))
        self.assertEqual(run("pack", "--strict", good).code, 0)

    def test_many_complaints_are_counted(self):
        good = self.write("good", b"x")
        result = run("pack", good, *(self.path(f"missing{number}") for number in range(1200)))
        self.assertEqual(result.code, 0)
        self.assertEqual(result.err.count("missing"), 5)
        self.assertIn("warning: and 1,195 more paths that cannot be read", result.err)

    def test_file_without_permission(self):
        if os.geteuid() == 0:
            self.skipTest("root reads everything")
        self.write("good", b"x")
        os.chmod(self.write("secret", b"x"), 0)
        self.pack_json(self.directory)
        self.assertIn("secret': Permission denied (run as a user who may read it", self.err)

    def test_same_file_twice(self):
        file = self.write("a", text_bytes(20_000))
        os.link(file, self.path("b"))
        os.symlink("a", self.path("c"))
        document = self.pack_json(file, self.path("b"), self.path("c"))
        self.assertEqual(document["input"]["files"], 1)
        self.assertEqual(document["input"]["duplicates"], 2)
        self.assertIn("note: 2 files or directories were given or met again (same device and inode): counted once",
                      self.err)

    def test_directories_with_loops_and_odd_names(self):
        os.makedirs(self.path("deep/er"))
        os.symlink("../..", self.path("deep/er/loop"))
        self.write("deep/er/new\nline \x1b[2J", b"x" * 5000)
        with open(os.fsencode(self.directory) + b"/\xff\xfe", "wb") as file:
            file.write(b"y" * 5000)
        document = self.pack_json(self.directory)
        self.assertEqual(document["input"]["files"], 2)
        self.assertEqual(document["input"]["symbolic_links_not_followed"], 1)

    def test_names_cannot_write_to_the_terminal(self):
        result = self.fails(3, "x1b[2J", "pack", self.path("bad\x1b[2J\nmmkit: fake"))
        self.assertEqual(result.err.count("\n"), 1)
        done = subprocess.run([ARGS.mmkit, "pack", "--json", os.fsencode(self.directory) + b"/\xff", self.write("a", b"x")],
                              capture_output=True, env=clean_env())
        self.assertEqual(done.returncode, 0)
        self.assertIn("\ufffd", json.loads(done.stdout)["input"]["paths"][0])

    def test_file_that_shrinks_while_read(self):
        """Files before it take long enough to compress that this one is cut after the walk has seen its size."""
        self.write("a", text_bytes(2_000_000))
        self.write("b", text_bytes(400_000))
        process = subprocess.Popen([ARGS.mmkit, "pack", "--json", "-c", "zstd", "-l", "22", self.directory],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env())
        while not is_reading(process.pid, "a"):
            self.assertIsNone(process.poll(), "ended before it was seen reading")
        process.send_signal(signal.SIGSTOP)
        self.assertTrue(is_reading(process.pid, "a"), "was too fast to be stopped")
        os.truncate(self.path("b"), 5000)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        self.assertEqual(process.returncode, 0)
        self.assertIn(b"b' became shorter while it was read: 5000 of 400000 bytes", err)
        document = json.loads(out)
        self.check_figures(document)
        self.assertEqual(document["input"]["files_shrunk"]["count"], 1)
        self.assertEqual(document["input"]["bytes"], 2_005_000)


def is_reading(pid, name):
    """Whether the process has a file of that name open."""
    try:
        return any(os.path.basename(os.readlink(f"/proc/{pid}/fd/{fd}")) == name for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False  # a descriptor was closed meanwhile


class Streams(CommandTest):
    def setUp(self):
        super().setUp()
        self.file = self.write("a", text_bytes(20_000))

    def test_closed_output(self):
        for arguments in (["pack", self.file], ["pack", "--json", self.file], ["drivers"], ["help"], ["--version"]):
            with self.subTest(arguments):
                done = subprocess.run([ARGS.mmkit, *arguments], stderr=subprocess.PIPE, env=clean_env(),
                                      preexec_fn=lambda: os.close(1))
                self.assertEqual(done.returncode, 5)
                self.assertEqual(done.stderr, b"mmkit: error: standard output is closed\n")

    def test_pipe_whose_reader_is_gone(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([ARGS.mmkit, "pack", self.file], stdout=write_end, stderr=subprocess.PIPE, env=clean_env())
        os.close(write_end)
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"cannot be written to standard output: Broken pipe", done.stderr)

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([ARGS.mmkit, "pack", self.file], stdout=full, stderr=subprocess.PIPE, env=clean_env())
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"No space left on device", done.stderr)

    def test_closed_error_stream_and_input(self):
        def close_both():
            os.close(0)
            os.close(2)

        done = subprocess.run([ARGS.mmkit, "pack", "--json", self.file, self.path("missing")], stdout=subprocess.PIPE,
                              env=clean_env(), preexec_fn=close_both)
        self.assertEqual(done.returncode, 0)
        self.check_figures(json.loads(done.stdout))

    def test_no_memory(self):
        if ARGS.sanitized:
            self.skipTest("sanitizers reserve terabytes of addresses")
        self.write("noise", noise(48 << 20))

        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (80 << 20, 80 << 20))

        result = self.fails(4, "a smaller --max-bytes needs less", "pack", self.directory, preexec_fn=limit)
        self.assertNotIn("terminate", result.err)

    def test_nothing_on_error_stream_when_it_is_no_terminal(self):
        for arguments in ([], ["--json"]):
            result = run("pack", self.file, *arguments)
            self.assertEqual(result.err, "")
            self.assertNotIn("\x1b", result.out)


class OnTerminal(CommandTest):
    # Long enough, by a slow codec, for several drawings.
    SLOW = ["-c", "zstd", "-l", "19", "-d", "zbud"]

    def setUp(self):
        super().setUp()
        self.file = self.write("a", text_bytes(2 << 20))

    def test_progress_has_share_rate_and_remaining_time(self):
        terminal = Terminal(120, "pack", self.write("large", text_bytes(8 << 20)), *self.SLOW)
        self.assertEqual(terminal.finish(), 0)
        lines = progress_lines(terminal.seen)
        full = re.compile(r"reading and compressing  \[#*-*\] +\d+ %  [\d.]+ [KMG]iB/s  \d+:\d\d left")
        self.assertTrue(any(full.fullmatch(line) for line in lines), lines)
        self.assertTrue(any(line.startswith("zbud: ") for line in lines), lines)
        shares = [int(found.group(1)) for line in lines if line.startswith("reading")
                  for found in [re.search(r"(\d+) %", line)]]
        self.assertEqual(shares, sorted(shares))
        self.assertEqual(screen(terminal.seen), [""], "the line is left clean")

    def test_every_width_is_kept(self):
        for columns in (1, 2, 8, 20, 40, 60):
            with self.subTest(columns):
                terminal = Terminal(columns, "pack", self.write("small", text_bytes(300_000)), *self.SLOW)
                self.assertEqual(terminal.finish(), 0)
                self.assertLessEqual(max(map(len, progress_lines(terminal.seen)), default=0), columns - 1)
                self.assertEqual(screen(terminal.seen), [""])

    def test_a_resized_window_is_followed(self):
        terminal = Terminal(100, "pack", self.file, *self.SLOW)
        self.assertTrue(terminal.read_until(rb"reading"))
        terminal.resize(30)
        terminal.process.send_signal(signal.SIGWINCH)
        self.assertEqual(terminal.finish(), 0)
        self.assertLessEqual(len(progress_lines(terminal.seen)[-1]), 29)

    def test_no_color_draws_without_escapes(self):
        for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            with self.subTest(env):
                terminal = Terminal(100, "pack", self.file, *self.SLOW, env=env, output=True)
                self.assertEqual(terminal.finish(), 0)
                self.assertIn(b"reading and compressing", terminal.seen)
                self.assertNotIn(b"\x1b", terminal.seen)
                self.assertTrue(screen(terminal.seen)[0].startswith("input"), "the bar was wiped before the table")

    def test_table_has_colours_and_folds(self):
        terminal = Terminal(80, "pack", self.file, "-d", "zbud", output=True)
        self.assertEqual(terminal.finish(), 0)
        self.assertIn(b"\x1b[1m", terminal.seen)
        lines = screen(terminal.seen)
        rows = [line for line in lines if line.startswith("zbud ")]
        self.assertEqual(len(rows), 2, "two blocks")
        table = [line for line in lines if line.startswith(("driver", "zbud ", "malloc ")) and "held is" not in line]
        self.assertLessEqual(max(map(len, table)), 80)

    def test_progress_can_be_refused(self):
        for option in ("--no-progress", "--quiet"):
            with self.subTest(option):
                terminal = Terminal(100, "pack", self.file, "-d", "zbud", option)
                self.assertEqual(terminal.finish(), 0)
                self.assertEqual(terminal.seen, b"")

    def test_json_stays_clean_beside_the_bar(self):
        main, side = pty.openpty()
        done = subprocess.run([ARGS.mmkit, "pack", "--json", self.file], stdout=subprocess.PIPE, stderr=side,
                              env=clean_env())
        os.close(side)
        os.close(main)
        self.check_figures(json.loads(done.stdout))

    def test_background_job_does_not_draw(self):
        """As a shell runs `mmkit pack x &`: the terminal is ours, its foreground is not."""
        script = ("import os, sys, signal\n"
                  "signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
                  "child = os.fork()\n"
                  "if child == 0:\n"
                  "    os.setpgid(0, 0)\n"
                  "    os.execv(sys.argv[1], sys.argv[1:])\n"
                  "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n")
        main, side = pty.openpty()

        def control():
            os.setsid()
            fcntl.ioctl(side, termios.TIOCSCTTY, 0)

        done = subprocess.Popen([sys.executable, "-c", script, ARGS.mmkit, "pack", self.file, "-d", "zbud"],
                                stdin=side, stdout=subprocess.DEVNULL, stderr=side, env=clean_env(),
                                preexec_fn=control)
        os.close(side)
        seen = b""
        try:
            while data := os.read(main, 65536):
                seen += data
        except OSError:
            pass
        os.close(main)
        self.assertEqual(done.wait(TIMEOUT_SECONDS), 0)
        self.assertEqual(seen, b"")

    def test_control_c_restores_the_line(self):
        terminal = Terminal(100, "pack", self.file, "-c", "zstd", "-l", "22", controlling=True)
        self.assertTrue(terminal.read_until(rb"reading"))
        os.write(terminal.main, b"\x03")
        self.assertEqual(terminal.finish(), 130)
        lines = screen(terminal.seen.replace(b"^C", b""))
        self.assertEqual(lines, ["mmkit: interrupted", ""])

    def test_interruption_in_the_middle_of_a_store_reports_no_leak(self):
        terminal = Terminal(100, "pack", self.write("many", text_bytes(40 << 20)), "-d", "zbud", controlling=True)
        self.assertTrue(terminal.read_until(rb"zbud: "))
        os.write(terminal.main, b"\x03")
        self.assertEqual(terminal.finish(), 130)
        self.assertEqual(screen(terminal.seen.replace(b"^C", b""))[-2:], ["mmkit: interrupted", ""])

    def test_other_signals_have_their_codes(self):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            with self.subTest(number):
                terminal = Terminal(100, "pack", self.file, "-c", "zstd", "-l", "22")
                self.assertTrue(terminal.read_until(rb"reading"))
                terminal.process.send_signal(number)
                self.assertEqual(terminal.finish(), code)

    def test_ignored_interrupts_stay_ignored(self):
        process = subprocess.Popen([ARGS.mmkit, "pack", self.file, *self.SLOW], stdout=subprocess.DEVNULL,
                                   env=clean_env(), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT_SECONDS), 0)


if __name__ == "__main__":
    main()
