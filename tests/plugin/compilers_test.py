#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""compilers_test.py --compiler CXX --include DIR --source FILE --program PROGRAM --work DIR - one plug-in, made in many ways.

The program was built by one compiler, in one standard, at one check level. A plug-in made by another compiler at hand, in another
standard, at another check level, without exceptions or RTTI, must be loaded by it and work; one made for another layout of the
standard library must be refused by name. Each links to nothing (-z defs).
"""
import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

WORKS = "4 pictures in 3524 KiB, 6 evicted"
LEAN = ["-fno-exceptions", "-fno-rtti"]
# Flags, and what the program then says.
WAYS = [
    (["-std=c++20", "-O0", "-DMMKIT_CHECK_LEVEL=2"], WORKS),
    (["-std=c++2b", "-O2", "-DMMKIT_CHECK_LEVEL=0", *LEAN], WORKS),
]
OTHER_LIBRARY = (["-std=c++20", "-O1", "-D_GLIBCXX_USE_CXX11_ABI=0"], "was compiled for another program: mmkit ")


def main():
    parser = argparse.ArgumentParser()
    for name in ("compiler", "include", "source", "program", "work"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    compilers = [options.compiler]
    compilers += [found for name in ("g++", "clang++-14", "clang++-19") if (found := shutil.which(name)) and found not in compilers]

    os.umask(0o022)
    tries = [(compiler, *way) for compiler in compilers for way in WAYS] + [(options.compiler, *OTHER_LIBRARY)]
    for number, (compiler, flags, wanted) in enumerate(tries):
        directory = Path(options.work) / str(number)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o755, parents=True)
        plugin = directory / "mmkit-zpool-runs.so"
        command = [compiler, *flags, "-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-z,defs", "-Wall", "-Wextra", "-Werror",
                   f"-I{options.include}", options.source, "-o", str(plugin)]
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode != 0:
            sys.exit(f"compilers: {' '.join(command)}\n{made.stdout}")
        run = subprocess.run([options.program, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if wanted not in run.stdout or (run.returncode == 0) != (wanted == WORKS):
            sys.exit(f"compilers: {' '.join(command)}\nprogram: {run.returncode}\n{run.stdout}wanted: {wanted}")
    print(f"compilers: {len(tries)} plug-ins by {len(compilers)} compilers, each loaded or refused as it should be")


if __name__ == "__main__":
    main()
