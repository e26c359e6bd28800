#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""site_pages.py ROOT [OUT] - looks at every link in the documents of the tree ROOT, and makes the pages of the site from them.

A link within the tree must lead to a file that is there, and its anchor to a heading of that document, by the name that GitHub gives it.
Exit code 1 and a line each where one does not.

With OUT, each document is written there as a page for Doxygen 1.9, whose anchors are its own and the same for all documents: headings
get labels that begin with the page's name, links go to labels, and a link to what is no page of the site loses its target. A line stays a line.
"""
import posixpath
import re
import sys
from pathlib import Path

FENCE = re.compile(r"^\s*```")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])+)\]\(([^()\s]+)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^()\s]+)\)")
CODE = re.compile(r"(?<!`)`[^`]+`(?!`)")
ELSEWHERE = re.compile(r"^[a-z]+:")


def documents_of(root):
    """Every document of the site, as paths from the root."""
    found = [root / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md")]
    for folder in ("docs", "bench"):
        found += sorted((root / folder).rglob("*.md"))
    return [path.relative_to(root).as_posix() for path in found if path.is_file()]


def page_of(document):
    """The name of a document's page: bench/data/README.md is bench-data."""
    if document == "README.md":
        return "mainpage"
    path = document.removeprefix("docs/").removesuffix(".md").removesuffix("/README")
    return "page-" + path.replace("/", "-").lower()


def anchor_of(title):
    """The anchor of a heading: lower case, without punctuation, hyphens for spaces."""
    plain = LINK.sub(r"\1", title).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def lines_of(text):
    """Each line with whether it is text of the document, not code."""
    in_code = False
    for line in text.split("\n"):
        is_fence = FENCE.match(line) is not None
        yield line, not (in_code or is_fence)
        in_code ^= is_fence


def headings_of(text):
    """Level, title and anchor of each heading; a second one of the same name gets a number, as on GitHub."""
    seen, found = {}, []
    for line, is_text in lines_of(text):
        match = HEADING.match(line) if is_text else None
        if match:
            anchor = anchor_of(match.group(2))
            count = seen[anchor] = seen.get(anchor, -1) + 1
            found.append((match.group(1), match.group(2), f"{anchor}-{count}" if count else anchor))
    return found


class Site:
    def __init__(self, root):
        self.root = Path(root)
        self.texts = {name: (self.root / name).read_text(encoding="utf-8") for name in documents_of(self.root)}
        self.headings = {name: headings_of(text) for name, text in self.texts.items()}
        self.faults = []

    def label(self, document, anchor):
        """What a place is called on the site: the first heading is the page."""
        headings = self.headings[document]
        if not anchor or (headings and anchor == headings[0][2]):
            return page_of(document)
        return f"{page_of(document)}-{anchor}"

    def link(self, document, number, text, target):
        """A link as the site has it. What is wrong with it is noted."""
        if ELSEWHERE.match(target):
            return f"[{text}]({target})"
        file, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(document), file)) if file else document
        if path.startswith("../") or not (self.root / path).exists():
            self.faults.append(f"{document}:{number}: no file '{target}'")
        elif anchor and path in self.texts and anchor not in (h[2] for h in self.headings[path]):
            self.faults.append(f"{document}:{number}: no heading '#{anchor}' in {path}")
        elif path in self.texts:
            return f"[{text}](@ref {self.label(path, anchor)})"
        return text

    def paragraph(self, document, first_line, text):
        """Some lines of a document as the site has them; a link or code may go over the end of a line."""
        code = [match.span() for match in CODE.finditer(text)]

        def replace(match):
            if any(begin < match.start() < end for begin, end in code):
                return match.group(0)
            return self.link(document, first_line + text.count("\n", 0, match.start()), *match.groups())

        for match in IMAGE.finditer(text):
            self.link(document, first_line + text.count("\n", 0, match.start()), "", match.group(1))
        # To Doxygen a single quote would end the code.
        return CODE.sub(lambda m: f"`{m.group(0)}`" if "'" in m.group(0) else m.group(0), LINK.sub(replace, text))

    def page(self, document):
        """The text of a document's page; links are looked at meanwhile."""
        headings, done, waiting = iter(self.headings[document]), [], []
        for line, is_text in [*lines_of(self.texts[document]), ("", False)]:
            is_heading = is_text and HEADING.match(line)
            if is_text and line.strip() and not is_heading:
                waiting.append(line)
                continue
            if waiting:
                done += self.paragraph(document, len(done) + 1, "\n".join(waiting)).split("\n")
                waiting = []
            if is_heading:
                level, title, anchor = next(headings)
                title = title.replace("`", "") if level == "#" else title  # the list of pages shows no code
                line = f"{level} {self.paragraph(document, len(done) + 1, title)} {{#{self.label(document, anchor)}}}"
            done.append(line)
        return "\n".join(done[:-1])


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: {sys.argv[0]} ROOT [OUT]")
    site = Site(sys.argv[1])
    pages = {page_of(document): site.page(document) for document in site.texts}
    if len(sys.argv) == 3:
        out = Path(sys.argv[2])
        out.mkdir(parents=True, exist_ok=True)
        for stale in out.glob("*.md"):
            stale.unlink()
        for name, text in pages.items():
            (out / f"{name}.md").write_text(text, encoding="utf-8")
    print("".join(fault + "\n" for fault in site.faults), end="")
    print(f"site: {len(pages)} documents, {len(site.faults)} dead links")
    sys.exit(1 if site.faults or not pages else 0)


if __name__ == "__main__":
    main()
