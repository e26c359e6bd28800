#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves that doc_snippets.py finds the blocks of a document, wraps them as it says, and catches code that is wrong."""
import shutil
import tempfile
import types
import unittest
from pathlib import Path

import doc_snippets

COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++-14")


def document(*lines):
    return "\n".join(lines) + "\n"


def complaint_about(text):
    """What is said about the one snippet of a document, compiled against an empty library."""
    (snippet,) = doc_snippets.snippets_of("d.md", text)
    with tempfile.TemporaryDirectory() as work:
        header = Path(work) / "mmkit/mmkit.hpp"
        header.parent.mkdir()
        header.write_text("#pragma once\n", encoding="utf-8")
        options = types.SimpleNamespace(work=work, include=work, compiler=COMPILER, define="", flags="", library="-lm")
        return doc_snippets.try_snippet(snippet, 0, options)


class Extraction(unittest.TestCase):
    def test_only_cpp_blocks_count_and_keep_their_line(self):
        text = document("# d", "```sh", "ls", "```", "", "```cpp", "int a = 1;", "```", "```", "x", "```")
        self.assertEqual([(s.line, s.kind) for s in doc_snippets.snippets_of("d.md", text)], [(6, "body")])

    def test_a_block_with_main_is_a_program_that_is_run(self):
        (snippet,) = doc_snippets.snippets_of("d.md", document("```cpp", "int main() {}", "```"))
        self.assertEqual((snippet.kind, snippet.run), ("program", True))

    def test_a_mark_holds_for_its_own_block_only(self):
        text = document("<!-- snippet: skip of the kernel -->", "```cpp", "a", "```", "```cpp", "int b;", "```")
        self.assertEqual([s.line for s in doc_snippets.snippets_of("d.md", text)], [5])

    def test_a_mark_with_text_after_it_does_not_reach_the_block(self):
        text = document("<!-- snippet: skip of the kernel -->", "words", "```cpp", "int b;", "```")
        self.assertEqual(len(doc_snippets.snippets_of("d.md", text)), 1)

    def test_bad_marks_are_refused(self):
        for mark in ("skip", "bodi", "body with: int a", "no-run"):
            with self.subTest(mark), self.assertRaises(doc_snippets.BadMark):
                doc_snippets.snippets_of("d.md", document(f"<!-- snippet: {mark} -->", "```cpp", "int b;", "```"))

    def test_a_block_without_end_is_refused(self):
        with self.assertRaises(doc_snippets.BadMark):
            doc_snippets.snippets_of("d.md", document("```cpp", "int b;"))


class Compilation(unittest.TestCase):
    def test_right_code_passes(self):
        for text in (
                document("```cpp", "#include <vector>", "", "std::vector<int> v;", "v.push_back(1);", "```"),
                document("<!-- snippet: body given: int& a -->", "```cpp", "a += 1;", "```"),
                document("<!-- snippet: namespace -->", "```cpp", "#include <string>", "struct S { std::string s; };", "```"),
                document("```cpp", "int main() { return 0; }", "```")):
            with self.subTest(text):
                self.assertEqual(complaint_about(text), "")

    def test_wrong_code_is_named_with_its_place_in_the_document(self):
        for line, text in (
                ("d.md:3", document("```cpp", "int a = 1;", "int b = c;", "```")),
                ("d.md:3", document("<!-- snippet: namespace -->", "```cpp", "a += 1;", "```")),
                ("d.md:1", document("```cpp", "int main() { return 3; }", "```"))):
            with self.subTest(text):
                self.assertIn(line, complaint_about(text))


if __name__ == "__main__":
    unittest.main()
