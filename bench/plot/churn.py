#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws density over churn B, every driver and malloc beside each other, as one SVG picture.

  bench/plot/churn.py PROGRAM > docs/images/churn.svg      PROGRAM: build/release/bench/churn_series

A malloc that the dynamic linker does not know is left out, and named on standard error.
"""

import os
import subprocess
import sys

# Label, arguments, what is preloaded, colour, how thick.
SERIES = [
    ("zheap", ["zheap"], None, "#0072b2", 3.0),
    ("zsmalloc", ["zsmalloc"], None, "#d55e00", 1.8),
    ("z3fold", ["z3fold"], None, "#009e73", 1.8),
    ("zbud", ["zbud"], None, "#8c6d00", 1.8),
    ("glibc malloc", ["malloc"], None, "#56616c", 1.4),
    ("jemalloc", ["malloc"], "libjemalloc.so.2", "#7b5ea7", 1.4),
    ("mimalloc", ["malloc"], "libmimalloc.so.2", "#b0447d", 1.4),
    ("tcmalloc", ["malloc"], "libtcmalloc_minimal.so.4 libtcmalloc.so.4", "#6b8e23", 1.4),
]
FLOOR = 0.955
WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 56, 132, 46, 44
LOW, HIGH = 0.55, 1.0


def known_libraries():
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    found = {}
    for line in listed.stdout.splitlines():
        if "=>" in line and "x86-64" in line:
            found.setdefault(line.split()[0], line.split("=>")[1].strip())
    return found


def measure(program, arguments, preload):
    environment = dict(os.environ)
    if preload:
        environment["LD_PRELOAD"] = preload
    result = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return [float(line) for line in result.stdout.split()]


def place_labels(ends, height):
    """Moves labels apart that would lie on each other; top to bottom."""
    placed = []
    for y, index in sorted(ends):
        if placed and y - placed[-1][0] < height:
            y = placed[-1][0] + height
        placed.append((y, index))
    return {index: y for y, index in placed}


def draw(lines):
    count = max(len(values) for _, values, _, _ in lines)

    def x(i):
        return LEFT + (WIDTH - LEFT - RIGHT) * i / (count - 1)

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (HIGH - value) / (HIGH - LOW)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<title>Density while two processes work: payload by bytes held</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="14" font-weight="600" fill="#1b1f24">'
        "Density while objects come and go: payload by bytes held, metadata included</text>",
    ]
    for tenth in range(60, 101, 10):
        at = y(tenth / 100)
        out.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" '
            'stroke="#e1e4e8"/>'
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#57606a">'
            f".{tenth:02d}</text>".replace(".100<", "1.00<")
        )
    for i in range(0, count, 5):
        out.append(
            f'<text x="{x(i):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" '
            f'fill="#57606a">{i}</text>'
        )
    out.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle" '
        'fill="#57606a">snapshot of a node and a python process, two seconds apart</text>'
    )
    out.append(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(FLOOR):.1f}" y2="{y(FLOOR):.1f}" '
        'stroke="#0072b2" stroke-dasharray="2 4" opacity="0.7"/>'
    )
    labels = place_labels([(y(values[-1]), i) for i, (_, values, _, _) in enumerate(lines)], 14)
    for i, (label, values, colour, width) in reversed(list(enumerate(lines))):
        points = " ".join(f"{x(n):.1f},{y(max(value, LOW)):.1f}" for n, value in enumerate(values))
        out.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}" stroke-linejoin="round"/>'
        )
        weight = ' font-weight="700"' if i == 0 else ""
        out.append(
            f'<text x="{WIDTH - RIGHT + 8}" y="{labels[i] + 4:.1f}" fill="{colour}"{weight}>'
            f"{label}</text>"
        )
    out.append("</svg>")
    return "\n".join(out)


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    libraries = known_libraries()
    lines = []
    for label, arguments, preload, colour, width in SERIES:
        path = None
        if preload:
            path = next((libraries[name] for name in preload.split() if name in libraries), None)
            if path is None:
                print(f"churn.py: {label}: {preload} is not installed, left out", file=sys.stderr)
                continue
        values = measure(sys.argv[1], arguments, path)
        mean = sum(values) / len(values)
        print(f"{label:14} mean {mean:.3f}  worst {min(values):.3f}", file=sys.stderr)
        lines.append((label, values, colour, width))
    print(draw(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
