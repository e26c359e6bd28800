#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves that site_pages.py finds dead links and gives headings and links the labels it says."""
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import site_pages  # noqa: E402


def pages_of(files):
    """Page by document, and the faults, of a tree with these files."""
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        site = site_pages.Site(root)
        return {document: site.page(document) for document in site.texts}, site.faults


def faults_of(line):
    """What is wrong with a line of docs/a.md."""
    return pages_of({"README.md": "# r\n", "docs/a.md": "# A\n\n" + line + "\n", "docs/b.md": "# B\n\n## The `x` part\n## C, d\n## C, d\n",
                     "src/s.cpp": ""})[1]


class Links(unittest.TestCase):
    def test_live_links_pass(self):
        for line in ("[x](b.md)", "[x](b.md#the-x-part)", "[x](b.md#c-d-1)", "[x](#a)", "[x](../README.md)", "[x](../src/s.cpp)",
                     "[x](../src)", "[x](https://example.org/none#x)", "`[x](none.md)`", "```\n[x](none.md)\n```", "![x](b.md)"):
            with self.subTest(line):
                self.assertEqual(faults_of(line), [])

    def test_dead_links_are_named_with_their_line(self):
        for line in ("[x](c.md)", "[x](b.md#the-y-part)", "[x](b.md#c-d-2)", "[x](#b)", "[x](../../README.md)", "[`x`](../src/t.cpp)",
                     "![x](images/none.svg)", "fine: [x](b.md), [not](c.md)", "`code` [x](c.md) `code`"):
            with self.subTest(line):
                faults = faults_of(line)
                self.assertEqual(len(faults), 1)
                self.assertTrue(faults[0].startswith("docs/a.md:3: "), faults)


class Pages(unittest.TestCase):
    def test_headings_have_labels_and_links_go_there(self):
        pages, _ = pages_of({"README.md": "# r\n[b](docs/t/b.md) [c](docs/t/b.md#c-d)\n", "docs/t/b.md": "# `B`\n\n## C, `d`\n[r](../../README.md)\n"})
        self.assertEqual(pages["README.md"], "# r {#mainpage}\n[b](@ref page-t-b) [c](@ref page-t-b-c-d)\n")
        self.assertEqual(pages["docs/t/b.md"], "# B {#page-t-b}\n\n## C, `d` {#page-t-b-c-d}\n[r](@ref mainpage)\n")

    def test_a_link_may_go_over_the_end_of_a_line(self):
        pages, faults = pages_of({"README.md": "# r\n\na\nb [c\nd](docs/b.md) [e\nf](none.md)\ng\n", "docs/b.md": "# B\n"})
        self.assertEqual(pages["README.md"], "# r {#mainpage}\n\na\nb [c\nd](@ref page-b) e\nf\ng\n")
        self.assertEqual(faults, ["README.md:5: no file 'none.md'"])

    def test_code_is_left_alone_and_what_is_no_page_loses_its_target(self):
        pages, _ = pages_of({"README.md": "# r\n```sh\n# no heading [x](y)\n```\n[s](s.cpp), `it's`\n", "s.cpp": ""})
        self.assertEqual(pages["README.md"], "# r {#mainpage}\n```sh\n# no heading [x](y)\n```\ns, ``it's``\n")


if __name__ == "__main__":
    unittest.main()
