"""The specifications of packages that come with this one."""

from __future__ import annotations

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
