# SPDX-License-Identifier: MIT
"""A Conan 2 recipe: conan create packaging/conan, from a clone. The sources are those it lies among."""
from pathlib import Path

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy


class MmkitConan(ConanFile):
    name = "mmkit"
    version = "0.1.0"
    license = "MIT"
    description = "Memory allocators of the Linux kernel for C++ programs in user space: zpool, gen_pool, percpu"
    topics = ("allocator", "memory", "compression", "per-cpu")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False]}
    default_options = {"shared": False}

    def export_sources(self):
        root = Path(self.recipe_folder).parent.parent
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*", "src/*"):
            copy(self, pattern, root, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("mmkit is for Linux")
        check_min_cppstd(self, 20)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["MMKIT_INSTALL"] = True
        for room in ("TESTS", "BENCH", "TOOLS", "EXAMPLES"):
            toolchain.cache_variables[f"MMKIT_BUILD_{room}"] = False
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder) / "licenses")

    def package_info(self):
        # The package's own CMake files are the better ones: they know the check level the library was built with.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs.append("lib/cmake/mmkit")
        self.cpp_info.libs = ["mmkit"]
        self.cpp_info.system_libs = ["pthread"]
