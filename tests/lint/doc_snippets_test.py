#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves that doc_snippets.py finds the blocks of a document, wraps them as it says, and catches code that is wrong."""
import shutil
import tempfile
import types
import unittest
from pathlib import Path

import doc_snippets

PROGRAM = ("```cpp", "int main() {}", "```")
PRINTS_A = ("```cpp", "#include <cstdio>", 'int main() { std::puts("a"); }', "```", "", "Prints:", "")
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
        for mark in ("skip", "bodi", "body with: int a", "no-run", "link m"):
            with self.subTest(mark), self.assertRaises(doc_snippets.BadMark):
                doc_snippets.snippets_of("d.md", document(f"<!-- snippet: {mark} -->", "```cpp", "int b;", "```"))

    def test_a_program_may_name_libraries_by_their_plain_names(self):
        (snippet,) = doc_snippets.snippets_of("d.md", document("<!-- snippet: link m dl -->", *PROGRAM))
        self.assertEqual((snippet.libraries, snippet.run), (["m", "dl"], True))
        for mark in ("link", "link -lm", "link m; rm"):
            with self.subTest(mark), self.assertRaises(doc_snippets.BadMark):
                doc_snippets.snippets_of("d.md", document(f"<!-- snippet: {mark} -->", *PROGRAM))

    def test_what_is_printed_belongs_to_the_program_before_it(self):
        output = ("", "Prints:", "", "```text", "a", "", "b", "```")
        text = document(*PROGRAM, *output, *PROGRAM, "```text", "c", "```", "words", *PROGRAM)
        self.assertEqual([s.prints for s in doc_snippets.snippets_of("d.md", text)], [["a", "", "b"], None, None])

    def test_a_promise_of_output_that_is_not_kept_is_refused(self):
        output = ("```text", "a", "```")
        for what, lines in (
                ("no block", (*PROGRAM, "Prints:")),
                ("words between", (*PROGRAM, "Prints:", "words", *output)),
                ("a block of another language", (*PROGRAM, "Prints:", "```sh", "a", "```")),
                ("twice", (*PROGRAM, "Prints:", *output, "Prints:", *output)),
                ("no program", ("Prints:", *output)),
                ("not the block before", (*PROGRAM, "words", "Prints:", *output)),
                ("a body", ("```cpp", "int a;", "```", "Prints:", *output)),
                ("a program that is not run", ("<!-- snippet: no-run -->", *PROGRAM, "Prints:", *output))):
            with self.subTest(what), self.assertRaises(doc_snippets.BadMark):
                doc_snippets.snippets_of("d.md", document(*lines))

    def test_a_block_without_end_is_refused(self):
        with self.assertRaises(doc_snippets.BadMark):
            doc_snippets.snippets_of("d.md", document("```cpp", "int b;"))


class Output(unittest.TestCase):
    def test_equal_text_passes(self):
        for expected, printed in (([], ""), (["a"], "a\n"), (["a"], "a"), (["a", "", "b."], "a\n\nb.\n")):
            with self.subTest(printed):
                self.assertEqual(doc_snippets.difference(expected, printed), "")

    def test_three_dots_stand_for_text_in_their_line_or_for_lines(self):
        for expected, printed in ((["a ... c"], "a b c\n"), (["..."], "a\nb\n"), (["..."], ""),
                                  (["a", "...", "c"], "a\nx\ny\nc\n"), (["a", "...", "c"], "a\nc\n"), (["took ... ms"], "took  ms\n")):
            with self.subTest(printed):
                self.assertEqual(doc_snippets.difference(expected, printed), "")

    def test_any_other_difference_is_shown(self):
        for expected, printed in (([], "a\n"), (["a"], ""), (["a"], "b\n"), (["a"], "a\nb\n"), (["a"], "a \n"),
                                  (["a.b"], "axb\n"), (["a ... c"], "a\nc\n"), (["a", "...", "c"], "a\nb\n"), (["a", "..."], "b\na\n")):
            with self.subTest(printed):
                self.assertNotEqual(doc_snippets.difference(expected, printed), "")


class Compilation(unittest.TestCase):
    def test_right_code_passes(self):
        for text in (
                document("```cpp", "#include <vector>", "", "std::vector<int> v;", "v.push_back(1);", "```"),
                document("<!-- snippet: body given: int& a -->", "```cpp", "a += 1;", "```"),
                document("<!-- snippet: namespace -->", "```cpp", "#include <string>", "struct S { std::string s; };", "```"),
                document("```cpp", "int main() { return 0; }", "```"),
                document(*PRINTS_A, "```text", "a", "```")):
            with self.subTest(text):
                self.assertEqual(complaint_about(text), "")

    def test_wrong_code_is_named_with_its_place_in_the_document(self):
        for line, text in (
                ("d.md:3", document("```cpp", "int a = 1;", "int b = c;", "```")),
                ("d.md:3", document("<!-- snippet: namespace -->", "```cpp", "a += 1;", "```")),
                ("d.md:1", document("```cpp", "int main() { return 3; }", "```")),
                ("program:  a", document(*PRINTS_A, "```text", "b", "```")),
                ("does not compile", document("<!-- snippet: link no_such_library_at_all -->", *PROGRAM))):
            with self.subTest(text):
                self.assertIn(line, complaint_about(text))


if __name__ == "__main__":
    unittest.main()
