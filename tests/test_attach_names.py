"""Libraries as people name them: paths, links, names, modules, wheels."""

from __future__ import annotations

import os
import subprocess
import textwrap
from functools import cache
from pathlib import Path

import cffi
import pytest
from c_library import (
    COMPILER,
    FLAGS,
    FOLDER,
    child,
    child_environment,
    declarations,
    source,
)
from needs import needs_hooks

pytestmark = needs_hooks


@cache
def versions() -> Path:
    """Return a folder: libshelf.so.1.2, two links to it, another library."""
    folder = FOLDER / "versions"
    folder.mkdir()
    for name, code in (("libshelf.so.1.2", "plain"), ("libbook.so", "plain")):
        command = [COMPILER, *FLAGS, "-shared", "-fPIC", source(code)]
        subprocess.run([*command, "-o", folder / name], check=True)
    for link in ("libshelf.so.1", "libshelf.so"):
        (folder / link).symlink_to("libshelf.so.1.2")
    linked = FOLDER / "linked"
    linked.symlink_to(folder)
    return folder


LOADED = {
    "real path": "./libshelf.so.1.2",
    "link": "./libshelf.so",
    "absolute": "{folder}/libshelf.so.1.2",
    "absolute link": "{folder}/libshelf.so.1",
    "linked folder": "{folder}/../linked/libshelf.so.1.2",
    "relative": "../versions/libshelf.so.1",
}
#: Each names libshelf and not libbook.
NAMES = {
    "stem": "'shelf'",
    "lib": "'libshelf'",
    "suffix": "'libshelf.so'",
    "suffix without lib": "'shelf.so'",
    "version": "'libshelf.so.1'",
    "whole version": "'libshelf.so.1.2'",
    "pattern": "'libshelf*'",
    "pattern of paths": "folder + '/libsh*'",
    "relative pattern": "'./libsh*'",
    "pattern in a linked folder": "folder + '/../linked/libsh*'",
    "real path": "folder + '/libshelf.so.1.2'",
    "absolute link": "folder + '/libshelf.so'",
    "linked folder": "folder + '/../linked/libshelf.so.1'",
    "relative": "'./libshelf.so.1.2'",
    "relative link": "'../versions/libshelf.so'",
    "Path": "pathlib.Path(folder) / 'libshelf.so.1'",
    "relative Path": "pathlib.Path('libshelf.so')",
    "Path from elsewhere": "pathlib.Path('../versions/libshelf.so.1.2')",
}
_NAMES_CODE = """
    import ctypes, _ctypes, pathlib, warnings
    folder = {folder!r}
    os.chdir(folder)
    book = ctypes.CDLL(folder + "/libbook.so")

    def taken(before):
        def load():
            return ctypes.CDLL({loaded!r}.format(folder=folder))
        early = None if before else load()
        with LeakTracker.attach([{name}]) as handle:
            lib = early or load()
            os.chdir("/")
            lib.take(30)
            book.take(40)
            found = LeakTracker.snapshot()
            files = [one.name for one in handle.libraries]
            assert handle.unmatched == (), handle.unmatched
            assert handle.libraries[0].blocks == 1, handle.libraries
        os.chdir(folder)
        LeakTracker.reset()
        _ctypes.dlclose(lib._handle)
        assert found.notes == (), found.notes
        return sizes(found), files

    warnings.simplefilter("error")
    for before in (True, False):
        found, files = taken(before)
        assert found == [30], (before, found)
        assert len(files) == 1 and files[0].startswith("libshelf.so"), files
"""


@pytest.mark.slow
@pytest.mark.parametrize("loaded", LOADED.values(), ids=LOADED)
def test_a_library_is_named_as_people_write_it(loaded) -> None:
    """Whatever path it is loaded by, before the attach or after it."""
    code = "".join(
        textwrap.dedent(_NAMES_CODE).format(
            folder=str(versions()), loaded=loaded, name=name
        )
        for name in NAMES.values()
    )
    child(code)


OTHERS = {
    "another stem": "'shel'",
    "a longer stem": "'shelff'",
    "another version": "'libshelf.so.2'",
    "a version that begins alike": "'libshelf.so.12'",
    "another folder": "'/usr/lib/libshelf.so.1'",
    "another relative path": "'../libshelf.so'",
    "a pattern of another folder": "'/usr/*/libshelf*'",
    "a Path to another folder": "pathlib.Path('/usr/lib/libshelf.so')",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS.values(), ids=OTHERS)
def test_another_name_is_no_match(name) -> None:
    """Nothing is recorded, and the report says that nothing matches."""
    child(f"""
        import ctypes, pathlib, warnings
        folder = {str(versions())!r}
        os.chdir(folder)
        lib = ctypes.CDLL("./libshelf.so.1")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with LeakTracker.attach([{name}]) as handle:
                lib.take(30)
                found = LeakTracker.snapshot()
                assert handle.unmatched == (str({name}),)
                assert handle.libraries == ()
        assert len(found) == 0
        said = 'no loaded library matches "' + str({name}) + '"'
        assert any(note.startswith(said) for note in found.notes), found.notes
        assert len(caught) == 1 and said in str(caught[0].message)
    """)


OBJECTS = {
    "dlopen of a link": "ffi.dlopen('./libshelf.so')",
    "dlopen of a real path": "ffi.dlopen(folder + '/libshelf.so.1.2')",
    "out-of-line ABI": "abi.ffi.dlopen('./libshelf.so.1')",
    "CDLL of a link": "ctypes.CDLL('./libshelf.so.1')",
    "CDLL of a path": "ctypes.CDLL(folder + '/libshelf.so')",
    "CDLL of a Path": "ctypes.CDLL(str(pathlib.Path('libshelf.so').resolve()))",
    "PyDLL": "ctypes.PyDLL(folder + '/../linked/libshelf.so')",
    "by name": "ctypes.CDLL('libshelf.so.1')",
    "dlopen by name": "ffi.dlopen('libshelf.so')",
}


@pytest.mark.slow
@pytest.mark.parametrize("made", OBJECTS.values(), ids=OBJECTS)
def test_a_library_is_named_by_its_object(made) -> None:
    """Of cffi's ABI modes and of ctypes, after a change of the folder too."""
    folder = str(versions())
    for change in ("", "os.chdir('/')"):
        child(
            f"""
            import ctypes, pathlib
            folder = {folder!r}
            os.chdir(folder)
            build = cffi.FFI()
            build.cdef("void *take(size_t size);")
            build.set_source("_abi_shelf", None)
            build.compile("/tmp/" + os.path.basename({str(FOLDER)!r}))
            sys.path.append("/tmp/" + os.path.basename({str(FOLDER)!r}))
            import _abi_shelf as abi
            ffi = cffi.FFI()
            ffi.cdef("void *take(size_t size);")
            lib = {made}
            book = ctypes.CDLL(folder + "/libbook.so")
            {change}
            with LeakTracker.attach([lib]) as handle:
                lib.take(30), book.take(40)
                assert sizes(LeakTracker.snapshot()) == [30]
                assert handle.unmatched == ()
                assert handle.libraries[0].name.startswith("libshelf.so")
            """,
            LD_LIBRARY_PATH=folder,
        )


def test_what_has_no_file_is_refused() -> None:
    """The program's own names; modules of Python; None."""
    child("""
        import ctypes, json
        for bad, error in (
            (cffi.FFI().dlopen(None), ValueError),
            (ctypes.CDLL(None), ValueError),
            (sys, ValueError),
            (json.decoder, ValueError),
            ("", ValueError),
            (None, TypeError),
            (3, TypeError),
        ):
            for options in ({}, {"exclude": [bad]}):
                libraries = None if options else [bad]
                try:
                    LeakTracker.attach(libraries, **options)
                except error:
                    continue
                raise AssertionError(bad)
        assert LeakTracker.attachments == ()
    """)


# --- wheels ---------------------------------------------------------------
@cache
def wheel() -> Path:
    """Return a folder like site-packages, with an installed wheel.

    shelf_dist has a package shelfpkg, whose extension is linked to a library
    in shelf_dist.libs, and a module _shelftop.
    """
    site = FOLDER / "site"
    package, bundle = site / "shelfpkg", site / "shelf_dist.libs"
    for one in (package, bundle):
        one.mkdir(parents=True)
    library = bundle / "libshelf-0f1e2d3c.so.1.2"
    command = [COMPILER, *FLAGS, "-shared", "-fPIC", source("plain")]
    soname = f"-Wl,-soname,{library.name}"
    subprocess.run([*command, soname, "-o", library], check=True)
    for name, where, origin in (
        ("shelfpkg._api", package, "$ORIGIN/../shelf_dist.libs"),
        ("_shelftop", site, "${ORIGIN}/shelf_dist.libs"),
    ):
        ffi = cffi.FFI()
        ffi.cdef(declarations("plain"))
        ffi.set_source(
            name,
            declarations("plain"),
            extra_link_args=[str(library), f"-Wl,-rpath,{origin}"],
        )
        ffi.compile(str(site))
        for left in where.glob("*.[co]"):
            left.unlink()
    (package / "__init__.py").write_text("")
    facts = site / "shelf_dist-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Name: shelf-dist\nVersion: 1.0\n")
    files = [one for one in site.rglob("*.so*") if one.is_file()]
    rows = [f"{one.relative_to(site)},,\n" for one in files]
    (facts / "RECORD").write_text("".join(rows))
    return site


PACKAGES = {
    "package": "shelfpkg",
    "name of the package": "'shelfpkg'",
    "distribution": "'shelf-dist'",
    "distribution in other letters": "'Shelf_Dist'",
    "folder": "os.path.dirname(shelfpkg.__file__) + '/../shelf_dist.libs'",
    "Path of a folder": "pathlib.Path(site) / 'shelf_dist.libs'",
    "module": "shelfpkg._api",
    "lib": "shelfpkg._api.lib",
    "name of the module": "'shelfpkg._api'",
    "name of the library": "'shelf'",
    "name of the library with lib": "'libshelf'",
    "its file": "'libshelf-0f1e2d3c.so.1.2'",
    "top module": "_shelftop",
    "name of the top module": "'_shelftop'",
    "lib of the top module": "_shelftop.lib",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES.values(), ids=PACKAGES)
def test_an_installed_wheel_is_named(name) -> None:
    """By package, distribution, module or library: the bundled library."""
    site = str(wheel())
    environment = child_environment()
    path = environment["PYTHONPATH"] + os.pathsep + site
    early = not any(word in name for word in ("__file__", "._api", "top"))
    child(
        f"""
        import ctypes, pathlib
        site = {site!r}

        def check():
            lib.give(lib.take(10)), lib.take(30), book.take(40)
            found = LeakTracker.snapshot()
            assert sizes(found) == [30], found
            assert handle.unmatched == (), handle.unmatched
            names = [one.name for one in handle.libraries]
            assert "libshelf-0f1e2d3c.so.1.2" in names, names

        book = ctypes.CDLL({str(versions() / "libbook.so")!r})
        if {name!r} == "shelfpkg":
            import shelfpkg
        if {early}:
            with LeakTracker.attach([{name}]) as handle:
                assert handle.unmatched != () or handle.libraries == ()
                import shelfpkg._api
                lib = shelfpkg._api.lib
                check()
            LeakTracker.reset()
        import _shelftop, shelfpkg._api
        lib = shelfpkg._api.lib
        with LeakTracker.attach([{name}]) as handle:
            check()
        with LeakTracker.attach(exclude=[{name}]):
            lib.take(50)
            assert 50 not in sizes(LeakTracker.snapshot())
        """,
        PYTHONPATH=path,
    )


def test_a_package_of_python_matches_nothing() -> None:
    """It has no library, and the report says so."""
    child("""
        import json, warnings
        warnings.simplefilter("ignore")
        for one in ("json", json):
            with LeakTracker.attach([one]) as handle:
                assert handle.unmatched == ("json",)
                note = LeakTracker.snapshot().notes[0]
                assert 'no loaded library matches "json"' in note
    """)


# --- near misses ------------------------------------------------------------
MISSES = {
    "shelff": "shelf",
    "libshelff": "libshelf.so.1.2",
    "libshelv.so": "libshelf.so.1.2",
    "shef*": "shelf",
    "{folder}/libshelf.so.3": "{folder}/libshelf.so.1.2",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISSES)
def test_a_near_miss_is_suggested(name) -> None:
    """In the form that was written: a stem, a file, a path."""
    folder = str(versions())
    meant = MISSES[name].format(folder=folder)
    name = name.format(folder=folder)
    child(f"""
        import ctypes, warnings
        warnings.simplefilter("ignore")
        ctypes.CDLL({folder!r} + "/libshelf.so.1.2")
        with LeakTracker.attach([{name!r}]):
            note = LeakTracker.snapshot().notes[0]
        said = 'matches "' + {name!r} + '" (did you mean "' + {meant!r} + '"?),'
        assert said in note, note
    """)


def test_nothing_similar_is_not_suggested() -> None:
    """A name far from all others is said as it is."""
    child("""
        import warnings
        warnings.simplefilter("ignore")
        with LeakTracker.attach(["qqqqqqqq", "libnope*"]):
            note = LeakTracker.snapshot().notes[0]
        assert 'matches "libnope*", "qqqqqqqq", so nothing' in note, note
    """)


# --- what is watched ----------------------------------------------------------
def test_attachments_and_their_libraries() -> None:
    """The query hooks nothing; each lists its libraries with live blocks."""
    child(
        """
        lib, other = opened("plain"), opened("callbacks")
        assert LeakTracker.attachments == ()
        assert not LeakTracker.enabled
        with LeakTracker.attach([lib], native_depth=4) as outer:
            assert LeakTracker.attachments == (outer,)
            lib.take(10), lib.give(lib.take(20)), lib.take(30)
            (one,) = outer.libraries
            assert (one.name, one.path) == ("libplain.so", path("plain"))
            assert (one.blocks, one.bytes) == (2, 40)
            with LeakTracker.attach(["callbacks", "nope"]) as inner:
                assert LeakTracker.attachments == (outer, inner)
                other.take(5)
                found = {
                    one.name: (one.blocks, one.bytes)
                    for each in LeakTracker.attachments
                    for one in each.libraries
                }
                assert inner.unmatched == ("nope",)
                assert outer.unmatched == ()
                inner.detach()
            assert LeakTracker.attachments == (outer,)
            assert inner.libraries == ()
        assert LeakTracker.attachments == ()
        print(found)
    """,
        "-W",
        "ignore::RuntimeWarning",
    )


def test_blocks_are_told_apart_or_said_not_to_be() -> None:
    """Without native frames the blocks of two libraries are not counted."""
    child("""
        lib, other = opened("plain"), opened("callbacks")
        with LeakTracker.attach([lib, other]) as handle:
            assert [one.blocks for one in handle.libraries] == [0, 0]
            lib.take(10)
            assert [one.blocks for one in handle.libraries] == [None, None]
        with LeakTracker.attach([lib]) as handle:
            assert [one.blocks for one in handle.libraries] == [0]
            lib.take(10)
            assert [one.blocks for one in handle.libraries] == [1]
        with LeakTracker.attach() as handle:
            names = [one.name for one in handle.libraries]
            assert {"libplain.so", "libcallbacks.so"} <= set(names)
            assert not [one for one in names if one.startswith("libc.so")]
        with LeakTracker.attach(exclude=["plain"]) as handle:
            names = [one.name for one in handle.libraries]
            assert "libplain.so" not in names
            assert "libcallbacks.so" in names
    """)


def test_attached_is_deprecated() -> None:
    """It attaches still, and names what to call; attach() is silent."""
    child("""
        import warnings
        lib = opened("plain")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with LeakTracker.attached([lib], native_depth=2) as handle:
                assert handle.attached
                lib.take(10)
                assert sizes(LeakTracker.snapshot()) == [10]
            (warning,) = caught
            assert warning.category is DeprecationWarning
            assert "LeakTracker.attach()" in str(warning.message)
            assert "LeakTracker.attachments" in str(warning.message)
            assert warning.filename == "<string>"
            with LeakTracker.attach([lib]):
                pass
            assert len(caught) == 1
    """)
