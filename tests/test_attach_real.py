"""attach() to libraries as they are: a planted leak is found, else silence.

Each program is run once before, for what a library makes once and keeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from textwrap import dedent

import pytest
from c_library import FOLDER, child, child_environment
from needs import needs_hooks

pytestmark = [*needs_hooks, pytest.mark.slow]
PACKAGES = ("brotlicffi", "argon2-cffi-bindings", "pygit2", "lxml")


@cache
def installed() -> str:
    """Install packages from the index into a folder; skip if there is none.

    cffi stays the one that this interpreter has.
    """
    target = FOLDER / "packages"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    command += ["--only-binary=:all:", "--target", str(target)]
    missing = [
        name
        for name in PACKAGES
        if subprocess.run(
            [*command, name], capture_output=True, check=False
        ).returncode
    ]
    if len(missing) == len(PACKAGES):
        pytest.skip("no package index, or none of its packages fits")
    return os.pathsep.join((child_environment()["PYTHONPATH"], str(target)))


def check(setup: str, library: str, plant: str, **changes: str) -> None:
    """Check that ``work`` is silent and ``plant`` is found at its line.

    ``setup`` defines ``work``; ``plant`` is one line, after which
    ``remove`` in ``setup`` releases what it kept.
    """
    child(
        dedent(setup)
        + dedent(f"""
        work()
        gc.collect()
        with LeakTracker.attach([{library}]):
            work()
            work()
            gc.collect()
            assert LeakTracker.stats.allocations > 0, "nothing was recorded"
            found = LeakTracker.snapshot()
            assert len(found) == 0, "\\n".join(map(str, found[:10]))
            kept = {plant}; line = here()
            work()
            gc.collect()
            found = LeakTracker.snapshot()
            assert len(found) > 0
            assert {{b.frames[-1].lineno for b in found}} == {{line}}, found[:]
            remove(kept)
            del kept
            gc.collect()
            LeakTracker.verify_no_leaks()
        assert core.lib.flk_tracker_check()
        """),
        **changes,
    )


def needs(name: str) -> str:
    """Skip unless a shared library is here; return code that opens it."""
    from ctypes.util import find_library

    file = find_library(name)
    if file is None:
        pytest.skip(f"no lib{name} here")
    return file


def test_zlib() -> None:
    """Of the C library: deflateEnd forgotten."""
    check(
        f"""
        ffi = cffi.FFI()
        ffi.cdef("int deflateInit_(void *, int, char *, int);"
                 "int deflate(void *, int); int deflateEnd(void *);")
        z = ffi.dlopen({needs("z")!r})
        def start():
            stream = ffi.new("char[112]")
            assert z.deflateInit_(stream, 6, b"1.2", 112) == 0
            return stream
        def work():
            remove(start())
        def remove(stream):
            z.deflateEnd(stream)
        """,
        "z",
        "start()",
    )


def test_zlib_of_the_standard_library() -> None:
    """It gives zlib the interpreter's malloc: only include_python sees it."""
    child("""
        zlib = __import__("zlib")
        with LeakTracker.attach(include_python=True):
            kept = zlib.compressobj(); line = here()
            found = [b for b in LeakTracker.snapshot() if b.size > 5000]
            assert found and set(lines(found)) == {line}
            del kept
            assert [b for b in LeakTracker.snapshot() if b.size > 5000] == []
    """)


def test_expat() -> None:
    """A parser that is not freed."""
    check(
        f"""
        ffi = cffi.FFI()
        ffi.cdef("void *XML_ParserCreate(void *); void XML_ParserFree(void *);"
                 "int XML_Parse(void *, char *, int, int);")
        expat = ffi.dlopen({needs("expat")!r})
        text = b"<a>" + b"<b c='d'>text</b>" * 1000 + b"</a>"
        def start():
            parser = expat.XML_ParserCreate(ffi.NULL)
            assert expat.XML_Parse(parser, text, len(text), 1) == 1
            return parser
        def work():
            remove(start())
        def remove(parser):
            expat.XML_ParserFree(parser)
        """,
        "expat",
        "start()",
    )


def test_sqlite3_of_the_standard_library() -> None:
    """A connection that is not closed."""
    pytest.importorskip("_sqlite3")
    check(
        """
        import sqlite3, _sqlite3
        def start():
            db = sqlite3.connect(":memory:")
            db.execute("create table t(a, b)")
            rows = [(i, str(i) * 10) for i in range(1000)]
            db.executemany("insert into t values(?, ?)", rows)
            assert db.execute("select sum(a) from t").fetchone() == (499500,)
            return db
        def work():
            remove(start())
        def remove(db):
            db.close()
        """,
        "_sqlite3",
        "start()",
    )


def test_lxml() -> None:
    """A document that is kept."""
    need_package("lxml")
    check(
        """
        import lxml
        from lxml import etree
        text = "<a>" + "<b c='d'>text</b>" * 1000 + "</a>"
        def start():
            tree = etree.fromstring(text)
            assert len(tree.xpath("//b")) == 1000
            return tree
        def work():
            etree.tostring(start())
        def remove(tree):
            tree.clear()
        """,
        "lxml",
        "start()",
        PYTHONPATH=installed(),
    )


def need_package(module: str) -> None:
    """Skip unless the package index had it."""
    folder = installed().split(os.pathsep)[-1]
    if not os.path.isdir(os.path.join(folder, module)):
        pytest.skip(f"{module} cannot be installed")


def test_brotlicffi() -> None:
    """An encoder that is not destroyed."""
    need_package("brotlicffi")
    check(
        """
        import brotlicffi
        from brotlicffi._brotlicffi import ffi, lib
        def work():
            data = b"x" * 100_000
            assert brotlicffi.decompress(brotlicffi.compress(data)) == data
        def remove(encoder):
            lib.BrotliEncoderDestroyInstance(encoder)
        """,
        "brotlicffi",
        "lib.BrotliEncoderCreateInstance(ffi.NULL, ffi.NULL, ffi.NULL)",
        PYTHONPATH=installed(),
    )


def test_argon2() -> None:
    """It starts threads of its own and leaves nothing."""
    need_package("_argon2_cffi_bindings")
    child(
        """
        import _argon2_cffi_bindings as argon2
        from _argon2_cffi_bindings import ffi, lib

        def work():
            out = ffi.new("char[200]")
            status = lib.argon2_hash(2, 1024, 4, b"password", 8, b"saltsalt",
                                     8, ffi.NULL, 32, out, 200, 2, 19)
            assert status == 0

        work()
        with LeakTracker.attach([argon2]):
            for _ in range(5):
                work()
            assert LeakTracker.stats.allocations > 0
            LeakTracker.verify_no_leaks()
        """,
        PYTHONPATH=installed(),
    )


def test_pygit2() -> None:
    """A repository that is kept, with the threads and caches of libgit2."""
    need_package("pygit2")
    setup = """
        import atexit, shutil, tempfile
        import pygit2
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder)
        made = pygit2.init_repository(folder)
        def start():
            repository = pygit2.Repository(folder)
            repository.create_blob(b"x" * 1000)
            return repository
        def work():
            remove(start())
        def remove(repository):
            repository.free()
    """
    check(setup, "pygit2", "start()", PYTHONPATH=installed())
