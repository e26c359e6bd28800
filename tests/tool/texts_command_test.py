#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The man page and the completions say what the help says: every command and option, and no other.

Usage: texts_command_test.py --mmkit PATH --version X.Y.Z [--sanitized] [unittest arguments]
"""

import json
import os
import re
import shutil
import subprocess

from command_support import *


def commands():
    names = re.findall(r"^  (\w+) +\S", run("help").out.split("Subcommands:")[1].split("\n\n")[0], re.MULTILINE)
    assert "pack" in names and "help" in names, names
    return names


def options_of(command):
    """The option names that the help of a command shows."""
    lines = re.findall(r"^  (-\S+)", run("help", command).out, re.MULTILINE)
    return [name for line in lines for name in line.split(",")]


class Texts(CommandTest):
    def text(self, kind):
        result = run("generate", kind)
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertEqual(result.out, run("generate", kind).out)
        return result.out

    def test_it_is_not_shown(self):
        self.assertNotIn("generate", run("help").out)
        self.fails(2, "'fish' is not a text; known: man, bash, zsh", "generate", "fish")
        self.fails(2, "TEXT is required", "generate")

    def test_man_page_has_every_option(self):
        page = self.text("man")
        self.assertIn(f'.TH MMKIT 1 "" "mmkit {ARGS.version}" "User Commands"', page)
        sections = dict(re.findall(r'^\.SH "?(.+?)"?\n((?:(?!\.SH).*\n)*)', page, re.MULTILINE))
        self.assertEqual([name for name in sections if name.islower()], commands())
        for command in commands():
            self.assertIn(f"\\fBmmkit {command}\\fR", sections["SYNOPSIS"])
            text = sections[command].replace("\\-", "-")
            shown = re.findall(r"\\fB(-[-\w]+)\\fR", text)
            self.assertEqual(sorted(shown), sorted(options_of(command)), command)
        self.assertIn("\\fB129, 130, 143\\fR\nended by SIGHUP, SIGINT (Ctrl\\-C), SIGTERM", page)

    def test_man_reads_it_without_a_warning(self):
        if shutil.which("man") is None or shutil.which("groff") is None:
            self.skipTest("there is no man")
        path = self.write("mmkit.1", self.text("man").encode())
        done = subprocess.run(["man", "--warnings", "-l", path], capture_output=True, timeout=TIMEOUT_SECONDS,
                              env=clean_env({"MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b"mmkit pack [OPTIONS] PATH...", done.stdout)
        if shutil.which("mandoc"):
            done = subprocess.run(["mandoc", "-T", "lint", "-W", "error", path], capture_output=True)
            self.assertEqual((done.returncode, done.stdout), (0, b""))


class Bash(CommandTest):
    def complete(self, *words):
        """What bash offers for the last word."""
        script = self.write("mmkit.bash", run("generate", "bash").out.encode())
        program = ('source "$1" || exit 9; shift; COMP_WORDS=(mmkit "$@"); COMP_CWORD=$#; _mmkit; '
                   'for word in "${COMPREPLY[@]}"; do printf "%s\\n" "$word"; done')
        done = subprocess.run(["bash", "-u", "-c", program, "bash", script, *words], capture_output=True,
                              cwd=self.directory, timeout=TIMEOUT_SECONDS, env=clean_env())
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode().splitlines()

    def test_commands(self):
        self.assertEqual(sorted(self.complete("")), sorted(commands() + ["--help", "--version"]))
        self.assertEqual(self.complete("pa"), ["pack"])
        self.assertEqual(sorted(self.complete("help", "")), sorted(commands()))

    def test_options(self):
        for command in commands():
            self.assertEqual(sorted(self.complete(command, "-")), sorted(options_of(command)), command)
        self.assertEqual(self.complete("pack", "--li"), ["--limit"])
        self.assertEqual(self.complete("replay", "x.ops", "--html", "y", "--str"), ["--strict"])

    def test_values(self):
        drivers = [row["type"] for row in json.loads(run("drivers", "--json").out)["drivers"]]
        self.assertEqual(sorted(self.complete("pack", "-d", "")), sorted(drivers))
        self.assertEqual(self.complete("pack", "x", "--driver", "zb"), ["zbud"])
        self.assertEqual(self.complete("genpool", "-p", "first-fit-o"), ["first-fit-order-align"])
        self.assertEqual(self.complete("replay", "--format", ""), ["u16", "ops", "gpt"])
        self.assertEqual(self.complete("advise", "--codec", "z"), ["zstd"])
        self.assertEqual(self.complete("pack", "--limit", ""), [])

    def test_files(self):
        os.mkdir(self.path("folder"))
        self.write("two words.u16", b"")
        self.assertEqual(self.complete("pack", "tw"), ["two words.u16"])
        self.assertEqual(self.complete("replay", "--svg", "tw"), ["two words.u16"])
        self.assertEqual(sorted(self.complete("pack", "")), ["folder", "mmkit.bash", "two words.u16"])
        self.assertEqual(self.complete("pack", "--spill", ""), ["folder"])

    def test_it_is_registered(self):
        script = self.write("mmkit.bash", run("generate", "bash").out.encode())
        done = subprocess.run(["bash", "-c", 'source "$1"; complete -p mmkit', "bash", script], capture_output=True)
        self.assertEqual(done.stdout, b"complete -F _mmkit mmkit\n")


class Zsh(CommandTest):
    def test_every_option_is_there(self):
        text = run("generate", "zsh").out
        self.assertTrue(text.startswith("#compdef mmkit\n"))
        cases = dict(re.findall(r"^    (\w+)\)\n((?:.*\n)*?)      ;;$", text, re.MULTILINE))
        self.assertEqual(list(cases), commands())
        for command, case in cases.items():
            names = re.findall(r"^        '\*?(-[-\w]+)\[", case, re.MULTILINE)
            self.assertEqual(sorted(names), sorted(options_of(command)), command)
            self.assertEqual(case.replace("'\\''", "").count("'") % 2, 0, "quotes are closed")
        self.assertIn("'*--driver[", cases["pack"])

    def test_zsh_reads_it(self):
        if shutil.which("zsh") is None:
            self.skipTest("there is no zsh")
        path = self.write("_mmkit", run("generate", "zsh").out.encode())
        done = subprocess.run(["zsh", "-n", path], capture_output=True)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


if __name__ == "__main__":
    main()
