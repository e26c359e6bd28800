#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""negative_compile.py - proves that code which must not compile does not, and for the right reason.

A source is compiled once as it is, which must go well without a warning, and once for each wrong line it holds. Such a
line is left out of the first compilation by the preprocessor and says which diagnostic the compiler must give there:

  // flags: -Werror=unused-result            flags for every compilation of this file
  // compilers: clang                        only those (g++, clang); all when absent
  #if WRONG == 1
    // expect: ignoring return
    make();
  #endif

The numbers run from 1 without a gap. `expect:` is a regular expression; it must match an error of the compiler whose place,
or the place of the macro it arises in, is inside the #if, so that a case cannot pass by a typing error elsewhere.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

CASE = re.compile(r"^\s*#\s*if\s+WRONG\s*==\s*(\d+)\s*$")
EXPECT = re.compile(r"^\s*//\s*expect:\s*(.*\S)\s*$")
END = re.compile(r"^\s*#\s*(endif|else|elif)")
OPTION = re.compile(r"^//\s*(flags|compilers):\s*(.*\S)\s*$")
DIAGNOSTIC = re.compile(r"^([^\s:][^:]*):(\d+):(?:\d+:)?\s*(?:fatal )?(error|warning|note):\s*(.*)$")
BASE_FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion",
              "-Wshadow", "-Werror", "-fno-diagnostics-color"]


class BadSource(Exception):
    pass


class Source:
    """A file of cases: its options, and of each case the lines it spans and the diagnostic it must have."""

    def __init__(self, path):
        self.path = path
        self.flags = []
        self.compilers = ["g++", "clang"]
        self.cases = {}  # number -> (first line, last line, expected)
        lines = path.read_text().splitlines() + [""]
        open_case = None
        for number, line in enumerate(lines[:-1], start=1):
            if option := OPTION.match(line):
                setattr(self, option[1], option[2].split())
            if case := CASE.match(line):
                expect = EXPECT.match(lines[number])
                if open_case or not expect or int(case[1]) != len(self.cases) + 1:
                    raise BadSource(f"{path}:{number}: a case has the next number and an expectation, and is in no other")
                open_case = (number, expect[1])
            elif open_case and END.match(line):
                self.cases[len(self.cases) + 1] = (open_case[0], number, open_case[1])
                open_case = None
        if open_case or not self.cases:
            raise BadSource(f"{path}: no case, or one that does not end")


def kind_of(compiler):
    """Whether a compiler is clang or g++, by its own word: a name such as c++ says nothing."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return "clang" if "clang" in version else "g++"


def compile_case(compiler, source, wrong, options):
    command = [compiler, *BASE_FLAGS, *source.flags, *options, f"-DWRONG={wrong}", str(source.path)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})


def errors_of(text):
    """The errors of a compilation: each its words, and its own places and those of the notes that belong to it."""
    errors = []
    for file, line, kind, words in (m.groups() for m in map(DIAGNOSTIC.match, text.splitlines()) if m):
        if kind != "note":
            errors.append((words, []))
        if errors:
            errors[-1][1].append((Path(file).name, int(line)))
    return errors


def fault_of(source, wrong, run):
    """What is wrong with the outcome of one compilation; None when it is as it must be."""
    if wrong == 0:
        return None if run.returncode == 0 else "does not compile without a wrong line:\n" + run.stderr
    first, last, expected = source.cases[wrong]
    if run.returncode == 0:
        return f"compiles, although lines {first + 1} to {last - 1} must not"
    inside = [words for words, places in errors_of(run.stderr)
              if any(file == source.path.name and first < line < last for file, line in places)]
    if not any(re.search(expected, words) for words in inside):
        return f"fails, but not by '{expected}' in lines {first + 1} to {last - 1}:\n{run.stderr}"
    return None


def main():
    parser = argparse.ArgumentParser(description="Compiles what must not compile.")
    parser.add_argument("--compiler", action="append", required=True)
    parser.add_argument("--option", action="append", default=[], help="a flag for every compilation, such as -I")
    parser.add_argument("sources", nargs="+", type=Path)
    arguments = parser.parse_args()

    try:
        sources = [Source(path) for path in arguments.sources]
        kinds = {compiler: kind_of(compiler) for compiler in arguments.compiler}
    except (BadSource, OSError, subprocess.CalledProcessError) as error:
        print(f"negative_compile: {error}", file=sys.stderr)
        return 2

    jobs = [(compiler, source, wrong) for compiler in arguments.compiler for source in sources
            if kinds[compiler] in source.compilers for wrong in [0, *source.cases]]
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        runs = pool.map(lambda job: compile_case(*job, arguments.option), jobs)
        faults = 0
        for (compiler, source, wrong), run in zip(jobs, runs):
            if fault := fault_of(source, wrong, run):
                faults += 1
                case = f", case {wrong}" if wrong else ""
                print(f"{source.path.name}{case} with {Path(compiler).name}: {fault}", file=sys.stderr)
    refused = sum(1 for _, _, wrong in jobs if wrong)
    print(f"{refused} wrong lines, {len(jobs) - refused} sources without them: {faults} not as they must be")
    return 1 if faults or not refused else 0


if __name__ == "__main__":
    sys.exit(main())
