#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the tests of the command `mmkit` share: running it, terminals, inputs.

A test imports * from here and ends with main(), which takes: --mmkit PATH --version X.Y.Z [--sanitized]
[unittest arguments].
"""

import argparse
import errno
import fcntl
import json
import os
import pty
import random
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

PAGE = 4096
TIMEOUT_SECONDS = 120
ARGS = argparse.Namespace()  # filled in by main


def text_bytes(size, seed=1):
    """Words from a small vocabulary: compresses to about a third, and no two pages are alike."""
    source = random.Random(seed)
    words = [bytes(source.choices(b"abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(500)]
    out = bytearray()
    while len(out) < size:
        out += b" ".join(source.choices(words, k=2000)) + b"\n"
    return bytes(out[:size])


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def run(*arguments, env=None, **options):
    """The command with pipes for streams."""
    done = subprocess.run([ARGS.mmkit, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=TIMEOUT_SECONDS, env=clean_env(env), **options)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def clean_env(extra=None):
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    env["TERM"] = "xterm"
    env.update(extra or {})
    return env


class Terminal:
    """The command on a pseudo terminal: standard error, and standard output when asked for."""

    def __init__(self, columns, *arguments, env=None, output=False, controlling=False):
        self.main, side = pty.openpty()
        self.resize(columns)

        def become_foreground():
            os.setsid()
            fcntl.ioctl(side, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [ARGS.mmkit, *arguments], stdin=side, stdout=side if output else subprocess.DEVNULL, stderr=side,
            env=clean_env(env), preexec_fn=become_foreground if controlling else None,
            start_new_session=not controlling)
        os.close(side)
        self.seen = b""

    def resize(self, columns):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read_until(self, wanted):
        """Reads until the regular expression has been seen, or the end."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not re.search(wanted, self.seen):
            if time.monotonic() > deadline:
                raise AssertionError(f"never saw {wanted!r} in {self.seen!r}")
            if not self._read_some():
                return False
        return True

    def finish(self):
        while self._read_some():
            pass
        os.close(self.main)
        return self.process.wait(TIMEOUT_SECONDS)

    def _read_some(self):
        if not select.select([self.main], [], [], TIMEOUT_SECONDS)[0]:
            raise AssertionError(f"silent for {TIMEOUT_SECONDS} s after {self.seen!r}")
        try:
            data = os.read(self.main, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: the other side is closed
                raise
            return False
        self.seen += data
        return bool(data)


def screen(raw):
    """What a terminal shows at the end: a list of lines, after carriage returns and erasures."""
    lines, column = [""], 0
    for token in re.findall(rb"\x1b\[[0-9;]*[A-Za-z]|.", raw, re.DOTALL):
        if token == b"\r":
            column = 0
        elif token == b"\n":
            lines.append("")
        elif token == b"\x1b[K":
            lines[-1] = lines[-1][:column]
        elif not token.startswith(b"\x1b"):
            lines[-1] = lines[-1][:column].ljust(column) + token.decode("latin-1") + lines[-1][column + 1:]
            column += 1
    return [line.rstrip() for line in lines]


def progress_lines(raw):
    """The texts drawn over one another on the first line."""
    plain = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", raw.split(b"\n")[0])
    return [piece.decode() for piece in plain.split(b"\r") if piece.strip()]


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="mmkit-command-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def path(self, name=""):
        return os.path.join(self.directory, name)

    def write(self, name, contents):
        with open(self.path(name), "wb") as file:
            file.write(contents)
        return self.path(name)

    def fails(self, code, words, *arguments, **options):
        result = run(*arguments, **options)
        self.assertEqual(result.code, code, result.err)
        self.assertEqual(result.out, "")
        self.assertIn(words, result.err)
        self.assertRegex(result.err, r"\A(mmkit: [^\n]+\n)+\Z")
        return result

    def fails_after_output(self, code, words, *arguments):
        """The figures are shown, but a file could not be written."""
        result = run(*arguments)
        self.assertEqual(result.code, code, result.err)
        self.assertIn(words, result.err)
        self.assertNotEqual(result.out, "")

    def pack_json(self, *arguments, code=0, env=None):
        result = run("pack", "--json", *arguments, env=env)
        self.assertEqual(result.code, code, result.err)
        self.err = result.err
        document = json.loads(result.out)
        self.check_figures(document)
        return document

    def check_figures(self, document):
        """What must hold for every input."""
        corpus = document["corpus"]
        self.assertEqual(corpus["same_filled_pages"],
                         corpus["zero_pages"] + corpus["repeated_byte_pages"] + corpus["repeated_word_pages"])
        self.assertEqual(corpus["pages"], corpus["same_filled_pages"] + corpus["objects"])
        self.assertEqual(corpus["pages"] * PAGE, document["input"]["bytes"] + corpus["padding_bytes"])
        self.assertGreater(len(document["drivers"]), 0)
        for row in document["drivers"] + [document["malloc"]]:
            with self.subTest(row=row["name"]):
                self.check_row(row, corpus)
        for row in document["drivers"]:
            self.assertEqual(row["held_bytes"], row["pages"] * PAGE)
        malloc = document["malloc"]
        self.assertEqual(malloc["refused_objects"], 0)
        self.assertGreaterEqual(malloc["held_bytes"], malloc["payload_bytes"] + 8 * malloc["objects"])

    def check_row(self, row, corpus):
        self.assertEqual(row["objects"] + row["refused_objects"] + corpus["same_filled_pages"], corpus["pages"])
        self.assertEqual(row["payload_bytes"] + row["refused_bytes"], corpus["object_bytes"])
        self.assertIs(row["verified"], True)
        self.assertEqual(row["mismatches"], 0)
        times = ["store_ns", "load_ns", "free_ns", "store_with_codec_ns", "load_with_codec_ns"]
        if row["objects"] == 0:
            self.assertIsNone(row["density"])
            self.assertEqual([row[name] for name in times], [None] * 5)
            return
        self.assertAlmostEqual(row["density"], row["payload_bytes"] / row["held_bytes"], places=12)
        self.assertAlmostEqual(row["density_with_metadata"],
                               row["payload_bytes"] / (row["held_bytes"] + row["metadata_bytes"]), places=12)
        for name in times:
            self.assertGreater(row[name], 0, name)


def gpt(operations, count=None, flags=0):
    """A trace; an operation is a size, or a tuple of the number to free."""
    words = [1 << 31 | op[0] if isinstance(op, tuple) else op for op in operations]
    allocations = sum(not isinstance(op, tuple) for op in operations)
    return b"GPT1" + struct.pack(f"<III{len(words)}I", len(words) if count is None else count, allocations, flags, *words)


def gpt_life(operations, seed=1):
    """A random life, at whose end some blocks are left."""
    source, ops, live, made = random.Random(seed), [], [], 0
    for _ in range(operations):
        if live and source.random() < 0.47:
            ops.append((live.pop(source.randrange(len(live))),))
        else:
            ops.append(source.randint(1, 4000))
            live.append(made)
            made += 1
    return gpt(ops)


def check_events(test, path):
    """Holds a file to the Trace Event Format; returns the lanes' names in order, spans and counters."""
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    events = document["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [event for event in events if event["ph"] == "X"]
    counters = [event for event in events if event["ph"] == "C"]
    test.assertEqual(len(events), len(names) + len(spans) + len(counters))
    for event in spans:
        test.assertIn(event["tid"], names)
        test.assertGreaterEqual(event["dur"], 0)
    for event in spans + counters:
        test.assertEqual(event["pid"], 1)
        test.assertGreaterEqual(event["ts"], 0)
    for event in counters:
        test.assertTrue(all(isinstance(value, (int, float)) for value in event["args"].values()))
    return [names[tid] for tid in sorted(names)], spans, counters


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mmkit", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--sanitized", action="store_true")
    _, rest = parser.parse_known_args(namespace=ARGS)
    unittest.main(module="__main__", argv=[sys.argv[0], *rest])
