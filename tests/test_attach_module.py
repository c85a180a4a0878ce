"""``attach_module``: a package that is not changed, before and after import."""

from __future__ import annotations

import gc
import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from c_library import COMPILER, path
from handle_library import SPEC, VARIABLES, module_file

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._handles.attach_module import unmet
from ffi_leak_tracker._handles.spec_files import to_toml
from ffi_leak_tracker.handles import (
    Spec,
    SpecError,
    attach_module,
    attached_modules,
)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
USER = """
import forest._trees
from forest import _trees
from forest._trees import ffi, lib
from forest._trees.lib import tree_new as make, tree_free, SMALL

new = ffi.new

class Tree:
    library = lib
    def __init__(self):
        self.pointer = ffi.gc(lib.tree_new(), lib.tree_free)

class Bare:
    def __init__(self, make=make, *, free=tree_free):
        self.pointer, self.free = make(), free

class Late:
    def __init__(self):
        self.pointer = _trees.lib.tree_new()
"""
TREE = ("struct tree", "tree_new", "tree_free")


@pytest.fixture
def forest(tmp_path: Path, monkeypatch: Any) -> Any:
    """Make a package with a compiled module, and a module that uses it."""
    folder = tmp_path / "forest"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "user.py").write_text(USER)
    compiled = module_file("forest._trees")
    (folder / compiled.name).symlink_to(compiled)
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget()
    yield folder
    for one in attached_modules():
        one.close()
    _forget()


def _forget() -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "forest":
            del sys.modules[name]
    importlib.invalidate_caches()


def live(scope: Any) -> list[tuple[str, str, str]]:
    """Return type, kind and release of what lives in a scope."""
    gc.collect()
    found = scope.snapshot()
    return sorted((one.type, one.kind, one.release) for one in found)


def use(user: Any) -> None:
    """Make an object in each way, and check the records."""
    with LeakTracker.scope(isolated=True) as scope:
        kept: list[Any] = [user.Tree()]
        assert live(scope) == [TREE]
        kept.append(user.Late())
        kept.append(user.Bare())
        assert live(scope) == [TREE] * 3
        kept[2].free(kept[2].pointer)
        kept.append(user.Tree.library.tree_new())
        kept.append(user.new("int *"))
        assert live(scope) == [("int", "ffi.new", "gc"), TREE, TREE, TREE]
        user.lib.tree_free(kept[1].pointer)
        user.lib.tree_free(kept[3])
        kept.clear()
        assert not live(scope)
        assert user.SMALL == 3


def raw_names(user: Any) -> list[Any]:
    """Return the objects to which names of the package are bound."""
    return [
        user._trees.ffi,
        user._trees.lib,
        user.ffi,
        user.lib,
        user.make,
        user.tree_free,
        user.Tree.library,
        user.Bare.__init__.__defaults__[0],
        user.Bare.__init__.__kwdefaults__["free"],
        sys.modules["forest._trees.lib"],
    ]


@pytest.mark.slow
def test_before_the_import(forest) -> None:
    """The names are bound to the wrappers from the start; then undone."""
    hooks = list(sys.meta_path)
    with attach_module("forest._trees", SPEC) as attached:
        assert not attached.loaded
        assert attached_modules() == (attached,)
        from forest import user

        assert attached.loaded
        assert user._trees.__spec__.loader is user._trees.__loader__
        assert type(user._trees.__loader__).__name__ == "ExtensionFileLoader"
        use(user)
    assert sys.meta_path == hooks
    assert attached_modules() == ()
    names = raw_names(user)
    assert type(names[0]).__name__ == "FFI"
    assert {type(one).__name__ for one in names[4:6]} == {
        "builtin_function_or_method"
    }
    with LeakTracker.scope(isolated=True) as scope:
        user.Bare().free(user.Late().pointer)
        assert not live(scope)


@pytest.mark.slow
def test_after_the_import(forest) -> None:
    """Names that are bound early are bound anew; then undone exactly."""
    from forest import user

    before = raw_names(user)
    new = user.new
    attached = attach_module("forest._trees", SPEC)
    assert attached.loaded
    use(user)
    attached.close()
    attached.close()
    assert all(a is b for a, b in zip(before, raw_names(user), strict=True))
    assert user.new == new
    assert not attached.active
    assert "closed" in repr(attached)


def test_what_kept_a_wrapper_records_no_more(forest) -> None:
    """An object made before the end is removed when it is freed after it."""
    attached = attach_module("forest._trees", SPEC)
    from forest import user

    lib = user.lib
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.tree_new()
        attached.close()
        two = lib.tree_new()
        assert live(scope) == [TREE]
        lib.tree_free(one)
        lib.tree_free(two)
        assert not live(scope)


@pytest.mark.slow
def test_the_specification_is_found(forest, monkeypatch) -> None:
    """In pyproject.toml; else what ``suggest`` is sure of."""
    with attach_module("forest._trees") as attached:
        from forest import user

        assert attached.source == "suggested"
        with LeakTracker.scope(isolated=True) as scope:
            one = user.lib.tree_new()
            assert [first for first, _, _ in live(scope)] == ["struct tree"]
            user.lib.tree_free(one)
            assert not live(scope)
    if sys.version_info < (3, 11):
        return
    table = to_toml(Spec(SPEC)).replace(
        "[functions]", '[tool.ffi_leak_tracker.handles."forest._trees"]'
    )
    (forest / "pyproject.toml").write_text(table)
    monkeypatch.chdir(forest)
    with attach_module("forest._trees") as attached:
        assert attached.source.endswith("pyproject.toml")
        use(user)


ABI_USER = """
from _forest_abi import ffi
library = ffi.dlopen({path!r})
make = library.tree_new
"""
INLINE_USER = """
from cffi import FFI
ffi = FFI()
ffi.cdef({text!r})
library = ffi.dlopen({path!r})
make = library.tree_new
"""


@pytest.fixture
def abi(tmp_path: Path, monkeypatch: Any) -> Any:
    """Make modules in ABI mode, and what opens the library."""
    import cffi
    from handle_library import TYPES, declarations

    text = TYPES + declarations("trees") + VARIABLES
    ffi = cffi.FFI()
    ffi.cdef(text)
    ffi.set_source("_forest_abi", None)
    ffi.compile(str(tmp_path))
    file = path("trees")
    user, inline = tmp_path / "abi_user.py", tmp_path / "inline_user.py"
    user.write_text(ABI_USER.format(path=file), "utf-8")
    inline.write_text(INLINE_USER.format(path=file, text=text), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = "_forest_abi", "abi_user", "inline_user"
    yield
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("spec", [SPEC, None])
@pytest.mark.parametrize(
    ("module", "user"),
    [("_forest_abi", "abi_user"), ("inline_user", "inline_user")],
)
def test_a_module_in_abi_mode(abi, module, user, spec, is_loaded) -> None:
    """Its ffi opens the library; the specification is for that."""
    if is_loaded:
        raw = importlib.import_module(user).library
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        attached = attach_module(module, spec)
        used = importlib.import_module(user)
        with LeakTracker.scope(isolated=True) as scope:
            one, two = used.library.tree_new(), used.make()
            assert live(scope) == [TREE, TREE]
            used.library.tree_free(one)
            used.library.tree_free(two)
            assert not live(scope)
        attached.close()
    assert not told
    if is_loaded:
        assert used.library is raw
        assert used.make is raw.tree_new


def test_a_module_that_opens_no_library_is_said(abi) -> None:
    """Until it opens one, also after the attachment."""
    ffi = importlib.import_module("_forest_abi").ffi
    attached = attach_module("_forest_abi", SPEC)
    assert unmet() == [
        "the ffi of _forest_abi opened no library, so no handle of it was "
        "recorded"
    ]
    with pytest.warns(RuntimeWarning, match="opened no library"):
        attached.close()
    with attach_module("_forest_abi", SPEC):
        assert ffi is not importlib.import_module("_forest_abi").ffi
        importlib.import_module("abi_user")
        assert unmet() == []


def test_names_that_no_opened_library_has_are_said(abi) -> None:
    """When it ends, and by reports; one library may have what others lack."""
    importlib.import_module("abi_user")
    wrong = {"tree_now": "tree_free", "tree_new": "tree_free"}
    attached = attach_module("_forest_abi", wrong)
    (line,) = unmet()
    assert "tree_now is not in the library; did you mean tree_new?" in line
    with pytest.warns(RuntimeWarning, match="tree_now is not in the library"):
        attached.close()
    assert unmet() == []


def test_errors(forest) -> None:
    """Attached twice; no module of cffi; a wrong specification."""
    attached = attach_module("forest._trees", SPEC)
    with pytest.raises(ValueError, match=r"forest._trees are attached"):
        attach_module("forest._trees", SPEC)
    with pytest.warns(RuntimeWarning, match="was not imported"):
        attached.close()
    with pytest.raises(SpecError, match="json is no module of cffi"):
        attach_module("json", SPEC)
    assert attached_modules() == ()
    with pytest.raises(SpecError, match="a: expected"):
        attach_module("forest._trees", {"a": 3})
    assert attached_modules() == ()


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_name_that_is_no_function_is_said(forest, is_loaded) -> None:
    """With what is near; the other functions are recorded."""
    import forest._trees

    if not is_loaded:
        _forget()
    spec = {**SPEC, "tree_nwe": "tree_free"}
    match = "tree_nwe is not in the library; did you mean tree_new"
    with (
        pytest.warns(RuntimeWarning, match=match),
        LeakTracker.scope(),
        attach_module("forest._trees", spec),
    ):
        module = importlib.import_module("forest._trees")
        tree = module.lib.tree_new()
        assert LeakTracker.snapshot().verdict == "live"
        module.lib.tree_free(tree)
    del forest


def test_a_specification_that_fits_nothing_is_said(forest) -> None:
    """Also if it has only patterns."""
    match = "no function of the module is in"
    spec = {"bush_*_new": "bush_free"}
    with (
        pytest.warns(RuntimeWarning, match=match),
        attach_module("forest._trees", spec),
    ):
        importlib.import_module("forest._trees")


def test_a_module_that_is_not_imported_is_said(forest) -> None:
    """By reports, by a clean verdict, and at the end of the attachment."""
    text = "forest._trees was not imported, so no handle of it was recorded"
    attached = attach_module("forest._trees", SPEC)
    LeakTracker.enable()
    assert text in LeakTracker.snapshot().notes
    with pytest.warns(RuntimeWarning, match=text):
        LeakTracker.verify_no_leaks()
    importlib.import_module("forest._trees")
    assert text not in LeakTracker.snapshot().notes
    attached.close()


def test_what_fits_is_not_said(forest) -> None:
    """A specification that fits, and a module that is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with attach_module("forest._trees", SPEC):
            importlib.import_module("forest._trees")
        assert not unmet()
