"""The specifications of packages that come with this one."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._handles import spec_files
from ffi_leak_tracker.handles import attach_module, instrument

pytestmark = pytest.mark.skipif(not spec_files._has_toml(), reason="no tomllib")
MODULES = spec_files.known_modules()
#: Modules in ABI mode: where their lib is.
LIBS = {
    "cairocffi.ffi": ("cairocffi", "cairo"),
    "_soundfile": ("soundfile", "_snd"),
}
#: Names that only some versions or systems have.
RARE = {"cairocffi.ffi", "pymunk._chipmunk", "zstandard._cffi", "_soundfile"}


def libraries(module: str) -> tuple[Any, Any]:
    """Return ffi and lib of a module, or skip."""
    pytest.importorskip(module)
    ffi = import_module(module).ffi
    home, name = LIBS.get(module, (module, "lib"))
    try:
        return ffi, getattr(import_module(home), name)
    except (ImportError, OSError) as error:
        pytest.skip(str(error))


def test_there_are_five_packages_at_least() -> None:
    """They are found by the name of the module."""
    assert len(MODULES) >= 5
    for module in MODULES:
        found = spec_files.of_module(module, "/")
        assert found is not None
        assert len(found[0])
        assert found[1].startswith(module)


@pytest.mark.parametrize("module", MODULES)
def test_a_specification_fits_the_installed_package(module) -> None:
    """Each word fits the types of the functions that it names."""
    ffi, lib = libraries(module)
    spec, _ = spec_files.of_module(module, "/") or (None, "")
    assert spec is not None
    if module not in RARE:
        assert spec.unknown(dir(lib)) == []
    instrument(ffi, lib, spec, strict=False)


def written(argument: Any) -> Callable[[Any, Any, str], Any]:
    """Return a constructor that writes its object to a box."""

    def make(ffi: Any, lib: Any, name: str) -> Any:
        box = ffi.new("void **")
        function = getattr(lib, name)
        assert function(ffi.cast(ffi.typeof(function).args[0], box)) == argument
        return ffi.cast(ffi.typeof(function).args[0].item, box[0])

    return make


def called(*given: Any) -> Callable[[Any, Any, str], Any]:
    """Return a constructor with these arguments; None is NULL."""

    def make(ffi: Any, lib: Any, name: str) -> Any:
        words = [ffi.NULL if word is None else word for word in given]
        return getattr(lib, name)(*words)

    return make


def to_a_file(ffi: Any, lib: Any, name: str) -> Any:
    info = ffi.new("SF_INFO *", (0, 8000, 1, 0x10002, 0, 0))
    return getattr(lib, name)(os.devnull.encode(), 0x20, info)


#: A leak in each package: the constructor, what frees its object, the call.
PLANTED = {
    "_miniaudio": ("malloc", "free", called(100)),
    "_soundfile": ("sf_open", "sf_close", to_a_file),
    "brotlicffi._brotlicffi": (
        "BrotliEncoderCreateInstance",
        "BrotliEncoderDestroyInstance",
        called(None, None, None),
    ),
    "cairocffi.ffi": (
        "cairo_image_surface_create",
        "cairo_surface_destroy",
        called(0, 8, 8),
    ),
    "cmarkgfm._cmark": ("cmark_parser_new", "cmark_parser_free", called(0)),
    "curl_cffi._wrapper": ("curl_easy_init", "curl_easy_cleanup", called()),
    "pygit2._libgit2": ("git_config_new", "git_config_free", written(0)),
    "pymunk._chipmunk": ("cpSpaceNew", "cpSpaceFree", called()),
    "zstandard._cffi": ("ZSTD_createCCtx", "ZSTD_freeCCtx", called()),
}


@pytest.mark.parametrize("module", MODULES)
def test_a_leak_in_each_package_is_named(module) -> None:
    """By its function, what frees it, and its line; until it is freed."""
    libraries(module)
    constructor, destructor, make = PLANTED[module]
    with attach_module(module), LeakTracker.scope(isolated=True) as scope:
        ffi, lib = libraries(module)
        one = make(ffi, lib, constructor)
        assert one
        (leak,) = [b for b in scope.snapshot() if b.kind == constructor]
        assert destructor in leak.release
        assert leak.frames[0].filename == __file__
        assert leak.frames[0].function == make.__qualname__
        getattr(lib, destructor)(one)
        assert constructor not in {b.kind for b in scope.snapshot()}


def test_the_leak_of_cmarkgfm_is_named() -> None:
    """A parser, a tree and a text for each call, at their lines."""
    cmarkgfm = pytest.importorskip("cmarkgfm")
    with (
        attach_module("cmarkgfm._cmark"),
        LeakTracker.scope(isolated=True) as scope,
    ):
        cmarkgfm.github_flavored_markdown_to_html("*text*")
        found = {(one.type, one.kind) for one in scope.snapshot()}
    assert ("char", "cmark_render_html") in found
    assert any(kind == "cmark_parser_finish" for _, kind in found)
    scope.reset()
