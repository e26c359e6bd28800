#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""exports_test.py - the shared library exports what the list says, and that is enough for its headers.

Compares the names that `nm -DC` finds with the list, both ways. Then compiles every installed header with all inline functions
kept: whatever they call must be exported, or some user's program would not link. That takes g++; clang has no such option.
"""
import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"exports: failed: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def name_of(symbol):
    """`mmkit::f[abi:cxx11](int) const@@MMKIT_0.1` -> `mmkit::f`"""
    symbol = re.sub(r"@+\S*$", "", symbol)
    name = re.sub(r"\[abi:\w+\]$", "", symbol.split("(")[0])
    return name + "()" if name.endswith("::operator") else name


def names(text, kinds):
    """The names in nm's output whose letter is one of kinds."""
    found = re.findall(r"^\s*(?:[0-9a-f]+)?\s+([A-Za-z]) (.*)$", text, re.MULTILINE)
    return {name_of(symbol) for kind, symbol in found if kind in kinds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("library", "list", "include", "compiler"):
        parser.add_argument(f"--{option}", required=True)
    options = parser.parse_args()

    listed = [line for line in Path(options.list).read_text().splitlines() if line and not line.startswith("#")]
    complaints = [f"the list is not in order at: {b}" for a, b in zip(listed, listed[1:]) if a >= b]
    symbols = run("nm", "-DC", "--defined-only", options.library)
    versions = names(symbols, "A")
    exported = names(symbols, "TDBRVWui")
    complaints += [f"exported, not listed: {name}" for name in sorted(exported - set(listed))]
    complaints += [f"listed, not exported: {name}" for name in sorted(set(listed) - exported)]
    unversioned = [line for line in symbols.splitlines() if "@" not in line and " A " not in line]
    complaints += [f"without a version: {line}" for line in unversioned]

    checked = "not compared with the headers: the compiler cannot keep inline functions"
    if "Free Software Foundation" in run(options.compiler, "--version"):
        with tempfile.TemporaryDirectory() as work:
            headers = sorted(p.relative_to(options.include).as_posix() for p in Path(options.include).rglob("*.hpp"))
            source = Path(work) / "all.cpp"
            source.write_text("".join(f"#include <{header}>\n" for header in headers))
            # Level 2, where the headers call most.
            run(options.compiler, "-std=c++20", "-O0", "-fkeep-inline-functions", "-DMMKIT_CHECK_LEVEL=2",
                f"-I{options.include}", "-c", source, "-o", f"{work}/all.o")
            needed = {n for n in names(run("nm", "-C", "--undefined-only", f"{work}/all.o"), "U") if n.startswith("mmkit")}
        complaints += [f"called in a header, not exported: {name}" for name in sorted(needed - exported)]
        checked = f"{len(needed)} of them called in headers"
        if len(needed) < 20:
            complaints.append(f"only {len(needed)} names are called in headers: the look at them went wrong")
    print("\n".join(complaints), end="\n" if complaints else "")
    print(f"exports: {len(exported)} names, version {' '.join(sorted(versions))}; {checked}")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
