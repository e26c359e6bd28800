#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""recipes_test.py - the vcpkg port and the conan recipe are sound, without vcpkg or conan.

The manifest is parsed as JSON, the recipe as Python; name, version and licence are the project's in both. The port's script is run
by CMake with vcpkg's functions replaced by some that note their arguments. What either sets must be an option of the build, and
what either reads must be there. Neither is built: that takes the network.
"""
import argparse
import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

# What vcpkg has before it runs a port. Each call goes down in a file as one line.
VCPKG = ["vcpkg_cmake_configure", "vcpkg_cmake_install", "vcpkg_cmake_config_fixup", "vcpkg_fixup_pkgconfig",
         "vcpkg_install_copyright"]
STUB = 'function({name})\n  list(JOIN ARGV " " words)\n  file(APPEND "{calls}" "{name} ${{words}}\\n")\nendfunction()\n'

complaints = []


def demand(condition, complaint):
    if not condition:
        complaints.append(complaint)


def project(root):
    """Version and options as CMake's files say."""
    version = re.search(r"^project\(mmkit VERSION (\S+)", (root / "CMakeLists.txt").read_text(), re.MULTILINE).group(1)
    text = (root / "cmake/options.cmake").read_text()
    options = set(re.findall(r"^option\((\w+)", text, re.MULTILINE)) | set(re.findall(r"^set\((\w+) \S+ CACHE", text, re.MULTILINE))
    return version, options


def look_at_vcpkg(root, version, options, cmake, work):
    port = root / "packaging/vcpkg"
    manifest = json.loads((port / "vcpkg.json").read_text())
    demand(manifest["name"] == "mmkit", f"vcpkg.json: the name is {manifest['name']}")
    demand(manifest["version-semver"] == version, f"vcpkg.json: version {manifest['version-semver']}, the project's is {version}")
    demand(manifest["license"] == "MIT", f"vcpkg.json: the licence is {manifest['license']}")
    demand(f"find_package(mmkit {version.rsplit('.', 1)[0]} " in (port / "usage").read_text(), "usage: another version")

    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    calls, packages = work / "calls", work / "packages"
    script = "".join(STUB.format(name=name, calls=calls) for name in VCPKG)
    script += f'set(CURRENT_PACKAGES_DIR "{packages}")\nset(PORT mmkit)\ninclude("{port}/portfile.cmake")\n'
    (work / "run.cmake").write_text(script)
    done = subprocess.run([cmake, "-P", work / "run.cmake"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    demand(done.returncode == 0, f"portfile.cmake: {done.stdout}")
    made = calls.read_text() if calls.exists() else ""
    demand(f"vcpkg_cmake_configure SOURCE_PATH {root} " in made, f"portfile.cmake: does not configure {root}: {made}")
    demand("vcpkg_cmake_install" in made and "vcpkg_fixup_pkgconfig" in made, f"portfile.cmake: does not install: {made}")
    demand(f"FILE_LIST {root}/LICENSE" in made, f"portfile.cmake: gives no licence: {made}")
    demand((packages / "share/mmkit/usage").is_file(), "portfile.cmake: installs no usage")
    set_here = set(re.findall(r"-D(\w+)=", made))
    demand(set_here and set_here <= options, f"portfile.cmake: sets what is no option: {sorted(set_here - options)}")


def look_at_conan(root, version, options):
    path = root / "packaging/conan/conanfile.py"
    tree = ast.parse(path.read_text(), str(path))
    recipes = [n for n in tree.body if isinstance(n, ast.ClassDef) and any(getattr(b, "id", "") == "ConanFile" for b in n.bases)]
    demand(len(recipes) == 1, "conanfile.py: not one recipe")
    fields = {t.id: ast.literal_eval(n.value) for n in recipes[0].body if isinstance(n, ast.Assign) for t in n.targets}
    demand(fields.get("name") == "mmkit" and fields.get("license") == "MIT", "conanfile.py: another name or licence")
    demand(fields.get("version") == version, f"conanfile.py: version {fields.get('version')}, the project's is {version}")
    methods = {n.name: n for n in recipes[0].body if isinstance(n, ast.FunctionDef)}
    wanted = {"export_sources", "layout", "validate", "generate", "build", "package", "package_info"}
    demand(wanted <= set(methods), f"conanfile.py: lacks {sorted(wanted - set(methods))}")

    def strings(method):
        return {n.value for n in ast.walk(methods[method]) if isinstance(n, ast.Constant) and isinstance(n.value, str)}

    # MMKIT_BUILD_ is the beginning of an f-string, whose ends are strings of the method too.
    set_here = {s for s in strings("generate") if s.startswith("MMKIT_") and s != "MMKIT_BUILD_"}
    set_here |= {f"MMKIT_BUILD_{s}" for s in strings("generate") if re.fullmatch(r"[A-Z]+", s)}
    demand(len(set_here) == 5 and set_here <= options, f"conanfile.py: sets {sorted(set_here)}, not all of them options")
    exported = {s.removesuffix("/*") for s in strings("export_sources")}
    demand(exported, "conanfile.py: exports nothing")
    for name in sorted(exported):
        demand((root / name).exists(), f"conanfile.py: exports {name}, which is not there")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("root", "cmake", "work"):
        parser.add_argument(f"--{option}", required=True)
    arguments = parser.parse_args()
    root = Path(arguments.root)
    version, options = project(root)
    look_at_vcpkg(root, version, options, arguments.cmake, Path(arguments.work))
    look_at_conan(root, version, options)
    print("\n".join(complaints), end="\n" if complaints else "")
    print(f"recipes: vcpkg and conan agree with version {version}" if not complaints else "recipes: wrong")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
