#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""layers.py ROOT - enforces the layers and the form of every file of the library.

Reads the #include lines of include/mmkit and src; no compiler is involved, so an include under an #if counts as well.
Rules, by the name a violation is printed with:

  layer       a file includes only layers that MAY_INCLUDE allows its own; testing is for tests and benches alone
  door        include/mmkit/mmkit.hpp opens every part for users; nothing inside the library includes it
  forbidden   headers that are costly, throw, or that the oldest supported compiler lacks
  system      a public header includes no header of the operating system but those that are cheap and allowed
  unknown     an include of ours that names no file
  own-first   a .cpp includes its own header first
  opening     a file begins with the licence line; in a header an opening comment follows that names it: `// Name - what it is.`
  pragma      a header has #pragma once
  unlisted    a .cpp of src stands in the top CMakeLists.txt
"""
import re
import sys
from pathlib import Path

# The table of docs/architecture.md. A layer always includes itself.
MAY_INCLUDE = {
    "base": set(),
    "page": {"base"},
    "percpu": {"base", "page"},
    "genalloc": {"base"},
    "zpool": {"base", "page", "percpu"},
    "testing": {"base", "page", "percpu", "genalloc", "zpool"},
}
# Nowhere in the library: not in the oldest compiler's library, or for programs only.
FORBIDDEN_EVERYWHERE = {"format", "ranges", "source_location", "print", "expected", "iostream", "gtest/", "gmock/",
                        "benchmark/", "CLI/", "nlohmann/", "lz4", "zstd", "jemalloc/", "boost/", "rapidcheck"}
# Not in a public header, whose cost every user pays. Locks are base/mutex.hpp's.
FORBIDDEN_IN_HEADERS = FORBIDDEN_EVERYWHERE | {"fmt/", "ostream", "istream", "sstream", "fstream", "iomanip", "regex",
                                               "filesystem", "locale", "mutex", "shared_mutex", "condition_variable",
                                               "thread", "future", "map", "unordered_map", "set", "unordered_set", "deque"}
# Test doubles may use what a test uses, save what no supported compiler is sure to have.
FORBIDDEN_IN_TESTING = {"format", "ranges", "source_location", "print", "expected"}
# The opt-in header that prints mmkit's types with fmt.
FMT_HEADER = "include/mmkit/fmt.hpp"
# Headers of the operating system that a public header may use: locks, the CPU number, and glibc's flag that says whether a
# second thread was ever started. The others belong in src, one subject a file.
SYSTEM_ALLOWED = {"pthread.h", "sched.h", "sys/single_threaded.h"}
SYSTEM = re.compile(r"^(sys/|linux/|asm/|bits/|unistd\.h|fcntl\.h|signal\.h|dlfcn\.h|pthread\.h|sched\.h|poll\.h)")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
OPENING = re.compile(r"^// \S.* - \S")


def includes_of(text):
    """(line number, quoted?, spelling) of each #include line."""
    for number, line in enumerate(text.splitlines(), start=1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def layer_of(path):
    """The layer of a path relative to the root: a room's name, a door's name, "all", or None outside the library."""
    parts = Path(path).parts
    if parts[:2] == ("include", "mmkit"):
        rest = parts[2:]
    elif parts[:1] == ("src",):
        rest = parts[1:]
    else:
        return None
    if len(rest) > 1:
        return rest[0]
    stem = Path(rest[0]).stem
    return stem if stem in MAY_INCLUDE else "all"


def resolve(root, including, quoted, spelling):
    """The file of ours that an include means, relative to the root; None for somebody else's header."""
    candidates = []
    if quoted:
        candidates += [including.parent / spelling, root / "src" / spelling]
    candidates.append(root / "include" / spelling)
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve().relative_to(root.resolve())
    return None


def is_banned(spelling, banned):
    return any(spelling == name or spelling == name + ".h" or (name.endswith("/") and spelling.startswith(name))
               or (name == "rapidcheck" and spelling.startswith(name)) for name in banned)


def check_include(root, path, number, quoted, spelling):
    """Yields (rule, line, message) for one #include line."""
    relative = path.relative_to(root).as_posix()
    own = layer_of(relative)
    public = relative.startswith("include/")
    target = resolve(root, path, quoted, spelling)
    if target is None:
        if quoted or spelling.startswith("mmkit/"):
            yield "unknown", number, f"'{spelling}' names no file of the library"
        if own == "testing":
            banned = FORBIDDEN_IN_TESTING
        else:
            banned = FORBIDDEN_IN_HEADERS if public else FORBIDDEN_EVERYWHERE
        if is_banned(spelling, banned) and not (relative == FMT_HEADER and spelling.startswith("fmt/")):
            yield "forbidden", number, f"<{spelling}> is not for {'public headers' if public else 'the library'}"
        if public and own != "testing" and SYSTEM.match(spelling) and spelling not in SYSTEM_ALLOWED:
            yield "system", number, f"<{spelling}> belongs behind a file of src"
        return
    other = layer_of(target)
    if other is None or own == "all":
        # mmkit.hpp and fmt.hpp stand above the layers; they may open any part but the doubles.
        if other == "testing":
            yield "layer", number, f"{relative} opens the parts for users; '{spelling}' is for tests"
        return
    if other == "all":
        yield "door", number, f"'{spelling}' opens everything; include the part that is needed"
    elif own not in MAY_INCLUDE:
        yield "layer", number, f"'{own}' is not a layer of the table"
    elif other != own and other not in MAY_INCLUDE[own]:
        yield "layer", number, f"{own} may not include {other} ('{spelling}')"


def check_form(root, path, text):
    """Yields (rule, line, message) for the shape of a file."""
    lines = text.splitlines()
    if not lines or lines[0] != "// SPDX-License-Identifier: MIT":
        yield "opening", 1, "the first line is not '// SPDX-License-Identifier: MIT'"
    elif path.suffix == ".hpp" and (len(lines) < 3 or lines[1] != "//" or not OPENING.match(lines[2])):
        yield "opening", 3, "no opening comment: '//' and then '// Name - what it is.'"
    if path.suffix == ".hpp":
        if "#pragma once" not in lines:
            yield "pragma", 1, "no #pragma once"
        return
    spelled = path.relative_to(root / "src").with_suffix(".hpp").as_posix()
    first = next(iter(includes_of(text)), None)
    for header, spellings in ((root / "include/mmkit" / spelled, {f"mmkit/{spelled}"}),
                              (root / "src" / spelled, {spelled, Path(spelled).name})):
        if header.is_file() and (first is None or first[2] not in spellings):
            yield "own-first", first[0] if first else 1, f"its own header, {min(spellings)}, is not its first include"
            break


def check_tree(root):
    """All violations below `root`, as (file, line, rule, message)."""
    root = Path(root)
    found = []
    files = sorted(p for top in ("include/mmkit", "src") for p in (root / top).rglob("*") if p.suffix in (".hpp", ".cpp"))
    cmake = (root / "CMakeLists.txt").read_text(encoding="utf-8") if (root / "CMakeLists.txt").is_file() else ""
    listed = set(re.findall(r"\bsrc/[\w/]+\.cpp\b", cmake))
    for path in files:
        relative = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        violations = list(check_form(root, path, text))
        for number, quoted, spelling in includes_of(text):
            violations += check_include(root, path, number, quoted, spelling)
        if path.suffix == ".cpp" and relative not in listed:
            violations.append(("unlisted", 1, "not in MMKIT_SOURCES of CMakeLists.txt: it is not compiled"))
        found += [(relative, line, rule, message) for rule, line, message in violations]
    return files, found


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files, found = check_tree(sys.argv[1])
    for file, line, rule, message in found:
        print(f"{file}:{line}: [{rule}] {message}")
    print(f"layers: {len(files)} files, {len(found)} violations")
    if not files:
        sys.exit("layers: no file was read; is this the project's root?")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
