#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves that layers.py catches what it is for: each case is a small tree with one fault, and the rule that must name it."""
import tempfile
import unittest
from pathlib import Path

import layers

OPENING = "// SPDX-License-Identifier: MIT\n//\n// Thing - a thing of a test.\n"
HEADER = OPENING + "#pragma once\n"

# A tree without fault. Each case adds to it or replaces in it.
CLEAN = {
    "CMakeLists.txt": "set(MMKIT_SOURCES src/base/a.cpp src/page/map.cpp)\n",
    "include/mmkit/base/a.hpp": HEADER + "#include <cstdint>\n",
    "include/mmkit/page/p.hpp": HEADER + "#include <mmkit/base/a.hpp>\n",
    "include/mmkit/percpu/c.hpp": HEADER + "#include <mmkit/page/p.hpp>\n",
    "include/mmkit/genalloc/g.hpp": HEADER + "#include <mmkit/base/a.hpp>\n",
    "include/mmkit/zpool/z.hpp": HEADER + "#include <mmkit/page.hpp>\n#include <mmkit/percpu/c.hpp>\n",
    "include/mmkit/testing/t.hpp": HEADER + "#include <map>\n#include <mmkit/zpool/z.hpp>\n",
    "include/mmkit/base.hpp": HEADER + "#include <mmkit/base/a.hpp>\n",
    "include/mmkit/page.hpp": HEADER + "#include <mmkit/page/p.hpp>\n",
    "include/mmkit/mmkit.hpp": HEADER + "#include <mmkit/base.hpp>\n#include <mmkit/zpool/z.hpp>\n",
    "include/mmkit/fmt.hpp": HEADER + "#include <fmt/format.h>\n#include <mmkit/base.hpp>\n",
    "src/base/a.cpp": OPENING + "#include <mmkit/base/a.hpp>\n#include <vector>\n",
    "src/page/map.hpp": HEADER,
    "src/page/map.cpp": OPENING + '#include "page/map.hpp"\n#include <sys/mman.h>\n',
}

# What is wrong: {file: text}, and the one rule that must report it, in that file.
FAULTS = {
    "base reaches up": ("layer", {"include/mmkit/base/a.hpp": HEADER + "#include <mmkit/page/p.hpp>\n"}),
    "base reaches up through a door": ("layer", {"include/mmkit/base/a.hpp": HEADER + "#include <mmkit/page.hpp>\n"}),
    "base's door reaches up": ("layer", {"include/mmkit/base.hpp": HEADER + "#include <mmkit/page/p.hpp>\n"}),
    "page includes percpu": ("layer", {"include/mmkit/page/p.hpp": HEADER + "#include <mmkit/percpu/c.hpp>\n"}),
    "genalloc includes page": ("layer", {"include/mmkit/genalloc/g.hpp": HEADER + "#include <mmkit/page/p.hpp>\n"}),
    "zpool includes genalloc": ("layer", {"include/mmkit/zpool/z.hpp": HEADER + "#include <mmkit/genalloc/g.hpp>\n"}),
    "percpu includes zpool": ("layer", {"include/mmkit/percpu/c.hpp": HEADER + "#include <mmkit/zpool/z.hpp>\n"}),
    "the library includes a double": ("layer", {"include/mmkit/zpool/z.hpp": HEADER + "#include <mmkit/testing/t.hpp>\n"}),
    "the door to all opens the doubles": ("layer",
                                          {"include/mmkit/mmkit.hpp": HEADER + "#include <mmkit/testing/t.hpp>\n"}),
    "a source reaches up": ("layer", {"src/base/a.cpp": OPENING + "#include <mmkit/base/a.hpp>\n#include <mmkit/page/p.hpp>\n"}),
    "a source reaches up by quotes": ("layer",
                                      {"src/base/a.cpp": OPENING + '#include <mmkit/base/a.hpp>\n#include "page/map.hpp"\n'}),
    "an include under #if counts": ("layer", {"include/mmkit/base/a.hpp": HEADER + "#if 0\n  #  include <mmkit/page/p.hpp>\n#endif\n"}),
    "a relative include counts": ("layer", {"include/mmkit/base/a.hpp": HEADER + '#include "../page/p.hpp"\n'}),
    "a room of no layer": ("layer", {"include/mmkit/extra/e.hpp": HEADER + "#include <mmkit/base/a.hpp>\n"}),
    "the door to all inside": ("door", {"include/mmkit/zpool/z.hpp": HEADER + "#include <mmkit/mmkit.hpp>\n"}),
    "iostream in a header": ("forbidden", {"include/mmkit/base/a.hpp": HEADER + "#include <iostream>\n"}),
    "iostream in a source": ("forbidden", {"src/base/a.cpp": OPENING + "#include <mmkit/base/a.hpp>\n#include <iostream>\n"}),
    "format in a double": ("forbidden", {"include/mmkit/testing/t.hpp": HEADER + "#include <format>\n"}),
    "ranges in a source": ("forbidden", {"src/base/a.cpp": OPENING + "#include <mmkit/base/a.hpp>\n#include <ranges>\n"}),
    "fmt in a core header": ("forbidden", {"include/mmkit/page/p.hpp": HEADER + "#include <fmt/core.h>\n"}),
    "mutex in a header": ("forbidden", {"include/mmkit/page/p.hpp": HEADER + "#include <mutex>\n"}),
    "thread in a header": ("forbidden", {"include/mmkit/page/p.hpp": HEADER + "#include <thread>\n"}),
    "a JSON library in a source": ("forbidden",
                                   {"src/base/a.cpp": OPENING + "#include <mmkit/base/a.hpp>\n#include <nlohmann/json.hpp>\n"}),
    "gtest in the library": ("forbidden", {"include/mmkit/zpool/z.hpp": HEADER + "#include <gtest/gtest.h>\n"}),
    "mmap in a header": ("system", {"include/mmkit/page/p.hpp": HEADER + "#include <sys/mman.h>\n"}),
    "no such header": ("unknown", {"include/mmkit/page/p.hpp": HEADER + "#include <mmkit/page/gone.hpp>\n"}),
    "own header second": ("own-first", {"src/base/a.cpp": OPENING + "#include <vector>\n#include <mmkit/base/a.hpp>\n"}),
    "own private header missing": ("own-first", {"src/page/map.cpp": OPENING + "#include <sys/mman.h>\n"}),
    "no licence line": ("opening", {"include/mmkit/base/a.hpp": "#pragma once\n"}),
    "licence alone": ("opening", {"include/mmkit/base/a.hpp": "// SPDX-License-Identifier: MIT\n#pragma once\n"}),
    "opening names nothing": ("opening", {"include/mmkit/base/a.hpp": HEADER.replace("Thing - a", "A")}),
    "no licence line in a source": ("opening", {"src/base/a.cpp": "#include <mmkit/base/a.hpp>\n"}),
    "no pragma once": ("pragma", {"include/mmkit/base/a.hpp": OPENING}),
    "a source nobody builds": ("unlisted", {"src/page/extra.cpp": OPENING + "#include <mmkit/page/p.hpp>\n"}),
}


def violations_of(changes):
    with tempfile.TemporaryDirectory() as root:
        for name, text in {**CLEAN, **changes}.items():
            path = Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        _, found = layers.check_tree(root)
        return [(file, rule) for file, _, rule, _ in found]


class Layers(unittest.TestCase):
    def test_a_clean_tree_has_no_violation(self):
        self.assertEqual(violations_of({}), [])

    def test_each_fault_is_named_by_its_rule_and_no_other(self):
        for what, (rule, changes) in FAULTS.items():
            with self.subTest(what):
                self.assertEqual(violations_of(changes), [(next(iter(changes)), rule)])


if __name__ == "__main__":
    unittest.main()
