#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""include_cost_test.py - what each door costs who includes it, beside <memory_resource>, against limits.

Counted, not timed: lines and bytes after preprocessing, by the compiler of the build. The doors are <mmkit/mmkit.hpp> and those it
opens. A door without a limit fails, and so does a limit so wide that it says nothing, half above what is.
"""
import argparse
import re
import subprocess
import sys
from pathlib import Path

PEER = "memory_resource"
ALL = "mmkit/mmkit.hpp"


def cost(compiler, include, header):
    """Lines with something on them, and their bytes."""
    done = subprocess.run([compiler, "-std=c++20", f"-I{include}", "-E", "-P", "-x", "c++", "-"], input=f"#include <{header}>\n",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"include cost: <{header}> does not preprocess\n{done.stderr}")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return len(lines), sum(map(len, lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("include", "compiler", "limits"):
        parser.add_argument(f"--{option}", required=True)
    options = parser.parse_args()
    limits = {}
    for line in Path(options.limits).read_text().splitlines():
        if line and not line.startswith("#"):
            header, limit = line.split()
            limits[header] = float(limit)
    doors = {ALL, *re.findall(r"#include <(mmkit/\S+)>", (Path(options.include) / ALL).read_text())}
    complaints = [f"no limit for <{door}>" for door in sorted(doors - set(limits))]
    complaints += [f"a limit for <{door}>, which is not there" for door in sorted(set(limits) - doors)]

    peer_lines, peer_bytes = cost(options.compiler, options.include, PEER)
    print(f"{'door':22}{'lines':>8}{'bytes':>10}{'ratio':>8}{'limit':>8}")
    print(f"{PEER:22}{peer_lines:8}{peer_bytes:10}{1:8.2f}")
    for door, limit in limits.items():
        if door not in doors:
            continue
        lines, size = cost(options.compiler, options.include, door)
        ratio = lines / peer_lines
        print(f"{door:22}{lines:8}{size:10}{ratio:8.2f}{limit:8.2f}")
        if ratio > limit:
            complaints.append(f"<{door}> costs {ratio:.2f} of <{PEER}>; its limit is {limit:.2f}")
        elif ratio * 1.5 < limit:
            complaints.append(f"<{door}> costs {ratio:.2f} of <{PEER}>; the limit {limit:.2f} is too wide to notice anything")
    print("\n".join(complaints), end="\n" if complaints else "")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
