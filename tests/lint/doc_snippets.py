#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""doc_snippets.py - compiles every ```cpp block of README.md and docs/*.md against the library, and runs the programs.

A block is one of:
  program   it contains `int main`: compiled, linked, run; it must end with 0
  body      otherwise: its leading #include lines stay outside, the rest becomes the body of a function; compiled only

A comment in the line before the block says otherwise:
  <!-- snippet: body given: mmkit::Zpool& pool, mmkit::Handle handle -->   a body with parameters in scope
  <!-- snippet: namespace -->      the rest stands at namespace scope: types and functions
  <!-- snippet: no-run -->         a program that is only built
  <!-- snippet: link lz4 zstd -->  a program that is linked with these libraries too
  <!-- snippet: skip <reason> -->  not code of ours; the reason is required

A ```text block after a program, with the line `Prints:` and nothing else between the two, is what the program prints, to the
letter. In it `...` stands for any text within its line; a line that is only `...` stands for any lines, also none.
"""
import argparse
import concurrent.futures
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

MARK = re.compile(r"^\s*<!--\s*snippet:\s*(.*?)\s*-->\s*$")
FENCE = re.compile(r"^(\s*)```\s*(\w*)")
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# A fragment shows a use, not a whole function: what it makes may stay unused, and it need not return.
FRAGMENT_WARNINGS = ["-Wno-unused-variable", "-Wno-unused-but-set-variable", "-Wno-unused-function", "-Wno-return-type"]


class BadMark(Exception):
    pass


@dataclass
class Snippet:
    file: str
    line: int  # of the fence
    kind: str  # program, body, namespace
    run: bool
    source: str
    libraries: list = field(default_factory=list)
    prints: "list | None" = None  # lines; None: not compared

    @property
    def label(self):
        return f"{self.file}:{self.line}"


def wrap(file, line, code, kind, given):
    """A translation unit whose errors are reported at their place in the document."""
    includes, rest, in_head = [], [], True
    for text in code:
        in_head = in_head and (not text.strip() or text.lstrip().startswith(("#include", "//")))
        is_include = in_head and text.lstrip().startswith("#include")
        includes.append(text if is_include else "")
        rest.append("" if is_include else text)
    head = ["#include <mmkit/mmkit.hpp>", f'#line {line + 1} "{file}"'] + includes
    if kind == "namespace":
        opening, closing = "namespace {", "}"
    else:
        opening, closing = f"[[maybe_unused]] static auto snippet({given}) {{", "}"
    return "\n".join(head + [opening, f'#line {line + 1} "{file}"'] + rest + [closing, ""])


def make_snippet(file, line, code, mark):
    """The snippet of one block, or None when it is to be skipped."""
    words = mark.split(None, 1) if mark else []
    kind, detail = (words + ["", ""])[:2]
    if kind == "skip":
        if not detail:
            raise BadMark(f"{file}:{line}: 'skip' gives no reason")
        return None
    is_program = any(re.search(r"\bint\s+main\s*\(", text) for text in code)
    if kind not in ("", "body", "namespace", "no-run", "link") or (is_program and kind in ("body", "namespace")):
        raise BadMark(f"{file}:{line}: mark '{mark}' is unknown or does not fit the block")
    if kind in ("no-run", "link") and not is_program:
        raise BadMark(f"{file}:{line}: '{kind}' is for programs")
    if kind == "link" and not re.fullmatch(r"\w[\w+-]*( \w[\w+-]*)*", detail):
        raise BadMark(f"{file}:{line}: after 'link' the names of libraries must stand")
    if is_program:
        source = f'#line {line + 1} "{file}"\n' + "\n".join(code) + "\n"
        return Snippet(file, line, "program", kind != "no-run", source, detail.split() if kind == "link" else [])
    given = detail.removeprefix("given:").strip() if detail.startswith("given:") else ""
    if detail and not given:
        raise BadMark(f"{file}:{line}: after '{kind}' only 'given: parameters' may stand")
    return Snippet(file, line, kind or "body", False, wrap(file, line, code, kind or "body", given))


def snippets_of(file, text):
    """All C++ snippets of one document."""
    found, mark, block, language, indent, start = [], "", None, "", "", 0
    last, promised = None, 0  # the snippet that ended just before; the line of a `Prints:` that waits for its block
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if block is None:
            if promised and line.strip() and (not fence or fence.group(2) != "text"):
                break
            if fence:
                indent, language, start, block = fence.group(1), fence.group(2), number, []
            elif line.strip() == "Prints:":
                if last is None or not last.run:
                    raise BadMark(f"{file}:{number}: no program that is run stands before 'Prints:'")
                promised = number
            elif line.strip():
                match = MARK.match(line)
                mark, last = match.group(1) if match else "", None
        elif fence:
            if promised:
                last.prints, promised, last = block, 0, None
            elif language in ("cpp", "c++", "cxx"):
                last = make_snippet(file, start, block, mark)
                if last:
                    found.append(last)
            else:
                last = None
            block, mark = None, ""
        else:
            block.append(line.removeprefix(indent))
    if block is not None:
        raise BadMark(f"{file}:{start}: the block has no end")
    if promised:
        raise BadMark(f"{file}:{promised}: no ```text block follows 'Prints:'")
    return found


def difference(expected, printed):
    """What differs between the lines of a document and those of a program, or an empty string."""
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split("...")) + r"\n"
    printed += "" if not printed or printed.endswith("\n") else "\n"
    if re.fullmatch(pattern, printed):
        return ""
    shown = [f"  document: {line}\n" for line in expected] + [f"  program:  {line}\n" for line in printed.splitlines()]
    return "".join(shown)


def read_documents(root):
    """Snippets of README.md and of every document below docs."""
    root = Path(root)
    files = [p for p in [root / "README.md"] if p.is_file()] + sorted((root / "docs").rglob("*.md"))
    return files, [s for p in files for s in snippets_of(p.relative_to(root).as_posix(), p.read_text(encoding="utf-8"))]


def call(command):
    # C.UTF-8 and no terminal: what a document shows must not depend on where it is run.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=240, env={**os.environ, "LC_ALL": "C.UTF-8"})
    return done.returncode, done.stdout


def try_snippet(snippet, number, options):
    """The complaint about one snippet, or an empty string."""
    base = Path(options.work) / f"snippet_{number}"
    source = base.with_suffix(".cpp")
    source.write_text(snippet.source, encoding="utf-8")
    command = [options.compiler, "-std=c++20", "-O0", "-pthread", *WARNINGS, f"-I{options.include}"]
    command += [f"-D{define}" for define in options.define.split(";") if define]
    command += shlex.split(options.flags)
    if snippet.kind == "program":
        command += [str(source), "-o", str(base), options.library, *(f"-l{name}" for name in snippet.libraries)]
    else:
        command += [*FRAGMENT_WARNINGS, "-fsyntax-only", str(source)]
    code, output = call(command)
    if code:
        return f"{snippet.label}: does not compile\n{output}"
    if snippet.run:
        code, output = call([str(base)])
        if code:
            return f"{snippet.label}: the program ends with {code}\n{output}"
        differs = "" if snippet.prints is None else difference(snippet.prints, output)
        if differs:
            return f"{snippet.label}: the program prints something else than the document says\n{differs}"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("root", "compiler", "library", "include", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--define", default="", help="definitions, separated by ';'")
    parser.add_argument("--flags", default="", help="further compiler flags")
    options = parser.parse_args()
    Path(options.work).mkdir(parents=True, exist_ok=True)
    try:
        files, snippets = read_documents(options.root)
    except BadMark as error:
        sys.exit(str(error))
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = [pool.submit(try_snippet, s, n, options) for n, s in enumerate(snippets)]
        complaints = [c for c in (job.result() for job in jobs) if c]
    print("\n".join(complaints), end="")
    programs = sum(s.kind == "program" for s in snippets)
    compared = sum(s.prints is not None for s in snippets)
    print(f"snippets: {len(files)} documents, {len(snippets)} blocks, {programs} of them programs, {compared} with what they "
          f"print, {len(complaints)} wrong")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
