#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""annotations_test.py --source DIR --library FILE --annotated PROGRAM [--gdb GDB] [--valgrind VALGRIND] [--readelf READELF]

Probes and requests to valgrind: there when they are asked for, and not a byte of them when they are not.

  absent     the library as it is configured by default has neither notes of probes nor valgrind's instructions
  present    the annotated program has a note for each MMKIT_PROBE of the sources, and the document lists the same
  met        gdb stops at each, and sees its first argument
  seen       valgrind finds nothing in the sound run, and one use after free in each of the others
"""
import argparse
import re
import subprocess
import sys
from pathlib import Path

# What valgrind's client requests are made of on x86-64: four rotations that do nothing, and an exchange of a register with itself.
VALGRIND_REQUEST = bytes.fromhex("48c1c703 48c1c70d 48c1c73d 48c1c733")
failures = []


def expect(condition, message):
    if not condition:
        failures.append(message)


def output_of(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, text=True,
                          errors="replace")
    return done.returncode, done.stdout


def check_absent(library):
    contents = library.read_bytes()
    expect(b".note.stapsdt" not in contents and b"stapsdt" not in contents, f"{library} has probes that nobody asked for")
    expect(VALGRIND_REQUEST not in contents, f"{library} has requests to valgrind that nobody asked for")


def probes_of_sources(source):
    return {name for file in (source / "src").rglob("*.cpp") for name in re.findall(r"MMKIT_PROBE\((\w+)", file.read_text(encoding="utf-8"))}


def check_present(source, annotated, readelf):
    wanted = probes_of_sources(source)
    expect(len(wanted) >= 8, f"only {len(wanted)} probes in the sources; is this the project's root?")
    _, notes = output_of(readelf, "-n", str(annotated))
    found = set(re.findall(r"Provider: mmkit\s+Name: (\w+)", notes))
    expect(found == wanted, f"probes of the program: {sorted(found)}; of the sources: {sorted(wanted)}")
    document = (source / "docs/debugging.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", document, flags=re.MULTILINE))
    expect(listed == wanted, f"docs/debugging.md lists {sorted(listed)}; the sources have {sorted(wanted)}")
    expect(VALGRIND_REQUEST in annotated.read_bytes(), "the annotated program makes no requests to valgrind")
    return sorted(wanted)


def check_met(gdb, annotated, probes):
    commands = ["-ex", "set confirm off"]
    for probe in probes:
        commands += ["-ex", f"tbreak -probe-stap mmkit:{probe}"]
    commands += ["-ex", "run"]
    for _ in probes:
        commands += ["-ex", "info symbol $pc", "-ex", 'printf "first argument %lu\\n", (unsigned long)$_probe_arg0', "-ex", "continue"]
    _, text = output_of(gdb, "-nx", "-q", "-batch", *commands, str(annotated))
    stops = len(re.findall(r"^Temporary breakpoint \d+, ", text, flags=re.MULTILINE))
    arguments = [int(value) for value in re.findall(r"^first argument (\d+)$", text, flags=re.MULTILINE)]
    expect(stops == len(probes), f"gdb met {stops} of {len(probes)} probes:\n{text}")
    expect(len(arguments) >= len(probes) and 0 not in arguments[:len(probes)], f"gdb saw the arguments {arguments}:\n{text}")


def check_seen(valgrind, annotated):
    for wrong in ("", "gen_pool", "page"):
        code, text = output_of(valgrind, "--quiet", "--error-exitcode=99", "--leak-check=no", str(annotated), *([wrong] if wrong else []))
        if wrong:
            expect(code == 99 and "Invalid read of size 1" in text and "read_byte" in text, f"valgrind let '{wrong}' pass ({code}):\n{text}")
        else:
            expect(code == 0, f"valgrind has something against a sound run ({code}):\n{text}")


def main():
    parser = argparse.ArgumentParser()
    for name in ("source", "library", "annotated", "gdb", "valgrind", "readelf"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    for tool in ("gdb", "valgrind", "readelf"):
        if getattr(options, tool).endswith("NOTFOUND"):
            sys.exit(f"annotations: no {tool} here; scripts/setup.sh installs it")
    annotated = Path(options.annotated)
    check_absent(Path(options.library))
    probes = check_present(Path(options.source), annotated, options.readelf)
    check_met(options.gdb, annotated, probes)
    check_seen(options.valgrind, annotated)
    if failures:
        sys.exit("annotations: " + "\nannotations: ".join(failures))
    print(f"annotations: {len(probes)} probes met, 2 wrong reads seen, nothing in the library as it is")


if __name__ == "__main__":
    main()
