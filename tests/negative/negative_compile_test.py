#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""negative_compile_test.py - proves that negative_compile.py notices a case that is not as it must be."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).with_name("negative_compile.py")
COMPILER = sys.argv.pop()

CASE = "int f(int i);\nint f(int i) {\n#if WRONG == 1\n  // expect: %s\n  %s\n#endif\n  return i;\n}\n"


def outcome(text):
    """The exit code and the words of a run over one source."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "case.cpp")
        source.write_text(text)
        run = subprocess.run([sys.executable, SCRIPT, f"--compiler={COMPILER}", source], capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr


class NegativeCompileTest(unittest.TestCase):
    def expect(self, text, code, words):
        got, said = outcome(text)
        self.assertEqual(got, code, said)
        self.assertIn(words, said)

    def test_passes_a_line_that_fails_as_expected(self):
        self.expect(CASE % ("(undeclared|not declared)", "i = nothing_of_that_name;"), 0, "1 wrong lines")

    def test_fails_when_the_wrong_line_compiles(self):
        self.expect(CASE % ("undeclared", "i = 2;"), 1, "compiles, although lines 4 to 5 must not")

    def test_fails_when_the_error_is_another(self):
        self.expect(CASE % ("ignoring return", "i = nothing_of_that_name;"), 1, "fails, but not by")

    def test_fails_when_the_error_is_elsewhere(self):
        text = CASE % ("(undeclared|not declared)", "#define ELSEWHERE 1")
        text += "#ifdef ELSEWHERE\nint g = nothing_of_that_name;\n#endif\n"
        self.expect(text, 1, "fails, but not by")

    def test_fails_when_the_source_without_wrong_lines_does_not_compile(self):
        text = CASE % ("(undeclared|not declared)", "i = nothing_of_that_name;") + "int h = no_name_either;\n"
        self.expect(text, 1, "does not compile without a wrong line")

    def test_fails_when_the_source_warns_without_wrong_lines(self):
        text = CASE % ("(undeclared|not declared)", "i = nothing_of_that_name;") + "bool g(int a, unsigned b);\n"
        text += "bool g(int a, unsigned b) { return a < b; }\n"
        self.expect(text, 1, "does not compile without a wrong line")

    def test_refuses_a_source_without_cases(self):
        self.expect("int i;\n", 2, "no case")

    def test_refuses_a_case_without_an_expectation(self):
        self.expect("#if WRONG == 1\nint i\n#endif\n", 2, "a case has the next number and an expectation")

    def test_refuses_a_case_out_of_turn(self):
        self.expect("#if WRONG == 2\n// expect: x\nint i\n#endif\n", 2, "a case has the next number")


if __name__ == "__main__":
    unittest.main()
