"""Memory that watched extensions take from Python's allocators."""

from __future__ import annotations

import sys

import pytest
from c_library import FREE_THREADED, child
from needs import needs_hooks

pytestmark = needs_hooks

ALLOCATORS = ["default", "debug"]
if not FREE_THREADED:
    ALLOCATORS += ["malloc", "malloc_debug", "pymalloc"]
if sys.version_info >= (3, 13):
    ALLOCATORS += ["mimalloc", "mimalloc_debug"]


@pytest.mark.slow
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_each_function_of_each_domain(allocator: str) -> None:
    """Type, size, line and release; freed and moved, nothing is left."""
    code = """
        taking = python_module("taking")
        with LeakTracker.attach([taking]):
            for domain, name in (("raw", "PyMem_Raw"), ("mem", "PyMem_"),
                                 ("object", "PyObject_")):
                def call(what, *args):
                    return getattr(taking, f"{domain}_{what}")(*args)
                for size in (1, 24, 512, 513, 2000, 100_000):
                    blocks = [
                        call("malloc", size), call("calloc", size),
                        call("realloc", 0, size)]
                    first, second, third = LeakTracker.snapshot()
                    assert [b.type for b in (first, second, third)] == [
                        f"{name}Malloc", f"{name}Calloc", f"{name}Realloc"]
                    assert [b.size for b in (first, second, third)] == [
                        size, 2 * size, size]
                    assert first.release == f"{name}Free", first.release
                    assert "<module>" in [f.function for f in first.frames]
                    blocks[0] = call("realloc", blocks[0], 5 * size)
                    blocks[0] = call("realloc", blocks[0], 3 * size)
                    moved, *_ = LeakTracker.snapshot()
                    assert moved.sequence == first.sequence
                    assert (moved.size, moved.address) == (
                        3 * size, blocks[0]), moved
                    for block in blocks:
                        call("free", block)
                    LeakTracker.verify_no_leaks()
            assert LeakTracker.misuses() == ()
            assert LeakTracker.self_stats["missed_frees"] == 0
    """
    if allocator == "default":
        child(code)
    else:
        child(code, PYTHONMALLOC=allocator)


@pytest.mark.parametrize(
    "allocator", ["mimalloc" if FREE_THREADED else "pymalloc", "debug"]
)
def test_what_the_interpreter_frees(allocator: str) -> None:
    """The block of an object that the extension allocates by itself."""
    child(
        """
        taking = python_module("taking")
        with LeakTracker.attach([taking]):
            things = [taking.thing() for _ in range(1000)]; line = here()
            found = LeakTracker.snapshot()
            assert len(found) == 1000
            assert set(lines(found)) == {line}
            assert {b.type for b in found} == {"PyObject_Malloc"}
            del things
            LeakTracker.verify_no_leaks()
            assert LeakTracker.misuses() == ()
        """,
        PYTHONMALLOC=allocator,
    )


def test_objects_of_the_interpreter_stay_out() -> None:
    """Those that it makes when the extension calls it."""
    child("""
        taking = python_module("taking")
        with LeakTracker.attach([taking]):
            before = LeakTracker.stats.allocations
            kept = taking.objects(1000)
            assert len(LeakTracker.snapshot()) == 0
            block = taking.object_malloc(56)
            more = [taking.objects(100) for _ in range(100)]
            del kept, more
            assert sizes(LeakTracker.snapshot()) == [56]
            assert LeakTracker.stats.allocations == before + 1
            taking.object_free(block)
    """)


def test_texts_that_the_interpreter_makes_for_an_extension() -> None:
    """Their size is that of the text."""
    child("""
        taking = python_module("taking")
        with LeakTracker.attach([taking]):
            blocks = taking.wide("hello"), taking.encoded("hello")
            found = LeakTracker.snapshot()
            assert [b.type for b in found] == [
                "PyUnicode_AsWideCharString", "Py_EncodeLocale"]
            assert [b.size for b in found] == [24, 6]
            assert {b.release for b in found} == {"PyMem_Free"}
            for block in blocks:
                taking.mem_free(block)
            LeakTracker.verify_no_leaks()
    """)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize("how", ["abi", "api", "ctypes"])
def test_a_library_that_takes_raw_memory(how: str, level: str) -> None:
    """Attached before and after its first call; tail calls too."""
    child(f"""
        import ctypes
        how, level = {how!r}, {level!r}
        def load():
            if how == "abi":
                lib = opened("raw", level, as_name="raw" + level[1:])
                return lib, lib
            if how == "api":
                name = "raw_api" + level[1:]
                sys.path.insert(0, str(extension(name, "raw", level)))
                module = __import__(name)
                return module, module.lib
            lib = ctypes.CDLL(path("raw", level, as_name="raw" + level[1:]))
            lib.take.restype = lib.take_zeroed.restype = ctypes.c_void_p
            lib.resize.restype = ctypes.c_void_p
            lib.give.argtypes = [ctypes.c_void_p]
            lib.resize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
            return lib, lib
        def use():
            one = lib.take(2000); line = here()
            two = lib.take_zeroed(100)
            one = lib.resize(one, 3000)
            found = LeakTracker.snapshot()
            assert [b.size for b in found] == [3000, 100], found
            assert lines(found) == [line, line + 1]
            lib.give(one), lib.give(two)
            LeakTracker.verify_no_leaks()
        library, lib = load()
        with LeakTracker.attach([library]):
            use()
        use_before = lib.take(10)
        with LeakTracker.attach([library]):
            lib.give(use_before)
            use()
            assert LeakTracker.misuses() == ()
    """)


def test_looked_up_functions_of_the_interpreter() -> None:
    """A call through ctypes is the user's."""
    child("""
        import ctypes
        with LeakTracker.attach():
            api = ctypes.PyDLL(None)
            api.PyMem_RawMalloc.restype = ctypes.c_void_p
            api.PyMem_RawFree.argtypes = [ctypes.c_void_p]
            block = api.PyMem_RawMalloc(2222)
            types = {b.type for b in LeakTracker.snapshot()
                     if b.size == 2222}
            assert types == {"PyMem_RawMalloc"}, types
            api.PyMem_RawFree(block)
            assert 2222 not in sizes(LeakTracker.snapshot())
    """)


@pytest.mark.skipif(FREE_THREADED, reason="no domain is malloc")
def test_the_wrong_domain_is_told() -> None:
    """It is harmless where all domains are malloc, and fatal elsewhere."""
    child(
        """
        taking = python_module("taking")
        with LeakTracker.attach([taking]):
            taking.mem_free(taking.raw_malloc(600))
            taking.object_free(taking.mem_malloc(30))
            told = [str(one) for one in LeakTracker.misuses()]
            assert len(told) == 2, told
            assert "release it by PyMem_RawFree" in told[0], told
            assert "release it by PyMem_Free" in told[1], told
            LeakTracker.verify_no_leaks()
        """,
        PYTHONMALLOC="malloc",
    )


def test_only_domains_in_use_are_wrapped_and_only_while_attached() -> None:
    """Plain Python code runs the interpreter's own functions."""
    child("""
        taking = python_module("taking")
        before = taking.frees()
        with LeakTracker.attach([taking]):
            taking.objects(10)
            assert taking.frees() == before
            block = taking.raw_malloc(10)
            wrapped = [a != b for a, b in zip(taking.frees(), before)]
            assert wrapped == [True, False, False]
            other = taking.object_malloc(10)
            wrapped = [a != b for a, b in zip(taking.frees(), before)]
            assert wrapped == [True, False, True]
        assert taking.frees() == before
        taking.raw_free(block), taking.object_free(other)
        with LeakTracker.attach([taking]):
            taking.raw_free(taking.raw_malloc(10))
            LeakTracker.verify_no_leaks()
        assert taking.frees() == before
    """)


@pytest.mark.parametrize("first", [True, False])
def test_beside_tracemalloc(first: bool) -> None:
    """It wraps the same functions, above these or below them."""
    child(f"""
        import tracemalloc
        taking = python_module("taking")
        def use():
            for name in ("raw", "mem", "object"):
                block = getattr(taking, name + "_malloc")(100)
                assert sizes(LeakTracker.snapshot()) == [100]
                getattr(taking, name + "_free")(block)
                LeakTracker.verify_no_leaks()
        if {first}:
            tracemalloc.start()
        for _ in range(3):
            with LeakTracker.attach([taking]):
                use()
                tracemalloc.stop() if {first} else tracemalloc.start()
                LeakTracker.snapshot()
                use()
                tracemalloc.start() if {first} else tracemalloc.stop()
                LeakTracker.snapshot()
                use()
            tracemalloc.start()
        tracemalloc.stop()
        with LeakTracker.attach([taking]):
            use()
        taking.objects(100)
    """)


def test_beside_the_interpreter_as_a_watched_library() -> None:
    """What it takes from malloc for the extension is one block."""
    child("""
        taking = python_module("taking")
        with LeakTracker.attach(include_python=True):
            kept = [taking.mem_malloc(54_321), taking.raw_malloc(54_321)]
            assert sizes(LeakTracker.snapshot()).count(54_321) == 2
            types = {b.type for b in LeakTracker.snapshot()
                     if b.size == 54_321}
            assert types == {"PyMem_Malloc", "PyMem_RawMalloc"}, types
            taking.mem_free(kept[0]), taking.raw_free(kept[1])
            assert 54_321 not in sizes(LeakTracker.snapshot())
            assert LeakTracker.misuses() == ()
    """)


def test_modules_of_the_interpreter_take_its_memory_for_it() -> None:
    """They are recorded so only where a pattern names them."""
    child("""
        import array, pickle, json, struct
        def types_with(*libraries):
            with LeakTracker.attach(*libraries):
                kept = [array.array("d", range(1000)), struct.Struct("iid"),
                        pickle.dumps([1] * 1000), json.loads('{"a": [1]}')]
                types = {b.type for b in LeakTracker.snapshot()}
            return [one for one in types if one.startswith("Py")]
        assert types_with() == []
        if hasattr(array, "__file__"):  # else it is built in
            assert types_with([array]) != []
    """)


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_interpreter_itself_takes_its_memory(order: str) -> None:
    """Its modules may be loaded later, its slots may be bound later."""
    child(f"""
        if {order!r} == "before":
            import array, _json, _pickle, _struct
        with LeakTracker.attach():
            import array, json, pickle, struct
            kept = [array.array("d", range(1000)), struct.Struct("iid"),
                    pickle.dumps([1] * 1000), json.loads('{{"a": [1]}}'),
                    bytes(8), bytearray(2000), "a" * 3000]
            types = [b.type for b in LeakTracker.snapshot()]
            assert not [one for one in types if one.startswith("Py")], types
            made = LeakTracker.stats.allocations
            kept += [bytes(count) for count in range(1000)]
            assert LeakTracker.stats.allocations == made
    """)


def test_threads_without_the_gil() -> None:
    """Raw memory, from several threads, freed by others."""
    child("""
        taking = python_module("taking")
        blocks = []
        def take():
            for _ in range(2000):
                blocks.append(taking.in_a_thread(700))
        def give():
            for _ in range(1000):
                taking.raw_free(blocks.pop())
        def run(*functions):
            threads = [threading.Thread(target=f) for f in functions]
            for one in threads: one.start()
            for one in threads: one.join()
        with LeakTracker.attach([taking]):
            run(take, take, take, take)
            assert len(LeakTracker.snapshot()) == 8000
            run(give, take, give, give, take)
            assert len(LeakTracker.snapshot()) == 9000
            for block in blocks:
                taking.raw_free(block)
            LeakTracker.verify_no_leaks()
            assert LeakTracker.self_stats["missed_frees"] == 0
    """)


def test_over_a_fork() -> None:
    """A child frees what it inherited, and records its own."""
    child("""
        taking = python_module("taking")
        with LeakTracker.attach([taking]):
            block = taking.mem_malloc(40)
            if not (one := os.fork()):
                taking.mem_free(block)
                own = taking.mem_malloc(50)
                found = sizes(LeakTracker.snapshot())
                taking.mem_free(own)
                os._exit(found != [50] or len(LeakTracker.snapshot()))
            assert os.waitpid(one, 0)[1] == 0
            assert sizes(LeakTracker.snapshot()) == [40]
            taking.mem_free(block)
            LeakTracker.verify_no_leaks()
    """)


def test_a_sample_a_reset_and_an_end() -> None:
    """What is not recorded any more is freed in silence."""
    child("""
        taking = python_module("taking")
        with LeakTracker.attach([taking], sample_bytes=1000):
            blocks = [taking.mem_malloc(100) for _ in range(1000)]
            blocks = [taking.mem_realloc(b, 120) for b in blocks]
            assert 0 < len(LeakTracker.snapshot()) < 600
            for block in blocks:
                taking.mem_free(block)
            assert not LeakTracker.has_leaks
        with LeakTracker.attach([taking]):
            blocks = [taking.mem_malloc(100) for _ in range(1000)]
            LeakTracker.reset()
            for block in blocks:
                taking.mem_free(block)
            blocks = [taking.mem_malloc(100) for _ in range(1000)]
            assert len(LeakTracker.snapshot()) == 1000
        for block in blocks:
            taking.mem_free(block)
        assert LeakTracker.misuses() == ()
        LeakTracker.attach([taking])
        kept = [taking.thing(), taking.mem_malloc(30), taking.raw_malloc(30)]
    """)
