#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""report.py FOLDER [NOTE] - makes FOLDER/report.md and its pictures from what the benchmark programs printed.

FOLDER/NAME.txt is the output of mmkit_bench_NAME. Each comparison becomes a section with its table, as it was printed, and, where the
table has quartiles, a picture of its last measured column: a bar is the median, the line across its end goes from quartile to quartile.
FOLDER/churn.svg is shown if it is there. NOTE is a sentence for the top.
"""
import html
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

TITLE = re.compile(r"^([a-z][\w./:-]*(?: beside [\w./:-]+)?): (.+)$")
NUMBER = re.compile(r"^-?\d+(\.\d+)?$")
QUARTILES = re.compile(r"^(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)$")
# Not ours: what a bar of another colour stands for.
PEERS = ("glibc", "jemalloc", "mimalloc", "tcmalloc", "malloc", "calloc", "boost", "std::", "sets", "madvise", "atomic", "plain",
         "one shared atomic", "two atomic additions", "dense", "load, add, store")
OURS, THEIRS, SPREAD = "#0072b2", "#8a949e", "#d55e00"
LABELS, BARS, VALUES, ROW = 230, 420, 150, 22


@dataclass
class Bar:
    name: str
    median: float
    low: float
    high: float
    shown: str


@dataclass
class Section:
    name: str
    title: str
    lines: list = field(default_factory=list)

    @property
    def picture(self):
        return re.sub(r"\W+", "-", self.name) + ".svg"


def cells_of(line):
    return re.split(r"\s{2,}", line.strip())


def bars_of(lines):
    """What the last measured column is called, and its bars: of the first table with quartiles."""
    column, bars = "", []
    for line in lines:
        cells = cells_of(line)
        if "quartiles" in cells:
            if bars:
                break
            column = cells[len(cells) - 2 - cells[::-1].index("quartiles")] if cells[0] != "quartiles" else ""
            continue
        spreads = [i for i, cell in enumerate(cells) if QUARTILES.match(cell)]
        if column and spreads and spreads[-1] >= 2 and NUMBER.match(cells[spreads[-1] - 1]):
            low, high = map(float, QUARTILES.match(cells[spreads[-1]]).groups())
            shown = cells[spreads[-1] - 1]
            bars.append(Bar(cells[0], float(shown), low, high, shown))
        elif bars:
            break
    return column, bars


def draw(title, column, bars):
    """The bars as an SVG picture."""
    most = max(max(bar.high, bar.median) for bar in bars) or 1.0
    width, height = LABELS + BARS + VALUES, 52 + ROW * len(bars)

    def x(value):
        return LABELS + BARS * max(value, 0.0) / most

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
           f'<text x="10" y="18" font-weight="bold">{html.escape(title)}</text>',
           f'<text x="{LABELS}" y="36" fill="#56616c">{html.escape(column)}: median, and the range from quartile to quartile</text>']
    for i, bar in enumerate(bars):
        y = 46 + ROW * i
        colour = THEIRS if bar.name.startswith(PEERS) else OURS
        middle = y + ROW / 2 - 2
        out += [f'<text x="{LABELS - 8}" y="{middle + 4:.1f}" text-anchor="end">{html.escape(bar.name)}</text>',
                f'<rect x="{LABELS}" y="{y}" width="{x(bar.median) - LABELS:.1f}" height="{ROW - 6}" fill="{colour}"/>',
                f'<line x1="{x(bar.low):.1f}" y1="{middle:.1f}" x2="{x(bar.high):.1f}" y2="{middle:.1f}" stroke="{SPREAD}" stroke-width="3"/>',
                f'<text x="{max(x(bar.high), x(bar.median)) + 6:.1f}" y="{middle + 4:.1f}">{html.escape(bar.shown)}</text>']
    return "\n".join(out + ["</svg>", ""])


def parse(text):
    """The machine's lines, the sections, and what is said at the end, of one program's output."""
    machine, sections, verdict = [], [], []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        match = TITLE.match(lines[0])
        if lines[0].startswith("machine "):
            machine = lines
        elif match and len(lines) > 1:
            sections.append(Section(match.group(1), match.group(2), lines[1:]))
        else:
            verdict += lines
    return machine, sections, verdict


def make_report(folder, note):
    """Writes the report of a folder and says how much is in it."""
    folder = Path(folder)
    out, pictures, count, machines = [], 0, 0, set()
    for path in sorted(folder.glob("*.txt")):
        machine, sections, verdict = parse(path.read_text(encoding="utf-8"))
        if not machine or not sections:
            sys.exit(f"{path}: no output of a benchmark program")
        # The load belongs to a run, not to the machine.
        machines.add("\n".join(re.sub(r", load [\d.]+$", "", line) for line in machine))
        out += [f"## {path.stem}", ""]
        for section in sections:
            out += [f"### {section.name}", "", section.title, ""]
            column, bars = bars_of(section.lines)
            if len(bars) > 1:
                (folder / section.picture).write_text(draw(f"{section.name}: {section.title}", column, bars), encoding="utf-8")
                out += [f"![{section.name}: {column}]({section.picture})", ""]
                pictures += 1
            out += ["```text", *section.lines, "```", ""]
            count += 1
        if verdict:
            out += ["### What was promised", "", "```text", *verdict, "```", ""]
    if not count:
        sys.exit(f"{folder}: nothing was measured")
    head = ["# Benchmark report", "", *([note, ""] if note else []), "```text"]
    head += ["\n\n".join(sorted(machines)), "```", "",
             "Figures are medians of rounds in which all contenders take turns; `quartiles` is their spread, and a ratio the median of the "
             "ratios within a round. bench/README.md says what each figure means.", ""]
    if (folder / "churn.svg").is_file():
        head += ["## Density while objects come and go", "", "![density over churn, all drivers and mallocs](churn.svg)", ""]
        pictures += 1
    (folder / "report.md").write_text("\n".join(head + out), encoding="utf-8")
    return f"report: {count} comparisons, {pictures} pictures, {folder / 'report.md'}"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: {sys.argv[0]} FOLDER [NOTE]")
    print(make_report(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else ""))
