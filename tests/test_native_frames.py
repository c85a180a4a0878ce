"""Native frames above the Python ones: which C function allocated."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import cffi
import pytest
from children import output, run

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._base.elf import ElfFile
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import symbols as symbols_module
from ffi_leak_tracker.records import NativeFrame

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sys.implementation.name != "cpython",
    reason="hooks need Linux; PyPy's own frames are not told apart",
)
SOURCE = Path(__file__).with_name("native_frames.c")
CDEF = """
    void *take(size_t n);
    void *take_in_callback(void);
    void *take_by(void *(*callback)(size_t), size_t n);
    void give(void *p);
"""
ffi = cffi.FFI()
ffi.cdef(CDEF)


@cache
def folder() -> Path:
    return Path(mkdtemp(prefix="flk-native-"))


def compiled(name: str, *flags: str, source: Path = SOURCE) -> str:
    """Compile a library of that name; skip where there is no compiler."""
    compiler = shutil.which("c++" if source.suffix == ".cc" else "cc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = folder() / f"{name}.so"
    command = [compiler, "-O1", "-g", "-shared", "-fPIC", *flags]
    subprocess.run([*command, "-o", path, source], check=True)
    return str(path)


@cache
def library():
    return ffi.dlopen(compiled("libtaker"))


@pytest.fixture
def hooked():
    """Sees what the library allocates, with eight native frames."""
    lib = library()
    with LeakTracker.attach(["libtaker*"], native_depth=8):
        yield lib


def block_at(address):
    (found,) = [
        block
        for block in LeakTracker.snapshot()
        if block.address == int(ffi.cast("uintptr_t", address))
    ]
    return found


def functions(block) -> list[str | None]:
    return [frame.function for frame in block.native_frames]


def test_c_functions_stand_above_python_lines(hooked) -> None:
    """Static ones too; the frames of cffi and of Python are left out."""
    address = hooked.take(40)
    block = block_at(address)
    assert ["take_inside", "take"] == functions(block)
    assert "test_c_functions_stand_above_python_lines" == block.site.function
    assert {"libtaker.so"} == {
        os.path.basename(frame.module) for frame in block.native_frames
    }
    hooked.give(address)


def test_frames_of_the_c_library_are_shown(hooked) -> None:
    """A callback is reached through qsort."""
    address = hooked.take_in_callback()
    names = functions(block_at(address))
    assert "compare" == names[0]
    assert "take_in_callback" == names[-1]
    assert "qsort_r" in names or "qsort" in names
    hooked.give(address)


def test_offsets_are_addresses_of_the_file(hooked) -> None:
    """What addr2line takes; inside the call, not behind it."""
    address = hooked.take(41)
    innermost = block_at(address).native_frames[0]
    path = innermost.module
    symbols = symbols_module.SymbolFile(path, fingerprint_of(path))
    assert symbols.is_loaded_one
    assert "take_inside" == symbols.name_at(innermost.offset)
    hooked.give(address)


def test_no_frames_unless_asked_for(hooked) -> None:
    """Depth 0 records the Python line alone."""
    core.set_native_depth(0)
    address = hooked.take(42)
    block = block_at(address)
    assert () == block.native_frames
    assert block.site is not None
    hooked.give(address)


def test_depth_is_a_limit(hooked) -> None:
    """The innermost are kept."""
    core.set_native_depth(1)
    address = hooked.take(43)
    assert ["take_inside"] == functions(block_at(address))
    hooked.give(address)


def test_python_between_two_calls_ends_the_stack(hooked) -> None:
    """A callback into Python shows the C code below it only."""

    @ffi.callback("void *(size_t)")
    def callback(size):
        return hooked.take(size)

    address = hooked.take_by(callback, 44)
    block = block_at(address)
    assert ["take_inside", "take"] == functions(block)
    assert block.site.function.endswith("callback")
    hooked.give(address)


def test_one_line_two_ways_is_two_paths(hooked) -> None:
    """Blocks of one Python line differ by the C code that made them."""
    pair = [hooked.take(45) if i else hooked.take_in_callback() for i in (0, 1)]
    first, second = map(block_at, pair)
    assert first.native_frames != second.native_frames
    for address in pair:
        hooked.give(address)


def test_repeated_stacks_are_one_path(hooked) -> None:
    """However often, they are resolved once."""
    kept = [hooked.take(46) for _ in range(100)]
    wanted = {int(ffi.cast("uintptr_t", address)) for address in kept}
    frames = {
        id(block.native_frames)
        for block in LeakTracker.snapshot()
        if block.address in wanted
    }
    assert 1 == len(frames)
    for address in kept:
        hooked.give(address)


def test_threads_without_python_have_native_frames(hooked) -> None:
    """Below a thread's first function there is nothing."""
    address = []
    thread = threading.Thread(target=lambda: address.append(hooked.take(47)))
    thread.start()
    thread.join()
    assert ["take_inside", "take"] == functions(block_at(address[0]))
    hooked.give(address[0])


def test_lines_are_told_when_asked_for(hooked) -> None:
    """By llvm-symbolizer or addr2line."""
    if symbols_module._tool() is None:
        pytest.skip("neither llvm-symbolizer nor addr2line is installed")
    text = SOURCE.read_text("utf-8").splitlines()
    line = 1 + next(i for i, one in enumerate(text) if "LINE: inside" in one)
    core.set_native_depth(8, lines=True)
    address = hooked.take(48)
    innermost = block_at(address).native_frames[0]
    assert ("native_frames.c", line) == (
        os.path.basename(innermost.filename),
        innermost.lineno,
    )
    hooked.give(address)


@pytest.mark.parametrize(
    "tool", symbols_module._TOOLS, ids=lambda tool: tool[0]
)
def test_either_tool_tells_lines(monkeypatch, tool) -> None:
    """Both answer in the same words."""
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    path = compiled("libtool")
    offset = offset_of(path, "take")
    monkeypatch.setattr(symbols_module, "_TOOLS", (tool,))
    lines = symbols_module._run_tool(
        symbols_module._tool(), path, [offset, offset]
    )
    assert ["take"] * 2 == lines[::2]
    name, number = symbols_module.parse_place(lines[1])
    assert "native_frames.c" == os.path.basename(name)
    assert number is not None


def offset_of(path: str, name: str) -> int:
    symbols = symbols_module.SymbolFile(path, fingerprint_of(path))
    names = [name for _, name in symbols.functions]
    return symbols.starts[names.index(name)]


def fingerprint_of(path: str) -> int:
    return ElfFile.read(path).fingerprint()


def test_a_tool_that_hangs_is_left_alone(monkeypatch) -> None:
    """Then there are no lines."""
    monkeypatch.setattr(symbols_module, "SECONDS", 0.2)
    assert [] == symbols_module._run_tool(("sleep", "30"), "x", [1])
    assert [] == symbols_module._run_tool(("no-such-tool",), "x", [1])
    assert [] == symbols_module._run_tool(("false",), "x", [1])


def test_a_file_written_anew_names_nothing() -> None:
    """Its functions are others than those that were called."""
    path = compiled("librewritten")
    before = fingerprint_of(path)
    offset = offset_of(path, "take")
    compiled("librewritten", "-DKEEP_MORE", "-O0")
    frame = symbols_module.frame_of((path, offset, before), str)
    assert (None, path, offset) == (frame.function, frame.module, frame.offset)


def test_what_is_no_file_names_nothing(tmp_path) -> None:
    """Truncated, other, or gone."""
    path = compiled("libwhole")
    data = Path(path).read_bytes()
    for length in (0, 3, 64, 200, 4000, len(data) // 2):
        part = tmp_path / f"{length}.so"
        part.write_bytes(data[:length])
        symbols = symbols_module.SymbolFile(str(part), fingerprint_of(path))
        assert symbols.name_at(10**6) is None
    assert None is symbols_module.SymbolFile("/no/such/file", 0).name_at(1)


def test_stripped_libraries_have_exported_names() -> None:
    """What is static has none then, and takes no other's."""
    path = compiled("libstripped", "-s")
    symbols = symbols_module.SymbolFile(path, fingerprint_of(path))
    names = {name for _, name in symbols.functions}
    assert {"take", "give"} <= names
    assert "take_inside" not in names
    whole = offset_of(compiled("libunstripped"), "take_inside")
    assert "take" != symbols.name_at(whole)


UNSIZED = r"""
#include <stddef.h>
void *malloc(size_t);
void free(void *);
/* In assembler, without .size; the second also without an unwind entry. */
__asm__(".text\n.globl take\n.type take, @function\ntake:\n"
        ".cfi_startproc\nsub $8, %rsp\n.cfi_adjust_cfa_offset 8\n"
        "call hidden\nadd $8, %rsp\nret\n.cfi_endproc\n");
__asm__(".text\n.globl endless\n.type endless, @function\n"
        "endless:\nret\n");
/* Has no name in a stripped file, and lies behind both. */
__attribute__((used, noinline, visibility("hidden")))
void *hidden(size_t n) {
    void *p = malloc(n);
    __asm__ volatile("" : "+r"(p));
    return p;
}
void give(void *p) { free(p); }
"""
FLAGS_OF_UNSIZED = {
    "plain": (),
    "-O0": ("-O0",),
    "-O2": ("-O2",),
    "stripped": ("-s",),
    "stripped, -O0": ("-s", "-O0"),
    "-Bsymbolic, stripped": ("-s", "-Wl,-Bsymbolic"),
    "own section": ("-s", "-ffunction-sections"),
    "no debug information": ("-g0",),
}


@pytest.mark.slow
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="assembler")
@pytest.mark.parametrize("flags", FLAGS_OF_UNSIZED.values(), ids=str)
@pytest.mark.parametrize("lines", [False, True])
def test_a_symbol_without_a_size_takes_no_other_code(
    tmp_path, flags, lines
) -> None:
    """It names what its unwind entry covers; other code is `??`."""
    source = tmp_path / "unsized.c"
    source.write_text(UNSIZED, "utf-8")
    name = f"libunsized{len(str(flags))}{lines}"
    lib = ffi.dlopen(compiled(name, *flags, source=source))
    with LeakTracker.attach([f"{name}*"], native_depth=8, native_lines=lines):
        address = lib.take(60)
        block = block_at(address)
        lib.give(address)
    inner = None if "-s" in flags else "hidden"
    assert [inner, "take"] == functions(block)
    place = offset_of(block.native_frames[0].module, "take")
    assert place < block.native_frames[1].offset < place + 16


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="assembler")
def test_a_symbol_of_no_known_end_names_nothing(tmp_path) -> None:
    """Nor does `_init`, which has its own section before all code."""
    source = tmp_path / "unsized.c"
    source.write_text(UNSIZED, "utf-8")
    path = compiled("libendless", source=source)
    symbols = symbols_module.SymbolFile(path, fingerprint_of(path))
    names = [name for _, name in symbols.functions]
    assert {"take", "give", "hidden"} <= set(names)
    assert not {"endless", "_init", "_fini"} & set(names)
    assert all(size > 0 for size, _ in symbols.functions)


def test_a_tool_without_lines_names_nothing() -> None:
    """addr2line then answers with the nearest symbol."""
    line_of = symbols_module._line_of
    assert (None, None, None) == line_of("_init", "??:0")
    assert (None, None, None) == line_of("_init", "??:?")
    assert (None, "a.c", 7) == line_of("??", "a.c:7")
    assert ("f", "a.c", 7) == line_of("f", "a.c:7")


def test_sizes_of_unwind_entries_are_those_of_symbols() -> None:
    """Where the compiler wrote both, in a large library."""
    (path,) = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if os.path.basename(line.split()[-1]).startswith("libc.so")
    }
    file = ElfFile.read(path)
    sizes = [
        (size, file.unwind_size(start))
        for start, (size, _) in file.functions().items()
        if file.unwind_size(start)
    ]
    same = sum(size == unwound for size, unwound in sizes)
    assert len(sizes) > 500
    assert same > 0.99 * len(sizes)


def test_wrappers_of_cffi_are_folded_away() -> None:
    """So are libffi's frames, but only the outermost."""
    frames = [
        NativeFrame(name, module, 1)
        for name, module in (
            ("ffi_call", "libffi.so.8"),
            ("take", "/x/libtaker.so"),
            ("_cffi_f_take", "/x/_taker.abi3.so"),
            ("ffi_call_int", "/lib/libffi.so.8.1.2"),
        )
    ]
    assert tuple(frames[:2]) == symbols_module.folded(frames)
    assert () == symbols_module.folded(frames[2:])


BUILD = """
    import cffi
    builder = cffi.FFI()
    builder.cdef({cdef!r})
    builder.set_source("_native_taker", '#include "{source}"',
                       extra_compile_args=["-O1", "-g"])
    builder.compile(tmpdir={folder!r})
"""


@pytest.mark.slow
def test_the_wrapper_of_an_api_module_is_left_out() -> None:
    """The C code of a compiled cffi module stands right above Python."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed")
    place = str(folder())
    done = run(BUILD.format(cdef=CDEF, source=SOURCE, folder=place))
    assert 0 == done.returncode, done.stderr
    assert "['take_inside', 'take'] <module>" == output(
        f"""
        import sys
        sys.path.insert(0, {place!r})
        from _native_taker import lib
        from ffi_leak_tracker import LeakTracker
        from ffi_leak_tracker._seam import core_api as core
        LeakTracker.attach(["_native_taker*"], native_depth=8)
        kept = lib.take(40)
        (block,) = LeakTracker.snapshot()
        print([f.function for f in block.native_frames], block.site.function)
        """
    )


def test_cplusplus_names_are_readable(tmp_path) -> None:
    """Once a C++ library is in the process; else as they are."""
    source = tmp_path / "taker.cc"
    source.write_text(
        "#include <string>\n#include <cstdlib>\n"
        "namespace outer { struct Taker { __attribute__((noinline))\n"
        "static void *take(std::size_t n) { void *p = std::malloc(n);\n"
        '__asm__ volatile(""); return p; } }; }\n'
        'extern "C" void *take(std::size_t n) {\n'
        "  if (n == 12345) throw std::string();\n"
        "  void *p = outer::Taker::take(n);\n"
        '  __asm__ volatile(""); return p; }\n'
        'extern "C" void give(void *p) { std::free(p); }\n',
        "utf-8",
    )
    lib = ffi.dlopen(compiled("libtaker_cxx", source=source))
    with LeakTracker.attach(["libtaker_cxx*"], native_depth=8):
        address = lib.take(49)
        names = functions(block_at(address))
        lib.give(address)
    assert ["outer::Taker::take(unsigned long)", "take"] == names


def test_unloaded_libraries_keep_their_names(hooked) -> None:
    """Frames are those of the file, whatever is loaded there next."""
    first, second = compiled("libtaker_1"), compiled("libtaker_2")
    kept = {}
    for path in (first, second):
        lib = ffi.dlopen(path)
        core.hooks_refresh()
        address = lib.take(50)
        kept[path] = address
        ffi.dlclose(lib)
    for path, address in kept.items():
        block = block_at(address)
        assert ["take_inside", "take"] == functions(block)
        assert {path} == {frame.module for frame in block.native_frames}
    for address in kept.values():
        hooked.give(address)


def test_a_forked_child_has_native_frames(hooked) -> None:
    """As its parent has."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        names = functions(block_at(hooked.take(51)))
        os.write(writing, repr(names).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert "['take_inside', 'take']" == pipe.read()
    os.wait()
