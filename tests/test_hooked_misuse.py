"""Misuse of blocks that hooks recorded: told before the C function runs.

Each detection has its silence.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import children
import pytest
from c_library import CXX, child, child_environment, extension, path
from needs import needs_hooks

pytestmark = needs_hooks

JEMALLOC = next(
    (
        str(one)
        for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib")
        for one in Path(folder).glob("libjemalloc.so.2")
    ),
    None,
)
needs_jemalloc = pytest.mark.skipif(JEMALLOC is None, reason="no jemalloc")
ALLOCATORS = [
    pytest.param({}, id="glibc"),
    pytest.param(
        {"LD_PRELOAD": JEMALLOC or ""}, id="jemalloc", marks=needs_jemalloc
    ),
]
PREFIX = "ffi_leak_tracker: "
COMMON = """
from c_library import *

def told():
    return [type(e).__name__ for e in LeakTracker.misuses()]

def paths(error):
    return [
        [f.function.rpartition(".")[2] for f in frames or ()] + [
            f.function for f in native]
        for frames, native in (
            (error.frames, error.native_frames),
            (error.freed_frames, error.freed_native_frames),
            (error.allocation.frames, ()),
        )
    ]
"""


def ended(code: str, *, status: int = 0, **changes: str) -> tuple[str, str]:
    """Return what a child printed, and what it wrote to standard error."""
    text = COMMON + textwrap.dedent(code)
    done = children.run(text, **child_environment(**changes))
    assert status == done.returncode, done.stdout + done.stderr
    return done.stdout.strip(), done.stderr


def verdicts(errors: str) -> list[str]:
    """Return the first words of each text, without addresses."""
    return [
        line.removeprefix(PREFIX).partition(" of 0x")[0]
        for line in errors.splitlines()
        if line.startswith(PREFIX)
    ]


# --- double frees -------------------------------------------------------
SIZES = (1, 24, 100, 1032, 1040, 5000, 200_000, 5_000_000)
WAYS = ("take", "take_zeroed", "take_grown", "take_aligned", "take_placed")


@pytest.mark.slow
@pytest.mark.parametrize("environment", ALLOCATORS)
@pytest.mark.parametrize("what", ["[lib]", "None"])
@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_a_double_free_is_told_and_not_carried_out(
    environment, what, flags
) -> None:
    """Of each size and function; the process and its heap live on."""
    name = f"misuse{flags[1:]}"
    path("misuse", flags, as_name=name)
    sizes = SIZES if not environment else SIZES[:-3]
    out, errors = ended(
        f"""
        lib = opened("misuse", as_name={name!r})
        with LeakTracker.attach({what}):
            for size in {sizes}:
                for way in {WAYS}:
                    block = getattr(lib, way)(size)
                    lib.give_twice(block)
                    first, second = lib.take(size), lib.take(size)
                    assert first != second, "the heap is damaged"
                    lib.give(first), lib.give(second)
            assert set(told()) == {{"DoubleFreeError"}}, told()
            assert len(LeakTracker.snapshot()) == 0
            print(len(told()), LeakTracker.self_stats["double_frees"])
        """,
        **environment,
    )
    count = len(sizes) * len(WAYS)
    assert f"{count} {count}" == out
    assert ["double free"] * count == verdicts(errors)


def test_both_call_paths_are_told() -> None:
    """Python lines, C functions; at once, and in misuses()."""
    out, errors = ended("""
        lib = opened("misuse")
        def make(): return lib.take(100)
        def end_it(block): lib.give(block)
        def end_again(block): lib.give_twice(block)
        with LeakTracker.attach([lib]):
            block = make()
            end_it(block)
            end_again(block)
            first, second = LeakTracker.misuses()
            print(paths(first))
            assert first.address == first.allocation.address
            assert first.allocation.size == 100 and not first.suspected
            assert "nothing is freed" not in str(first)
            text = str(first)
            for word in ("double free of 0x", "give_twice", "end_again",
                         "make", "freed at first"):
                assert word in text, text
    """)
    assert (
        "[['end_again', '<module>', 'give', 'give_twice'], ['give'], "
        "['make', '<module>']]" == out
    )
    text = errors[: errors.index(PREFIX, 1)].splitlines()
    assert text[0].endswith("; nothing is freed")
    assert "  the block: malloc, 100 bytes" == text[1]
    assert "  this call at:" == text[2]
    assert ["give", "give_twice", "end_again", "<module>"] == [
        line.partition("  in ")[2].partition(" ")[0] for line in text[3:7]
    ]
    assert "  freed at first by:" == text[7]
    assert "libmisuse.so  in give  +0x" in text[8]
    assert "  allocated at:" == text[9]
    assert text[10].endswith("  in make")


CALLERS = {
    "cffi, ABI mode": "lib = opened('misuse')",
    "cffi, API mode": "import _flk_misuse; lib = _flk_misuse.lib",
    "ctypes": (
        "import ctypes; lib = ctypes.CDLL(path('misuse')); "
        "lib.take.restype = ctypes.c_void_p; "
        "lib.take.argtypes = [ctypes.c_size_t]; "
        "lib.give_twice.argtypes = [ctypes.c_void_p]"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", CALLERS.values(), ids=CALLERS)
@pytest.mark.parametrize("what", ["[lib]", "None"])
def test_however_the_library_is_called(way, what) -> None:
    """API mode, ABI mode, ctypes."""
    path("misuse")
    folder = extension("_flk_misuse", "misuse")
    out, errors = ended(
        f"""
        sys.path.insert(0, {str(folder)!r})
        {way}
        with LeakTracker.attach({what}):
            lib.give_twice(lib.take(100))
            (error,) = LeakTracker.misuses()
            print(paths(error))
        """
    )
    assert ["double free"] == verdicts(errors)
    assert out.startswith("[['<module>', 'give'")  # the rest is inlined
    assert "], ['give'], [" in out


@pytest.mark.slow
@pytest.mark.parametrize("what", ["[lib]", "None", "['libc.so.6']"])
def test_a_function_that_was_looked_up(what) -> None:
    """The C library's, called by cffi: the same block, once more."""
    out, errors = ended(
        f"""
        ffi = cffi.FFI()
        ffi.cdef("void free(void *);")
        libc = ffi.dlopen(None)
        lib = opened("misuse")
        with LeakTracker.attach([lib]), LeakTracker.attach({what}):
            block = lib.take(100)
            libc.free(block)
            libc.free(block)
            libc.free(lib.take(100))
            print(told())
        """
    )
    assert "['DoubleFreeError']" == out
    assert ["double free"] == verdicts(errors)


def test_more_frees_than_a_cache_of_the_c_library_holds() -> None:
    """The eighth free of a size goes elsewhere; so does one in a thread."""
    out, errors = ended("""
        lib = opened("misuse")
        with LeakTracker.attach([lib]):
            for size in (24, 100, 500):
                blocks = [lib.take(size) for _ in range(12)]
                for block in blocks:
                    lib.give(block)
                lib.give(blocks[-1])
                lib.give(blocks[0])
            print(len(told()))
    """)
    assert "6" == out
    assert ["double free"] * 6 == verdicts(errors)


PROGRAM = r"""
#include <Python.h>
#include <stdlib.h>
int main(int count, char **arguments) {
    void *(*volatile address)(size_t) = malloc;
    return address ? Py_BytesMain(count, arguments) : 1;
}
"""


@pytest.fixture(scope="module")
def fixed_python(tmp_path_factory) -> Path:
    """Python at a fixed address that uses the address of malloc: Debian's."""
    value = sysconfig.get_config_var
    folder = tmp_path_factory.mktemp("fixed")
    (folder / "python.c").write_text(PROGRAM)
    command = ["cc", "-w", "-fno-pie", "-no-pie", "python.c", "-o", "python"]
    command += [f"-I{sysconfig.get_path('include')}", f"-L{value('LIBDIR')}"]
    command += ["-rdynamic", f"-lpython{value('LDVERSION')}"]
    command += [f"-Wl,-rpath,{value('LIBDIR')}"]
    for name in ("LIBS", "SYSLIBS"):
        command += (value(name) or "").split()
    made = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no library of Python to link with")
    return folder / "python"


def test_in_a_program_that_has_an_address_of_malloc(fixed_python) -> None:
    """What the program gives as malloc is a jump; the C library is known."""
    code = """
        lib = opened("misuse")
        with LeakTracker.attach([lib]):
            lib.give_at(lib.take(100), 32)
        print(told())
    """
    where = {**child_environment(), "PYTHONHOME": sys.base_prefix}
    where["PYTHONPATH"] = os.pathsep.join([where["PYTHONPATH"], *sys.path])
    done = subprocess.run(
        [fixed_python, "-c", COMMON + textwrap.dedent(code)],
        env=children.environment(**where),
        cwd=children.PACKAGE_PARENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "['InvalidFreeError']" == done.stdout.strip(), done.stderr


def test_in_a_thread_a_handler_and_a_child() -> None:
    """Also where the first free was in a thread that has ended."""
    _, errors = ended("""
        import time
        lib = opened("misuse")
        with LeakTracker.attach([lib]):
            block = lib.take(100)
            thread = threading.Thread(target=lib.give, args=[block])
            thread.start(), thread.join()
            time.sleep(0.2)  # its end is a little later than join() says
            lib.give(block)
            block = lib.take(100)
            lib.give(block)
            lib.give_elsewhere(block)
            block = lib.take(100)
            lib.give(block)
            lib.give_in_handler(block)
            assert told() == ["DoubleFreeError"] * 3, told()
            child = os.fork()
            if not child:
                assert told() == []
                lib.give(block)
                block = lib.take(100)
                lib.give_twice(block)
                os._exit(len(told()))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
            assert len(told()) == 3
    """)
    assert ["double free"] * 5 == verdicts(errors)


# --- realloc ------------------------------------------------------------
@pytest.mark.parametrize("environment", ALLOCATORS)
def test_realloc_of_what_was_freed_fails(environment) -> None:
    """And what realloc moved away from is freed: a second free is told."""
    out, errors = ended(
        """
        import ctypes
        lib = opened("misuse")
        with LeakTracker.attach([lib]):
            block = lib.take(64)
            lib.give(block)
            assert lib.resize(block, 100) == cffi.FFI().NULL
            block = lib.take(64)
            moved = lib.resize(block, 3000)
            assert moved != block
            lib.give(block)
            lib.give(moved)
            print(told(), len(LeakTracker.snapshot()))
            same = lib.take(100)
            assert lib.resize(same, 101) == same
            lib.give(lib.resize(lib.resize(lib.take(10), 20), 5000))
            lib.give(same)
            print(len(told()))
        """,
        **environment,
    )
    assert "['DoubleFreeError', 'DoubleFreeError'] 0\n2" == out
    assert ["double free"] * 2 == verdicts(errors)


@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
def test_a_wrong_realloc_is_one_mismatch() -> None:
    """With ``p = new int; p = realloc(p, 100); free(p)`` the free is right."""
    child("""
        lib, plain = opened("operators"), opened("plain")
        with LeakTracker.attach([lib, plain]):
            block = lib.new_one(4)
            moved = plain.resize(block, 100)
            found, = LeakTracker.snapshot()
            assert (found.release, found.size) == ("free", 100), found
            moved = plain.resize(moved, 5000)
            lib.release(moved)
            assert [type(one).__name__ for one in LeakTracker.misuses()] == [
                "MismatchedFreeError"], LeakTracker.misuses()
            LeakTracker.verify_no_leaks()
            block = lib.new_one(4)
            assert plain.resize(block, 2**62) == cffi.FFI().NULL
            lib.delete_one(block)
            assert len(LeakTracker.misuses()) == 2
            LeakTracker.verify_no_leaks()
            assert core.lib.flk_tracker_check()
    """)


# --- C++ ----------------------------------------------------------------
OPERATORS = r"""
#include <cstdlib>
#include <new>
extern "C" {
void *make(int kind, std::size_t n) {
    switch (kind) {
    case 0: return operator new(n);
    case 1: return operator new[](n);
    case 2: return operator new(n, std::align_val_t(64));
    case 3: return operator new[](n, std::align_val_t(64));
    case 4: return operator new(n, std::nothrow);
    default: return operator new(n);
    }
}
void end(int kind, void *p, std::size_t n) {
    switch (kind) {
    case 0: operator delete(p); break;
    case 1: operator delete[](p); break;
    case 2: operator delete(p, n, std::align_val_t(64)); break;
    case 3: operator delete[](p, std::align_val_t(64)); break;
    case 4: operator delete(p, std::nothrow); break;
    default: operator delete(p, n); break;
    }
}
}
"""


@pytest.mark.slow
@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
@pytest.mark.parametrize("environment", ALLOCATORS)
@pytest.mark.parametrize("standard", ["gnu++17", "gnu++20"])
@pytest.mark.parametrize("linked", [(), ("-static-libstdc++",)])
def test_deletes_of_all_kinds(environment, standard, linked, tmp_path) -> None:
    """Sized, aligned, of arrays: twice, and inside; each once is silent."""
    import subprocess

    source = tmp_path / "deletes.cpp"
    source.write_text(OPERATORS, "utf-8")
    library = tmp_path / "libdeletes.so"
    command = [CXX, "-O1", f"-std={standard}", "-shared", "-fPIC", *linked]
    subprocess.run([*command, "-o", library, source], check=True)
    out, errors = ended(
        f"""
        import ctypes
        lib = ctypes.CDLL({str(library)!r})
        lib.make.restype = ctypes.c_void_p
        lib.make.argtypes = [ctypes.c_int, ctypes.c_size_t]
        lib.end.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
        with LeakTracker.attach([lib]):
            for kind in range(6):
                for size in (16, 200):
                    lib.end(kind, lib.make(kind, size), size)
            assert told() == []
            for kind in range(6):
                block = lib.make(kind, 200)
                lib.end(kind, block + 4, 200)
                lib.end(kind, block, 200)
                lib.end(kind, block, 200)
            print(told() == ["InvalidFreeError", "DoubleFreeError"] * 6)
            LeakTracker.verify_no_leaks()
        """,
        **environment,
    )
    assert "True" == out
    assert ["invalid free", "double free"] * 6 == verdicts(errors)


# --- frees inside a block -----------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("environment", ALLOCATORS)
@pytest.mark.parametrize("what", ["[lib]", "None"])
def test_a_free_inside_a_block_is_told(environment, what) -> None:
    """Whatever the block holds; it is freed once afterwards."""
    out, errors = ended(
        f"""
        lib = opened("misuse")
        with LeakTracker.attach({what}):
            for byte in (0, 1, 65, 255):
                for size, offset in ((100, 1), (100, 8), (100, 16), (100, 96),
                                     (5000, 16), (5000, 4096), (5000, 4992)):
                    block = lib.take(size)
                    lib.fill(block, byte, size)
                    lib.give_at(cffi.FFI().cast("char *", block), offset)
                    lib.give(block)
            print(set(told()), len(told()))
            error = LeakTracker.misuses()[-1]
            assert error.address == error.allocation.address + 4992
            assert "4,992 bytes in" in str(error), str(error)
            LeakTracker.verify_no_leaks()
        """,
        **environment,
    )
    assert "{'InvalidFreeError'} 28" == out
    assert ["invalid free"] * 28 == verdicts(errors)
    assert "bytes at 0x" in errors
    assert "; the address is 4992 bytes in" in errors


# --- what is done about it ----------------------------------------------
@pytest.mark.parametrize(
    ("attach", "variables"),
    [
        ('LeakTracker.attach([lib], misuse="pass")', {}),
        (
            "None",
            {
                "FFI_LEAK_TRACKER": "attach",
                "FFI_LEAK_TRACKER_MISUSE": "pass",
            },
        ),
    ],
)
def test_passed_on_if_wanted(attach, variables) -> None:
    """The C library ends the process then; the text is there already."""
    _, errors = ended(
        f"""
        lib = opened("misuse")
        handle = {attach}
        lib.give_twice(lib.take(100))
        """,
        status=-6,
        **variables,
    )
    assert ["double free"] == verdicts(errors)
    assert "; the call goes on\n" in errors
    assert errors.index(PREFIX) < errors.index("free(): double free detected")


def test_the_policy_is_checked() -> None:
    """A word that is no policy is an error before anything is hooked."""
    child("""
        lib = opened("misuse")
        for wrong in ("raise", "", None, 1):
            try:
                LeakTracker.attach([lib], misuse=wrong)
            except ValueError as error:
                assert "refuse" in str(error)
            else:
                raise AssertionError(wrong)
        assert not LeakTracker.self_stats["hooks_attached"]
    """)


def test_run_has_the_option() -> None:
    """`run --native`: status 1 for a misuse; --misuse=pass carries it out."""
    code = (
        f"import ctypes; lib = ctypes.CDLL({path('misuse')!r}); "
        "lib.take.restype = ctypes.c_void_p; "
        "lib.give_twice.argtypes = [ctypes.c_void_p]; "
        "lib.give_twice(lib.take(100))"
    )
    for option, status in (("refuse", 1), ("pass", -6)):
        done = children.run(
            f"""
            import os, sys
            os.execv(sys.executable, [sys.executable, "-m", "ffi_leak_tracker",
                "run", "--native", "--misuse={option}", "-c", {code!r}])
            """
        )
        assert status == done.returncode, done.stderr
        assert verdicts(done.stderr)[0] == "double free", done.stderr
        if status == 1:
            assert "note: 1 double free found" in done.stderr


def test_the_last_thousand_are_kept() -> None:
    """The first hundred texts are written; a line says that no more are."""
    out, errors = ended("""
        lib = opened("misuse")
        with LeakTracker.attach([lib]):
            for size in range(1200):
                lib.give_twice(lib.take(size % 1000 + 1))
            found = LeakTracker.misuses()
            print(*[found[i].allocation.size for i in (0, -1)], len(found))
            print(LeakTracker.self_stats["double_frees"])
    """)
    assert "201 200 1000\n1200" == out
    words = verdicts(errors)
    assert 101 == len(words)
    assert words[-1].startswith("further misuses are counted")


def test_blocks_of_our_allocators_given_to_native_code() -> None:
    """What the quarantine holds is freed by it, and by nothing else."""
    out, errors = ended("""
        from ffi_leak_tracker import diagnostic_calloc as alloc
        lib = opened("misuse")
        LeakTracker.enable()
        with LeakTracker.attach([lib]):
            lib.give(alloc("char", 100))
            block = alloc("char", 100)
            alloc.free(block)
            lib.give(block)
            print(told())
            for _ in range(100):
                alloc.free(alloc("char", 100))
    """)
    assert "['DoubleFreeError']" == out
    assert ["double free"] == verdicts(errors)


# --- silence ------------------------------------------------------------
REUSES = {
    "unseen": "lib.take_unseen(size)",
    "another library": "other.take(size)",
    "the C library": "libc.strdup(b'x' * (size - 1))",
    "a looked-up function": "libc.malloc(size)",
}


@pytest.mark.slow
@pytest.mark.parametrize("environment", ALLOCATORS)
@pytest.mark.parametrize("taken", REUSES.values(), ids=REUSES)
@pytest.mark.parametrize("end", ["lib.give", "other.give", "libc.free"])
def test_an_address_that_others_were_given_is_silent(
    environment, taken, end
) -> None:
    """It was freed by the library, given out again, and is freed once."""
    child(
        f"""
        ffi = cffi.FFI()
        ffi.cdef("void *malloc(size_t); void free(void *);"
                 "char *strdup(const char *);")
        libc = ffi.dlopen(None)
        lib, other = opened("misuse"), opened("plain")
        same = 0
        with LeakTracker.attach([lib]):
            for size in (16, 24, 100, 500, 1040, 3000, 100_000) * 30:
                first = lib.take(size)
                lib.give(first)
                second = {taken}
                same += second == first
                {end}(second)
                first, second = lib.take(size), {taken}
                lib.give(first)
                third = {taken}
                {end}(third), {end}(second)
            assert same > 50, same
            assert LeakTracker.misuses() == (), LeakTracker.misuses()
        """,
        **environment,
    )


@pytest.mark.parametrize("environment", ALLOCATORS)
def test_many_innocent_frees_cost_few_requests(environment) -> None:
    """Others free the same addresses again and again; then one frees twice."""
    _, errors = ended(
        """
        lib = opened("misuse")
        size, same = 5280, 0
        with LeakTracker.attach([lib]):
            for _ in range(2000):
                first = lib.take(size)
                lib.give(first)
                second = lib.take_unseen(size)
                same += first == second
                lib.give(second)
            figures = LeakTracker.self_stats
            assert same > 1000, same
            assert LeakTracker.misuses() == (), LeakTracker.misuses()
            assert same / 2 < figures["hooks_brief_proofs"], figures
            # In full it would be 40 for each.
            assert figures["hooks_proof_blocks"] < 4 * same, figures
            for _ in range(20):
                block = lib.take(size)
                lib.give_twice(block)
            assert told() == ["DoubleFreeError"] * 20, told()
        """,
        **environment,
    )
    assert ["double free"] * 20 == verdicts(errors)


def test_what_may_have_been_given_out_unseen_is_a_suspicion() -> None:
    """With all libraries watched it is told, and carried out; else silent."""
    out, errors = ended("""
        lib = opened("misuse")
        for what in ([lib], None):
            with LeakTracker.attach(what):
                for _ in range(50):  # Python may take it in between
                    block = lib.take(64)
                    lib.give(block)
                    if lib.take_unseen(64) == block:
                        break
                else:
                    raise AssertionError("the C library changed")
                lib.give(block)
                again = [lib.take(64) for _ in range(64)]
                assert block in again, "it was not carried out"
                for one in again:
                    lib.give(one)
                found = LeakTracker.misuses()
                print([e.suspected for e in found], LeakTracker.self_stats[
                    "suspected_frees"], LeakTracker.self_stats["double_frees"])
        print(str(found[0]).splitlines()[0].partition(" of ")[0])
        print([n for n in LeakTracker.snapshot().notes if "suspect" in n])
    """)
    assert [
        "[] 0 0",
        "[True] 1 0",
        "suspected double free",
        "['1 free suspected to be misuse, not proven']",
    ] == out.splitlines()
    assert ["suspected double free"] == verdicts(errors)


@pytest.mark.slow
@pytest.mark.parametrize("environment", ALLOCATORS)
@pytest.mark.parametrize("what", ["[lib]", "None"])
def test_threads_that_exchange_blocks_are_silent(environment, what) -> None:
    """An address is freed, given to another thread, and freed at once."""
    child(
        f"""
        lib = opened("misuse")
        with LeakTracker.attach({what}):
            lib.exchange_beside(4, 30_000)
            found = [e for e in LeakTracker.misuses() if not e.suspected]
            assert not found, found[0]
            {"assert not LeakTracker.misuses()" if what != "None" else ""}
        assert core.lib.flk_tracker_check()
        """,
        **environment,
    ) if what != "None" else ended(
        """
        lib = opened("misuse")
        with LeakTracker.attach():
            lib.exchange_beside(4, 30_000)
            found = [e for e in LeakTracker.misuses() if not e.suspected]
            assert not found, found[0]
        """,
        **environment,
    )


def test_blocks_from_before_the_attach_are_silent() -> None:
    """Of an earlier session, too: it is over, and so is what it saw."""
    child("""
        lib = opened("misuse")
        before = [lib.take(n) for n in range(1, 2000)]
        with LeakTracker.attach([lib]):
            for block in before:
                lib.give(block)
            kept = [lib.take(n) for n in range(1, 200)]
            freed = [lib.take(n) for n in range(1, 200)]
            for block in freed:
                lib.give(block)
        again = [lib.take(n) for n in range(1, 200)]
        with LeakTracker.attach([lib]):
            for block in again + kept:
                lib.give(block)
            assert LeakTracker.misuses() == ()
    """)


@pytest.mark.slow
def test_silence_in_a_program_of_many_libraries() -> None:
    """Everything is watched; sqlite3, ssl, zlib, json, threads at work."""
    child("""
        import concurrent.futures, hashlib, sqlite3, ssl, zlib
        def work(i):
            with sqlite3.connect(":memory:") as base:
                base.execute("create table t (a, b)")
                base.executemany("insert into t values (?, ?)",
                                 [(n, str(n) * 20) for n in range(300)])
                found = base.execute("select sum(a) from t").fetchall()
            base.close()
            ssl.create_default_context()
            return zlib.decompress(zlib.compress(json.dumps(found).encode()))
        with LeakTracker.attach():
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(work, range(20)))
            assert LeakTracker.misuses() == (), LeakTracker.misuses()
    """)
