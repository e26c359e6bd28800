# SPDX-License-Identifier: MIT
"""mmkit_printers.py - shows mmkit's types in gdb as what they mean.

    (gdb) source /usr/share/mmkit/gdb/mmkit_printers.py
    (gdb) print *pool
    $1 = zheap pool 'cache', tag 0x1, no limit = {backend = zheap pool 'cache': 1234 objects, 56 pages, ...}

  Result<T>, Status       ok, the value, or the failure's word
  Handle                  tag, generation and index
  PercpuPtr<T>            the copy on each CPU that can exist
  GenPool                 name, granule, use; its chunks, newest first
  Zpool                   type, name, tag, limit; what its driver shows
  ZbudPool, Z3foldPool, ZsmallocPool, ZheapPool    objects and pages, and what is particular to each

Reads memory and calls nothing, so that it works on a core file and in the middle of an operation; what other threads change meanwhile
is then of several moments. What lies behind a private pointer (names and limits of a Zpool, a GenPool) takes the library's debug
information; without it as much is shown as can be seen. `print/r` shows the members themselves.
"""
import re

import gdb
import gdb.printing

UNIT_STRIDE = 64 * 1024 + 4096 + 64  # kPercpuUnitStride
MOST_CPUS = 1024  # of which a broken process is asked


# ---------------------------------------------------------------- reading
def is_pointer(value):
    return value.type.strip_typedefs().code == gdb.TYPE_CODE_PTR


def is_struct(value):
    return value.type.strip_typedefs().code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)


def find_member(value, name, accepts=lambda member: True):
    """A member of that name, in the value or in a base or member of it; None when there is none."""
    if not is_struct(value):
        return None
    fields = [field for field in value.type.strip_typedefs().fields() if hasattr(field, "bitpos")]
    for field in fields:
        if field.name == name and accepts(value[field]):
            return value[field]
    for field in fields:
        found = find_member(value[field], name, accepts)
        if found is not None:
            return found
    return None


def number(value):
    """An integer or enumerator, also one in a std::atomic or a wrapper of it."""
    for name in ("_M_i", "__a_value", "_M_p"):
        found = find_member(value, name)
        if found is not None:
            return int(found)
    inner = find_member(value, "value_")
    return number(inner) if inner is not None else int(value)


def pointer_in(value):
    """The pointer in a unique_ptr or a std::atomic<T*>, or the value itself."""
    if is_pointer(value):
        return value
    # libstdc++'s and libc++'s; a unique_ptr has a deleter under the first name, too.
    for name in ("_M_head_impl", "__ptr_", "_M_p", "_M_b", "value_"):
        found = find_member(value, name, is_pointer)
        if found is not None:
            return found
    raise gdb.error(f"no pointer in {value.type}")


def pointee(value):
    pointer = pointer_in(value)
    return None if int(pointer) == 0 else pointer.dereference()


def text(pointer, length):
    if int(length) == 0:
        return ""
    return pointer.string("utf-8", "replace", length=min(int(length), 256))


def view_text(view):
    """A std::string_view."""
    data, length = find_member(view, "_M_str"), find_member(view, "_M_len")
    if data is None:
        data, length = find_member(view, "__data_"), find_member(view, "__size_")
    return text(data, length)


def string_text(string):
    """A std::string of libstdc++."""
    data, length = find_member(string, "_M_p"), find_member(string, "_M_string_length")
    return text(data, length)


def errc_word(code):
    """`busy`, of the enumerator mmkit::Errc::busy or of its number."""
    word = str(gdb.Value(code).cast(gdb.lookup_type("mmkit::Errc")))
    return word.rsplit("::", 1)[-1]


def possible_cpus():
    """The units that are open: at least the CPUs that can exist."""
    try:
        cpus = number(gdb.lookup_global_symbol("mmkit::detail::percpu_open_units").value())
    except (AttributeError, gdb.error):
        cpus = 1
    return max(1, min(cpus, MOST_CPUS))


def unit_at(pointer, cpu):
    """The same pointer, in another CPU's unit."""
    return gdb.Value(int(pointer) + cpu * UNIT_STRIDE).cast(pointer.type)


# ---------------------------------------------------------------- printers
class Printer:
    """Falls back to what a subclass's plain() says where something cannot be read."""

    def __init__(self, value):
        self.value = value

    def to_string(self):
        try:
            return self.show()
        except (gdb.error, gdb.MemoryError, RuntimeError, TypeError) as why:
            return f"{self.value.type.strip_typedefs()} (not readable: {why})"

    def children(self):
        try:
            yield from self.parts()
        except (gdb.error, gdb.MemoryError, RuntimeError, TypeError):
            return

    def parts(self):
        return ()


class ResultPrinter(Printer):
    def code(self):
        return int(find_member(self.value, "code_"))

    def show(self):
        if self.code() != 0:
            return f"failed: {errc_word(self.code())}"
        held = find_member(self.value, "value_")
        if held is None:
            return "ok"
        return "ok" if is_struct(held) else f"ok: {held.format_string()}"

    def parts(self):
        held = find_member(self.value, "value_")
        if self.code() == 0 and held is not None and is_struct(held):
            yield "value", held


class HandlePrinter(Printer):
    def show(self):
        bits = int(self.value) & (1 << 64) - 1
        if bits == 0:
            return "none"
        return f"{bits:#x} (tag {bits >> 48:#x}, generation {bits >> 32 & 0xffff}, index {bits & 0xffffffff})"


class PercpuPtrPrinter(Printer):
    def show(self):
        unit0 = int(self.value["unit0"])
        return "null" if unit0 == 0 else f"per-CPU at {unit0:#x}"

    def parts(self):
        unit0 = self.value["unit0"]
        if int(unit0) == 0 or unit0.type.target().strip_typedefs().code == gdb.TYPE_CODE_VOID:
            return
        for cpu in range(possible_cpus()):
            copy = unit_at(unit0, cpu).dereference()
            copy.fetch_lazy()
            yield f"cpu {cpu}", copy


class GenPoolPrinter(Printer):
    def core(self):
        return pointee(self.value["parts_"])["core"]

    def chunks(self):
        """Newest first."""
        commit = self.core()["commit_"]
        table = commit["chunks_"]
        link = self.state()[1]
        while link != 0:
            index = link - 1
            cells, offset = table["first_"], index
            if index >= 8:
                level = index.bit_length() - 3
                cells, offset = pointer_in(table["more_"][level - 1]), index - (8 << level - 1)
            chunk = pointee(cells[offset])
            if chunk is None:
                return
            yield chunk
            link = int(chunk["older"])

    def state(self):
        """Granules in use, number + 1 of the newest chunk: of the descriptor that the head names."""
        commit = self.core()["commit_"]
        head = number(commit["head_"])
        slots = commit["slots_"]["slot_"]
        words = slots[(head >> 1) % 64]["descriptor"][head & 1]["word_"]
        return number(words[6]), number(words[7]) & 0xffffffff

    def show(self):
        order = int(self.core()["options_"]["order"])
        name = view_text(pointee(self.value["parts_"])["name"])
        chunks = list(self.chunks())
        size = int(chunks[0]["total_bytes"]) if chunks else 0
        used = self.state()[0] << order
        return (f"gen_pool '{name}': {used} of {size} bytes in use, granule {1 << order}, "
                f"{len(chunks)} chunk{'' if len(chunks) == 1 else 's'}")

    def parts(self):
        for index, chunk in enumerate(self.chunks()):
            geometry = chunk["geometry_"]
            start, size = int(geometry["start"]), int(geometry["size_bytes"])
            yield f"chunk {index}", f"{start:#x}, {size} bytes"


class PoolPrinter(Printer):
    """One of a driver's pools."""

    def summary(self, kind, name, objects, pages, more):
        parts = [f"{objects} objects", f"{pages} pages", *more]
        return f"{kind} pool '{name}': " + ", ".join(parts)

    def member_name(self, holder):
        return text(pointer_in(holder["name_"]), holder["name_bytes_"])


class ChunkedPoolPrinter(PoolPrinter):
    """zbud and z3fold, whose counts lie under their lock."""

    def show(self):
        pool = self.value
        kind = "zbud" if "Zbud" in str(pool.type) else "z3fold"
        pages = number(pool["pages_"] if kind == "zbud" else pool["page_count_"])
        more = [f"{int(pool['payload_bytes_'])} bytes of payload", f"{int(pool['evicted_'])} evicted"]
        if kind == "z3fold":
            more.append(f"{int(pool['moved_'])} moved")
        objects = int(pool["allocations_"]) - int(pool["frees_"])
        return self.summary(kind, self.member_name(pool), objects, pages, more)


class EnginePoolPrinter(PoolPrinter):
    """zsmalloc and zheap, which count on each CPU."""

    # CpuStacks: offsets of the two counts in a CPU's record.
    ALLOCATIONS, FREES = 16, 32

    def objects(self, engine_pool):
        stacks = engine_pool["engine_"]["stacks_"]
        unit0 = stacks["records_"]["unit0"]
        use = pointer_in(stacks["use_"])
        word = gdb.lookup_type("unsigned long").pointer()
        objects = number(engine_pool["allocations_aside_"])
        for cpu in range(int(stacks["cpus_"])):
            if number(use[cpu]) == 0:
                continue
            record = int(unit_at(unit0, cpu))
            for at, sign in ((self.ALLOCATIONS, 1), (self.FREES, -1)):
                objects += sign * int(gdb.Value(record + at).cast(word).dereference())
        return max(0, objects)

    def show(self):
        pool = self.value
        base = pool.cast(gdb.lookup_type("mmkit::EnginePool"))
        kind = view_text(base["type_"])
        objects = self.objects(base)
        more = []
        if kind == "zsmalloc":
            more.append(f"{number(pool['zspages_'])} zspages")
        if kind == "zheap":
            more.append(f"floor {float(pool['params_']['floor']):g}")
            more.append(f"{number(pool['emptied_'])} blocks emptied")
        more.append(f"{number(base['evicted_'])} evicted")
        more.append(f"{number(base['moved_'])} moved")
        return self.summary(kind, self.member_name(base), objects, number(base["pages_"]), more)


class ZpoolPrinter(Printer):
    def show(self):
        control = pointee(self.value["control_"])
        tag = int(self.value["tag_"])
        kind, name, limit = "?", "?", ""
        try:
            entry = pointee(control["driver"])
            kind = text(entry["type_"][0].address, entry["type_bytes_"])
            name = string_text(control["name"])
            pages = int(control["pages"]["limit_pages_"])
            limit = ", no limit" if pages == (1 << 64) - 1 else f", limit {pages} pages"
        except gdb.MemoryError:
            raise
        except gdb.error:
            pass  # without the library's debug information
        return f"{kind} pool '{name}', tag {tag:#x}{limit}"

    def parts(self):
        backend = self.value["backend_"]
        if int(backend) != 0:
            shown = backend.cast(backend.dynamic_type).dereference()
            shown.fetch_lazy()
            yield "backend", shown


def build():
    printers = gdb.printing.RegexpCollectionPrettyPrinter("mmkit")
    printers.add_printer("Result", r"^mmkit::Result<.*>$", ResultPrinter)
    printers.add_printer("Handle", r"^mmkit::Handle$", HandlePrinter)
    printers.add_printer("PercpuPtr", r"^mmkit::PercpuPtr<.*>$", PercpuPtrPrinter)
    printers.add_printer("GenPool", r"^mmkit::GenPool$", GenPoolPrinter)
    printers.add_printer("Zpool", r"^mmkit::Zpool$", ZpoolPrinter)
    printers.add_printer("ChunkedPool", r"^mmkit::(ZbudPool|Z3foldPool)$", ChunkedPoolPrinter)
    printers.add_printer("EnginePool", r"^mmkit::(ZsmallocPool|ZheapPool)$", EnginePoolPrinter)
    return printers


gdb.printing.register_pretty_printer(None, build(), replace=True)
