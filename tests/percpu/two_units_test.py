#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles and runs a program of two files that use the same operations, by every compiler at hand, in every way that has
broken inlined assembly before: without optimisation, with much of it, position independent and not, optimised at link
time, with unused sections dropped, linked statically, with the second file in a shared object that has a mmkit of its own."""

import argparse
import pathlib
import shutil
import subprocess
import sys

# Name, options for compiling, options for linking.
WAYS = [
    ("-O0", ["-O0"], []),
    ("-O2", ["-O2"], []),
    ("-O3 -fno-pie", ["-O3", "-fno-pie"], ["-no-pie"]),
    ("-Os -ffunction-sections --gc-sections", ["-Os", "-ffunction-sections"], ["-Wl,--gc-sections"]),
    ("-O0 -static", ["-O0"], ["-static"]),
    ("-O2 -flto", ["-O2", "-flto"], ["-flto"]),
    ("-O0 -fPIC -shared", ["-O0", "-fPIC"], []),
]
COMPILERS = ["g++", "clang++", "clang++-14", "clang++-19"]


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def cannot_link(compiler, options, work):
    """Whether a compiler lacks the libraries or plug-ins for some options, shown by an empty program."""
    source = work / "empty.cpp"
    source.write_text("int main() {}\n")
    return run([compiler, *options, str(source), "-o", str(work / "empty")])[0] != 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sources", type=pathlib.Path, required=True)
    parser.add_argument("--include", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--quick", action="store_true", help="only the first way")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    seen, failures, runs = set(), 0, 0
    for name in COMPILERS:
        compiler = shutil.which(name)
        if compiler is None or pathlib.Path(compiler).resolve() in seen:
            continue
        seen.add(pathlib.Path(compiler).resolve())
        for way, compile_options, link_options in WAYS[: 1 if arguments.quick else None]:
            if cannot_link(compiler, [*compile_options, *link_options], arguments.work):
                print(f"left out: {name} {way}: cannot link an empty program")
                continue
            base = [compiler, "-std=c++20", "-I", arguments.include, *compile_options]
            units = [str(arguments.sources / f"two_units_{unit}.cpp") for unit in "ab"]
            program = str(arguments.work / "two_units")
            commands = [[*base, *units, arguments.library, *link_options, "-pthread", "-o", program]]
            if "-shared" in way:
                second = str(arguments.work / "libsecond.so")
                commands = [
                    [*base, "-shared", units[1], arguments.library, "-pthread", "-o", second],
                    [*base, units[0], arguments.library, second, "-pthread", f"-Wl,-rpath,{arguments.work}", "-o", program],
                ]
            for command in [*commands, [program]]:
                code, output = run(command)
                if code != 0:
                    failures += 1
                    print(f"FAILED ({code}): {name} {way}: {' '.join(command)}\n{output}")
                    break
            else:
                runs += 1
                print(f"passed: {name} {way}: {output.strip()}")
    if runs == 0:
        print("FAILED: nothing was run")
    return 1 if failures or runs == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
