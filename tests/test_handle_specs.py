"""Specifications of handles: words, patterns, and files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ffi_leak_tracker._handles import spec_files
from ffi_leak_tracker.handles import (
    Borrowed,
    Chain,
    Consumes,
    Decref,
    Incref,
    Out,
    Owned,
    Spec,
    SpecError,
    as_spec,
)

needs_toml = pytest.mark.skipif(
    not spec_files._has_toml(), reason="no tomllib, no tomli"
)
WORDS = {
    "a_new": Owned("a_free"),
    "a_any": Owned(("a_free", "a_close")),
    "a_text": Owned(),
    "a_open": Out(0, free="a_free", ok="== 0"),
    "a_append": Chain(0, free="a_free"),
    "a_take": Consumes(1),
    "a_root": Borrowed(),
    "a_ref": Incref(0, free="a_unref"),
    "a_unref": Decref(0),
    "b_*": Owned("*_free"),
    "a_two": [Out(0, free="a_free"), Out(1, free="a_free")],
}
FILE = """
[functions]
a_new = "a_free"
a_any = {free = ["a_free", "a_close"]}
a_text = {free = false}
a_open = {out = 0, free = "a_free", ok = "== 0"}
a_append = {chain = 0, free = "a_free"}
a_take = {consumes = 1}
a_root = false
a_ref = {incref = 0, free = "a_unref"}
a_unref = {decref = 0}
"b_*" = "*_free"
a_two = [{out = 0, free = "a_free"}, {out = 1, free = "a_free"}]
"""


def test_short_forms() -> None:
    """A name, None, False and a table stand for words."""
    spec = Spec({"a": "f", "b": None, "c": False, "d": {"borrowed": True}})
    assert spec.words("a") == (Owned("f"),)
    assert spec.words("b") == (Owned(),)
    assert spec.words("c") == spec.words("d") == (Borrowed(),)
    assert spec.words("e") == ()


def test_patterns() -> None:
    """The exact name, then the pattern with more letters; text is put in."""
    spec = Spec(
        {
            "*_new": "*_free",
            "x_*_new": "x_*_drop",
            "x_a_new": "other",
            "*_to_*": ["*_free"],
        }
    )
    assert spec.words("b_new") == (Owned("b_free"),)
    assert spec.words("x_b_new") == (Owned("x_b_drop"),)
    assert spec.words("x_a_new") == (Owned("other"),)
    assert spec.words("b_to_c") == (Owned("b_free"),)
    assert spec.words("new") == ()


@pytest.mark.parametrize(
    ("functions", "text"),
    [
        ({"a b": "f"}, "'a b' is not the name of a C function"),
        ({1: "f"}, "1 is not the name"),
        ({"a": 3}, "a: expected the name of a function"),
        ({"a": ""}, "a: expected the name of a function"),
        ({"a": {"out": -1}}, "a: Out: the argument must be 0, 1"),
        ({"a": {"out": 0, "ok": "fine"}}, "such as '== 0', not 'fine'"),
        ({"a": {"out": 0, "chain": 1}}, "one of out and chain is too much"),
        ({"a": {"outt": 0}}, "a: expected free, out, chain"),
        ({"a": {}}, "not nothing"),
        ({"a": {"out": 0, "fre": "f"}}, "fre"),
        ({"a": {"free": 3}}, "free must be the name"),
        ({"a": "*_free"}, None),
        ({"a*": "*_*"}, "a*: *_* has more * than it"),
        ("no_such_file.toml", OSError),
        (3, "is a mapping of names"),
    ],
)
def test_errors_name_the_function(functions, text) -> None:
    """And what was expected."""
    if text is None:
        as_spec(functions)
        return
    if text is OSError:
        if spec_files._has_toml():
            with pytest.raises(OSError, match="no_such_file"):
                as_spec(functions)
        return
    with pytest.raises(SpecError) as caught:
        as_spec(functions)
    assert text in str(caught.value)


def test_a_spec_reads_as_it_was_written() -> None:
    """``repr`` can be pasted; equal specifications are equal."""
    import ffi_leak_tracker.handles as names

    spec = Spec(WORDS)
    assert eval(repr(spec), vars(names)) == spec
    assert len(spec) == len(WORDS)
    assert spec != Spec({})
    assert hash(spec) == hash(Spec(WORDS))


# --- files ------------------------------------------------------------------
@needs_toml
def test_a_file_says_the_same(tmp_path: Path) -> None:
    """As Python does; and what is written can be read."""
    path = tmp_path / "handles.toml"
    path.write_text(FILE)
    assert as_spec(path) == as_spec(str(path)) == Spec(WORDS)
    path.write_text(spec_files.to_toml(Spec(WORDS)))
    assert as_spec(path) == Spec(WORDS)
    with pytest.raises(SpecError, match="f: a callable cannot be written"):
        spec_files.to_toml(Spec({"f": Out(0, ok=bool)}))


@needs_toml
def test_pyproject_has_a_table_for_a_module(tmp_path: Path) -> None:
    """Found from a folder below; its errors name the file."""
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[tool.ffi_leak_tracker.handles."pkg._native"]\na_new = "a_free"\n'
    )
    below = tmp_path / "src" / "pkg"
    below.mkdir(parents=True)
    found = spec_files.of_module("pkg._native", below)
    assert found == (Spec({"a_new": "a_free"}), str(file))
    assert spec_files.of_module("pkg._other", below) is None
    file.write_text('[tool.ffi_leak_tracker.handles."pkg._native"]\na = 3\n')
    with pytest.raises(SpecError, match=r"pyproject.toml: a: expected"):
        spec_files.of_module("pkg._native", below)


@needs_toml
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "Invalid value"),
        ("a = 1", "no table .functions."),
        ("[functions]\na = 3", "a: expected the name"),
        ('[functions]\n"a b" = "f"', "'a b' is not the name"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, text, reason) -> None:
    """And the reason."""
    path = tmp_path / "handles.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=rf"handles.toml: .*{reason}"):
        as_spec(path)


def test_without_a_parser_the_error_says_what_to_do(monkeypatch) -> None:
    """Python 3.10 has no ``tomllib``."""
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SpecError, match=r"needs Python 3.11, or the package"):
        as_spec("handles.toml")
    assert spec_files.of_module("pkg._native") is None
