#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""printers_test.py --gdb GDB --printers FILE --program PROGRAM - what gdb prints of mmkit's types.

Runs tests/gdb/shown.cpp to the breakpoint look(), prints each of its variables with the printers, and compares. Prints one as its
members (print/r), which the printers must leave alone. Fails where there is no gdb: scripts/setup.sh installs it.
"""
import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HEX = r"0x[0-9a-f]+"
# Variable, and what stands behind `$n = `, as a regular expression.
SHOWN = [
    ("ok", r"ok"),
    ("busy", r"failed: busy"),
    ("number", r"ok: 42"),
    ("none", r"failed: no_space"),
    ("pair", r"ok = \{value = \{first = 1, second = 2\}\}"),
    ("owned", rf"ok = \{{value = .*{HEX}.*\}}"),
    ("not_owned", r"failed: not_found"),
    ("no_handle", r"none"),
    ("handle", r"0x300020000004d \(tag 0x3, generation 2, index 77\)"),
    ("copies", rf"per-CPU at {HEX} = \{{cpu 0 = 100.*\}}"),
    ("no_copies", r"null"),
    ("ranges", r"gen_pool 'ranges': 112 of 40960 bytes in use, granule 16, 10 chunks = \{chunk 0 = 0xa0000, 4096 bytes, "
               r"chunk 1 = 0x90000, 4096 bytes, .*, chunk 9 = 0x10000, 4096 bytes\}"),
    ("no_ranges", r"gen_pool '': 0 of 0 bytes in use, granule 1, 0 chunks"),
    ("zbud", rf"zbud pool 'shown', tag {HEX}, limit 40 pages = \{{backend = zbud pool 'shown': 10 objects, 5 pages, "
             r"15000 bytes of payload, 0 evicted\}"),
    ("z3fold", rf"z3fold pool 'shown', tag {HEX}, no limit = \{{backend = z3fold pool 'shown': 10 objects, \d+ pages, "
               r"15000 bytes of payload, 0 evicted, \d+ moved\}"),
    ("zsmalloc", rf"zsmalloc pool 'shown', tag {HEX}, no limit = \{{backend = zsmalloc pool 'shown': 10 objects, \d+ pages, "
                 r"\d+ zspages, 0 evicted, 0 moved\}"),
    ("zheap", rf"zheap pool 'shown', tag {HEX}, no limit = \{{backend = zheap pool 'shown': 10 objects, \d+ pages, "
              r"floor 0\.955, \d+ blocks emptied, 0 evicted, \d+ moved\}"),
    # Bytes in the place of objects: said so, and no error of the printers' own.
    ("*(mmkit::Zpool*)junk", r".*Zpool \(not readable: Cannot access memory .*\)"),
    ("*(mmkit::GenPool*)junk", r".*GenPool \(not readable: Cannot access memory .*\)"),
    ("*(mmkit::ZheapPool*)junk", r".*ZheapPool \(not readable: Cannot access memory .*\)"),
]


def run_gdb(gdb, program, commands):
    with tempfile.TemporaryDirectory() as work:
        script = Path(work) / "commands"
        script.write_text("\n".join(commands) + "\n", encoding="utf-8")
        done = subprocess.run([gdb, "-nx", "-q", "-batch", "-x", str(script), str(program)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, text=True, errors="replace")
    return done.stdout


def main():
    parser = argparse.ArgumentParser()
    for name in ("gdb", "printers", "program"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    if options.gdb.endswith("NOTFOUND"):
        sys.exit("printers: no gdb here; scripts/setup.sh --test installs it")

    commands = ["set confirm off", "set width 0", "set print pretty off", "set print elements 200",
                f"source {options.printers}", "break look", "run", "up"]
    for variable, _ in SHOWN:
        commands += [f"echo \\n@{variable}: ", f"print {variable}"]
    commands += ["echo \\n@raw: ", "print/r busy", "kill"]
    output = run_gdb(options.gdb, options.program, commands)

    found = dict(re.findall(r"^@(.*?): ?\$\d+ = (.*)$", output, flags=re.MULTILINE))
    failures = []
    for variable, wanted in SHOWN:
        if not re.fullmatch(wanted, found.get(variable, "")):
            failures.append(f"{variable}: {found.get(variable, 'not printed')}\n    wanted: {wanted}")
    if "code_ = mmkit::Errc::busy" not in found.get("raw", ""):
        failures.append(f"print/r does not show the members: {found.get('raw')}")
    if "Traceback" in output or "Python Exception" in output:
        failures.append("a printer failed")
    if failures:
        print(output)
        sys.exit("printers: " + "\nprinters: ".join(failures))
    print(f"printers: {len(SHOWN)} values shown as they should be")


if __name__ == "__main__":
    main()
