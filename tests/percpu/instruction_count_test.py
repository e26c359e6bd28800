#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads the sequences out of the object code: that an addition is seven instructions, that each descriptor says what the
kernel must know, that nothing is stored before the commit, and that without optimisation each sequence's sections belong
to the group of its function."""

import argparse
import pathlib
import re
import struct
import subprocess
import sys
import unittest

STRIDE = 64 * 1024 + 4096 + 64
SIGNATURE = 0x53053053
REGISTER = r"%r(?:[abcd]x|[sd]i|bp|\d+)"
NARROW = r"%(?:e(?:[abcd]x|[sd]i|bp)|r\d+d)"
BEFORE = [
    r"lea +-?0x[0-9a-f]+\(%rip\),%rax",
    rf"mov +%rax,%fs:0x8\({REGISTER}\)",
    rf"mov +%fs:0x4\({REGISTER}\),%eax",
    r"test +%eax,%eax",
    r"js +[0-9a-f]+",
    rf"imul +\$0x{STRIDE:x},%rax,%rax",
]
COPY = rf"(?:0x0)?\((?:{REGISTER},%rax,1|%rax,{REGISTER},1)\)"
# After the beginning above: what each function does, the commit last.
AFTER = {
    "add_one_in_a_loop": [rf"addq +\$0x1,{COPY}"],
    "add_value": [rf"add +{REGISTER},{COPY}"],
    "add_narrow": [rf"add +{NARROW},{COPY}"],
    "write_value": [rf"mov +{REGISTER},{COPY}"],
    "set_bits": [rf"or +{NARROW},{COPY}"],
    "keep_bits": [rf"and +{REGISTER},{COPY}"],
    "add_and_return": [rf"mov +{COPY},{REGISTER}", rf"add +{REGISTER},{REGISTER}", rf"mov +{REGISTER},{COPY}"],
    "exchange": [rf"mov +{COPY},{REGISTER}", rf"mov +{REGISTER},{COPY}"],
    "compare_and_exchange": [
        rf"mov +{COPY},{REGISTER}", rf"cmp +{REGISTER},{REGISTER}", r"jne +[0-9a-f]+", rf"mov +{REGISTER},{COPY}"],
    "push_item": [
        rf"add +{REGISTER},%rax", r"cmpl +\$0x0,\(%rax\)", r"jne +[0-9a-f]+", r"add +\$0x40,%rax", r"mov +\(%rax\),%rcx",
        r"cmp +\$0x20,%rcx", r"jae +[0-9a-f]+", rf"mov +{REGISTER},0x8\(%rax,%rcx,8\)", r"inc +%rcx",
        r"mov +%rcx,\(%rax\)"],
    "pop_item": [
        rf"xor +{NARROW},{NARROW}", rf"cmpl +\$0x0,{COPY}", r"jne +[0-9a-f]+", rf"mov +{COPY},%rcx", r"test +%rcx,%rcx",
        r"je +[0-9a-f]+", rf"lea +{COPY},{REGISTER}", rf"mov +\({REGISTER},%rcx,8\),{REGISTER}", r"dec +%rcx",
        rf"mov +%rcx,{COPY}"],
}
OPTIONS = None


def tool(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


class Program:
    """A linked program whose addresses are final."""

    def __init__(self, path):
        self.path = path
        self.instructions, self.function_of = [], {}
        function = None
        for line in tool(OPTIONS.objdump, "-d", "--no-show-raw-insn", path).splitlines():
            if heading := re.match(r"[0-9a-f]+ <(.+)>:$", line):
                function = heading[1]
            elif found := re.match(r" +([0-9a-f]+):\t(.*?) *(?:[#<].*)?$", line):
                address = int(found[1], 16)
                self.instructions.append((address, found[2]))
                self.function_of[address] = function
        self.index_of = {address: i for i, (address, _) in enumerate(self.instructions)}
        self.sections = {}
        for line in tool(OPTIONS.readelf, "-SW", path).splitlines():
            if found := re.match(r" *\[ *\d+\] (\S+) +\w+ +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", line):
                self.sections[found[1]] = tuple(int(part, 16) for part in found.groups()[1:])

    def bytes_at(self, address, size):
        for start, offset, length in self.sections.values():
            if start and start <= address and address + size <= start + length:
                with open(self.path, "rb") as file:
                    file.seek(offset + address - start)
                    return file.read(size)
        raise LookupError(hex(address))

    def descriptors(self):
        start, _, length = self.sections["__rseq_cs"]
        for address in range(start, start + length, 32):
            yield address, struct.unpack("<IIQQQ", self.bytes_at(address, 32))


class Sequences(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(OPTIONS.program)

    def sequence(self, start, length):
        """From the announcement to the commit; and the function it is in."""
        first = self.program.index_of[start] - 2
        end = next(i for i in range(first, first + 40) if self.program.instructions[i][0] == start + length)
        return self.program.function_of[start], self.program.instructions[first:end]

    def test_each_function_has_its_instructions_and_no_more(self):
        found = {}
        for _, (_, _, start, length, _) in self.program.descriptors():
            function, instructions = self.sequence(start, length)
            found.setdefault(function, []).append(instructions)
        for function, after in AFTER.items():
            with self.subTest(function):
                self.assertIn(function, found)
                for instructions in found[function]:
                    text = [instruction for _, instruction in instructions]
                    self.assertEqual(len(text), len(BEFORE) + len(after), text)
                    for instruction, expected in zip(text, [*BEFORE, *after]):
                        self.assertRegex(instruction, f"^{expected}$", text)

    def test_an_addition_is_seven_instructions(self):
        for _, (_, _, start, length, _) in self.program.descriptors():
            function, instructions = self.sequence(start, length)
            if function.startswith("add_") and "return" not in function:
                self.assertEqual(len(instructions), 7, instructions)

    def test_descriptors_say_what_the_kernel_must_know(self):
        descriptors = list(self.program.descriptors())
        self.assertGreaterEqual(len(descriptors), len(AFTER))
        for address, (version, flags, start, length, abort) in descriptors:
            with self.subTest(hex(address)):
                self.assertEqual((address % 32, version, flags), (0, 0, 0))
                function, instructions = self.sequence(start, length)
                # Announces itself and no other one.
                announce, mnemonic = instructions[0]
                after_announce = instructions[1][0]
                distance = int(re.search(r"(-?0x[0-9a-f]+)\(%rip\)", mnemonic)[1], 16)
                self.assertEqual((after_announce + distance) % 2**64, address)
                # The abort handler lies outside, behind the signature, and goes back to the top.
                self.assertFalse(start <= abort < start + length)
                self.assertEqual(struct.unpack("<I", self.program.bytes_at(abort - 4, 4))[0], SIGNATURE)
                code = self.program.bytes_at(abort, 5)
                target = abort + 5 + struct.unpack("<i", code[1:])[0] if code[0] == 0xE9 else abort + 2 + code[1] - 256
                self.assertIn(code[0], (0xE9, 0xEB))
                self.assertEqual(target, announce, function)

    def test_only_the_commit_can_be_seen_by_others(self):
        for _, (_, _, start, length, _) in self.program.descriptors():
            function, instructions = self.sequence(start, length)
            for address, instruction in instructions[2:-1]:
                self.assertNotRegex(instruction, r"call|syscall|lock|push|pop", function)
                stores = re.search(r"^(?!cmp|test|lea)\w+ +.*,[^%]*\([^)]*\)$", instruction)
                above_the_top = function == "push_item" and "0x8(%rax,%rcx,8)" in instruction
                self.assertFalse(stores and not above_the_top, f"{function}: {instruction}")


class Groups(unittest.TestCase):
    def test_without_optimisation_sections_belong_to_their_functions_group(self):
        groups, group = {}, None
        for line in tool(OPTIONS.readelf, "-gW", OPTIONS.object).splitlines():
            if found := re.search(r"group section \[ *\d+\] `\.group' \[(.+)\] contains", line):
                group = groups.setdefault(found[1], set())
            elif found := re.match(r" +\[ *\d+\] +(\S+)", line):
                group.add(found[1].removeprefix(".rela"))
        sequences = {name: parts for name, parts in groups.items() if "__rseq_cs" in parts}
        self.assertTrue(any("count" in name for name in sequences), groups.keys())
        for name, parts in sequences.items():
            self.assertIn("__rseq_abort", parts, name)
            self.assertTrue(any(part.startswith(".text") for part in parts), name)
        flags = re.findall(r" (__rseq_cs|__rseq_abort) +PROGBITS +(?:[0-9a-f]+ +){4}(\w+)",
                           tool(OPTIONS.readelf, "-SW", OPTIONS.object))
        grouped = [name for name, letters in flags if "G" in letters]
        self.assertEqual(grouped.count("__rseq_cs"), len(sequences))
        self.assertEqual(grouped.count("__rseq_abort"), len(sequences))
        for name, letters in flags:
            self.assertEqual("X" in letters, name == "__rseq_abort", (name, letters))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True, help="optimised, not position independent")
    parser.add_argument("--object", required=True, help="not optimised")
    parser.add_argument("--objdump", required=True)
    parser.add_argument("--readelf", required=True)
    OPTIONS = parser.parse_args()
    unittest.main(argv=sys.argv[:1], verbosity=1)
