"""What the C library makes for a watched library, and its objects."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import children
import pytest
from c_library import CXX, child, child_environment
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
#: Function of libs/results.c: type, bytes (None: not fixed), what ends it.
BLOCKS = {
    "text_of_stream": ("open_memstream", 9001, "release"),
    "wide_text_of_stream": ("open_wmemstream", 4 * 9001, "release"),
    "scan_word": ("sscanf", 7, "release"),
    "scan_set": ("sscanf", 5, "release"),
    "scan_letters": ("sscanf", 5, "release"),
    "scan_wide": ("sscanf", 20, "release"),
    "scan_wide_format": ("swscanf", None, "release"),
    "scan_list": ("sscanf", 6, "release"),
    "scan_stream": ("fscanf", None, "release"),
    "vector": ("argz_create", 8, "release"),
    "vector_split": ("argz_create_sep", 6, "release"),
    "vector_grown": ("argz_replace", None, "release"),
    "environment": ("envz_add", 11, "release"),
    "list_folder": ("scandir", None, "release_list"),
}
#: Function: type, what must release it, what does.
OBJECTS = {
    "open_file": ("fopen", "fclose", "close_file"),
    "open_descriptor": ("fdopen", "fclose", "close_file"),
    "open_temporary": ("tmpfile", "fclose", "close_file"),
    "open_memory": ("fmemopen", "fclose", "close_file"),
    "open_pipe": ("popen", "pclose", "close_pipe"),
    "open_mounts": ("setmntent", "endmntent", "close_mounts"),
    "open_folder": ("opendir", "closedir", "close_folder"),
    "open_converter": ("iconv_open", "iconv_close", "close_converter"),
    "open_locale": ("newlocale", "freelocale", "close_locale"),
    "copy_locale": ("duplocale", "freelocale", "close_locale"),
    "find_addresses": ("getaddrinfo", "freeaddrinfo", "free_addresses"),
    "find_interfaces": ("getifaddrs", "freeifaddrs", "free_interfaces"),
    "name_interfaces": ("if_nameindex", "if_freenameindex", "free_names"),
    "find_paths": ("glob", "globfree", "free_paths"),
    "expand_words": ("wordexp", "wordfree", "free_words"),
    "compile_expression": ("regcomp", "regfree", "free_expression"),
}
#: How Python calls the library.
OPENED = {
    "abi": """
        lib = opened("results", {flags!r}, as_name="results{level}")
        library = lib
    """,
    "api": """
        sys.path.insert(0, str(extension("results_api{level}", "results",
            {flags!r})))
        import results_api{level} as library
        lib = library.lib
    """,
    "ctypes": """
        import ctypes
        library = ctypes.CDLL(path("results", {flags!r},
                                   as_name="results{level}"))
        lib = library
        for name in {names!r}:
            getattr(lib, name).restype = ctypes.c_void_p
        for name in {ends!r}:
            getattr(lib, name).argtypes = [ctypes.c_void_p]
    """,
}
WAYS = [(how, level) for how in OPENED for level in ("-O0", "-O2")]


def run(how: str, level: str, code: str) -> str:
    names = {
        "names": [*BLOCKS, *OBJECTS],
        "ends": [one[2] for one in (*BLOCKS.values(), *OBJECTS.values())],
    }
    head = dedent(OPENED[how].format(**names, flags=level, level=level[1:]))
    return child(head + code)


CHECK_BLOCKS = """
for name, (kind, size, end) in {blocks!r}.items():
    arguments = [9000] if "stream" in name and "scan" not in name else []
    with LeakTracker.attach([library]):
        block = getattr(lib, name)(*arguments); line = here()
        found = LeakTracker.snapshot()
        assert {{b.type for b in found}} == {{kind}}, (name, found)
        assert {{b.release for b in found}} == {{"free"}}, found
        assert len(found) == 1 + (name == "list_folder"), (name, found)
        assert size is None or sizes(found) == [size], (name, sizes(found))
        getattr(lib, end)(block)
        LeakTracker.verify_no_leaks()
        assert LeakTracker.misuses() == (), (name, LeakTracker.misuses())
assert LeakTracker.self_stats["hooks_returned_lost"] == 0
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "level"), WAYS)
def test_blocks_of_libc_that_free_releases(how: str, level: str) -> None:
    """Each is recorded with its size; buffers of streams are not."""
    run(how, level, CHECK_BLOCKS.format(blocks=BLOCKS))


CHECK_OBJECTS = """
import io
for name, (kind, release, end) in {objects!r}.items():
    with LeakTracker.attach([library]):
        block = getattr(lib, name)(); line = here()
        one, = LeakTracker.snapshot()
        assert (one.type, one.release) == (kind, release), (name, one)
        assert lines([one]) == [line] and one.size > 0, one
        with io.StringIO() as report:
            LeakTracker.emit(report)
            assert "hook, freed by " + release in report.getvalue()
        getattr(lib, end)(block)
        LeakTracker.verify_no_leaks()
        assert LeakTracker.misuses() == (), (name, LeakTracker.misuses())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "level"), WAYS)
def test_objects_of_libc_and_what_closes_them(how: str, level: str) -> None:
    """Each is one block, which reports say how to close."""
    run(how, level, CHECK_OBJECTS.format(objects=OBJECTS))


#: How a library may be linked: its calls go through other slots.
LINKED = {
    "plain": [],
    "no_plt": ["-fno-plt"],
    "now": ["-Wl,-z,now"],
    "symbolic": ["-Wl,-Bsymbolic"],
}


@pytest.mark.slow
@pytest.mark.parametrize("allocator", ["glibc", "jemalloc"])
@pytest.mark.parametrize("linked", LINKED)
def test_libraries_that_are_loaded_after_attach(
    linked: str, allocator: str
) -> None:
    """Their first call is seen, whatever malloc the process has."""
    changes = {}
    if allocator == "jemalloc":
        if JEMALLOC is None:
            pytest.skip("no jemalloc")
        changes = {"LD_PRELOAD": JEMALLOC}
    child(
        f"""
        flags = {["-O2", *LINKED[linked]]!r}
        with LeakTracker.attach(["libresults_*", "libraw_*"]):
            lib = opened("results", *flags, as_name="results_" + {linked!r})
            block = lib.open_folder()
            assert [b.type for b in LeakTracker.snapshot()] == ["opendir"]
            lib.close_folder(block)
            for name in ("text_of_stream", "scan_word", "vector"):
                arguments = [9000] * (name == "text_of_stream")
                block = getattr(lib, name)(*arguments)
                assert len(LeakTracker.snapshot()) == 1
                lib.release(block)
            raw = opened("raw", *flags, as_name="raw_" + {linked!r})
            block = raw.take(2000)
            types = [b.type for b in LeakTracker.snapshot()]
            assert types == ["PyMem_RawMalloc"], types
            raw.give(block)
            LeakTracker.verify_no_leaks()
            assert LeakTracker.misuses() == ()
        """,
        **changes,
    )


def test_what_fails_and_what_is_not_made_is_silent() -> None:
    """Errors, constants of the C library, formats without blocks."""
    child("""
        lib = opened("results")
        with LeakTracker.attach([lib]):
            before = LeakTracker.stats.allocations
            assert lib.fail_all() == 9
            assert lib.scan_numbers() == 3
            assert lib.scan_too_few() == 1
            LeakTracker.verify_no_leaks()
            assert LeakTracker.misuses() == ()
        other = opened("plain")
        with LeakTracker.attach([other]):
            lib.close_file(lib.open_file())
            lib.open_folder(), lib.scan_word(), lib.find_paths()
            assert len(LeakTracker.snapshot()) == 0
    """)


def test_objects_made_before_attach_may_be_closed() -> None:
    """Their end is ignored, and so is an end after detach."""
    child(f"""
        lib = opened("results")
        names = {[(name, one[2]) for name, one in OBJECTS.items()]!r}
        made = [(getattr(lib, name)(), end) for name, end in names
                if name != "copy_locale"]
        with LeakTracker.attach([lib]):
            for block, end in made:
                getattr(lib, end)(block)
            assert len(LeakTracker.snapshot()) == 0
            assert LeakTracker.misuses() == ()
            made = [(getattr(lib, name)(), end) for name, end in names]
            assert len(LeakTracker.snapshot()) == len(names)
        for block, end in made:
            getattr(lib, end)(block)
        assert LeakTracker.misuses() == ()
    """)


def test_an_object_that_is_closed_by_the_wrong_function() -> None:
    """It is told, with what the object needs."""
    child("""
        lib = opened("results")
        with LeakTracker.attach([lib]):
            lib.close_file(lib.open_pipe()); line = here()
            lib.close_pipe(lib.open_file())
            lib.close_mounts(lib.open_file())
            told = [str(one) for one in LeakTracker.misuses()]
            assert len(told) == 3, told
            assert "release it by pclose" in told[0], told
            assert "release it by fclose" in told[1], told
            LeakTracker.verify_no_leaks()
    """)


def test_the_c_library_as_a_traced_library() -> None:
    """One block is told once, under the name of the function called."""
    child("""
        lib = opened("results")
        with LeakTracker.attach([lib, "libc.so*"]):
            for name, end in (("open_file", "close_file"),
                              ("open_folder", "close_folder"),
                              ("open_locale", "close_locale"),
                              ("find_addresses", "free_addresses"),
                              ("scan_word", "release"),
                              ("vector", "release")):
                block = getattr(lib, name)()
                address = int(cffi.FFI().cast("intptr_t", block))
                found = [b for b in LeakTracker.snapshot()
                         if b.address == address]
                assert len(found) == 1, (name, found)
                assert found[0].type != "malloc", (name, found)
                getattr(lib, end)(block)
                assert LeakTracker.misuses() == (), (
                    name, LeakTracker.misuses())
    """)


def test_objects_over_a_fork() -> None:
    """A pipe forks; a child closes what it inherited."""
    child("""
        lib = opened("results")
        with LeakTracker.attach([lib]):
            file = lib.open_file()
            if not (one := os.fork()):
                lib.close_file(file)
                lib.close_pipe(lib.open_pipe())
                block = lib.open_folder()
                types = [b.type for b in LeakTracker.snapshot()]
                os._exit(types != ["opendir"])
            assert os.waitpid(one, 0)[1] == 0
            lib.close_file(file)
            LeakTracker.verify_no_leaks()
            assert LeakTracker.misuses() == ()
    """)


def test_a_sample_of_objects() -> None:
    """What is not in the sample is closed in silence."""
    child("""
        lib = opened("results")
        with LeakTracker.attach([lib], sample_bytes=1 << 30):
            for _ in range(100):
                lib.close_file(lib.open_file())
                lib.free_paths(lib.find_paths())
                lib.release(lib.text_of_stream(20))
            assert LeakTracker.misuses() == ()
            assert not LeakTracker.has_leaks
    """)


@pytest.mark.slow
@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_a_call_that_is_left_blinds_nothing(level: str) -> None:
    """By longjmp, by an exception, by cancellation of its thread."""
    child(f"""
        lib = opened("leaving", {level!r}, as_name="leaving{level[1:]}")
        with LeakTracker.attach([lib]):
            for leave in (lib.leave_by_longjmp, lib.leave_by_exception):
                leave()
                LeakTracker.reset()
                for _ in range(3):
                    blocks = lib.copied(b"a text"), lib.printed(42)
                    assert sizes(LeakTracker.snapshot()) == [7, 10]
                    for block in blocks:
                        lib.release(block)
                    LeakTracker.verify_no_leaks()
            kept = lib.cancelled()
            found = [b for b in LeakTracker.snapshot() if b.type == "strdup"]
            assert sizes(found) == [20], found
            lib.release(kept)
            LeakTracker.reset()
            lib.release(lib.copied(b"a text"))
            LeakTracker.verify_no_leaks()
    """)


@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
def test_what_a_callback_allocates_is_its_own() -> None:
    """Not the list of scandir that calls it, and no line of getline."""
    child("""
        lib = opened("leaving")
        with LeakTracker.attach([lib]):
            block = lib.list_folder(); line = here()
            found = LeakTracker.snapshot()
            types = sorted(b.type for b in found)
            assert types == ["fopen", "scandir", "scandir"], types
            lib.release_list(block)
            LeakTracker.verify_no_leaks()
            line = lib.nested_lines(1)
            found = LeakTracker.snapshot()
            types = sorted(b.type for b in found)
            assert types == ["getdelim", "strdup"], types
            lib.release(line)
            lib.release(lib.kept_below())
            LeakTracker.verify_no_leaks()
            lib.release(lib.nested_lines(3))
            types = [b.type for b in LeakTracker.snapshot()]
            assert types == ["strdup"] * 3, types
    """)


def test_an_object_that_is_closed_twice() -> None:
    """It is told and not passed on, where the allocator proves it."""
    code = """
        lib = opened("results")
        with LeakTracker.attach([lib]):
            for make, end in {!r}:
                block = getattr(lib, make)()
                getattr(lib, end)(block)
                getattr(lib, end)(block)
            told = [type(one).__name__ for one in LeakTracker.misuses()]
            print(told)
            LeakTracker.verify_no_leaks()
    """
    pairs = [
        ("open_file", "close_file"),
        ("open_locale", "close_locale"),
        ("open_converter", "close_converter"),
    ]
    text = "from c_library import *\n" + dedent(code.format(pairs))
    done = children.run(text, **child_environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(["DoubleFreeError"] * 3)
    assert done.stderr.count("double free") == 3, done.stderr


def test_sizes_of_objects_are_no_larger_than_their_blocks() -> None:
    """Else other blocks would lie inside them, and their frees be told."""
    child(f"""
        import ctypes
        usable = ctypes.CDLL(None).malloc_usable_size
        usable.argtypes = [ctypes.c_void_p]
        lib = opened("results")
        with LeakTracker.attach([lib]):
            for name in {[*OBJECTS, *BLOCKS]!r}:
                getattr(lib, name)(*[90] * ("text_of_stream" in name))
            for one in LeakTracker.snapshot():
                assert one.size <= usable(one.address), one
    """)
