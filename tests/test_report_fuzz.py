"""A damaged or hostile report: an error that says where, or a snapshot.

Never another exception, never a value that a report cannot show, and never
time that grows faster than the text.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import frame, rich, snapshot, version_1
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ffi_leak_tracker import SnapshotDiff
from ffi_leak_tracker.analysis import CallTree
from ffi_leak_tracker.emitters.console import render
from ffi_leak_tracker.emitters.json import dumps, load, loads
from ffi_leak_tracker.exceptions import RecordFormatError, ReportFormatError
from ffi_leak_tracker.records import Allocation, Frame, Snapshot

OLD = snapshot()
RICH = rich()
#: What is read, and a text that is read without an error.
LOADERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "report": (loads, dumps(RICH)),
    "version 1": (loads, version_1(RICH)),
    "allocation": (Allocation.from_json, RICH[0].to_json()),
    "difference": (SnapshotDiff.from_json, (RICH - OLD).to_json()),
    "tree": (CallTree.from_json, RICH.call_tree().to_json()),
}
NUMBERS = (
    *(0, -1, 2**31, 2**63, 2**64 - 1, 2**64, -(2**64), 10**24, 10**400),
    *(1e15, 1.1e15, 1e308, -1e308, 0.5, float("nan"), float("inf")),
)
TEXTS = (
    *("", "\0", "\x1b]0;x\x07", "\ud800", "\u202e", "a" * 5000),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *("2023-11-14T22:13:20", "2023-11-14T22:13:20.25Z", "ffi-leak-tracker"),
    "1" * 30,
)
VALUES = st.one_of(
    st.sampled_from([*NUMBERS, *TEXTS, None, True, False, [], {}, [[]]]),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in a document."""
    if path:
        yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(
    document: Any, path: tuple[Any, ...], how: str, value: object
) -> None:
    """Change one place of a document, if it is still there."""
    for step in path[:-1]:
        if not has(document, step):
            return
        document = document[step]
    if not has(document, path[-1]):
        return
    if how == "delete":
        del document[path[-1]]
    elif how == "double" and isinstance(document, list):
        document *= 2
    else:
        document[path[-1]] = value


def has(document: Any, key: Any) -> bool:
    """Return whether an object or an array has a value there."""
    if isinstance(document, list):
        return isinstance(key, int) and key < len(document)
    return isinstance(document, dict) and key in document


def use(found: object) -> None:
    """Show what was read; nothing in it may keep it from being shown."""
    if isinstance(found, Snapshot):
        render(found, limit=None, frames=None)
        found.call_tree().to_text()
        (found - OLD).to_text()
        assert loads(dumps(found)) == found
    elif isinstance(found, (SnapshotDiff, CallTree)):
        found.to_text()
        assert type(found).from_json(found.to_json()) is not None
    else:
        assert str(found).isprintable()
        assert isinstance(found, Allocation)
        assert Allocation.from_json(found.to_json()) == found


def read(loader: Callable[[str], Any], text: str) -> None:
    """Read a text; an error is one that says what is wrong."""
    found: object = None
    message = ""
    try:
        found = loader(text)
    except RecordFormatError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 500
    if not message:
        use(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
@given(data=st.data())
@settings(
    max_examples=150,
    deadline=2000,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_changed_values_are_refused_or_read(name, data) -> None:
    """Types swapped, huge numbers, hostile texts, fields that are gone."""
    loader, text = LOADERS[name]
    document = json.loads(text)
    paths = list(places(document))
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(paths))
        how = data.draw(st.sampled_from(["set", "set", "delete", "double"]))
        changed(document, path, how, data.draw(VALUES))
    read(loader, json.dumps(document))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
@given(data=st.data())
@settings(max_examples=100, deadline=2000)
def test_changed_text_is_refused_or_read(name, data) -> None:
    """A text that is cut, or of which some characters are others."""
    loader, text = LOADERS[name]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        end = at + data.draw(st.integers(0, 20))
        pieces = st.sampled_from(["", "[", "{", '"', "9" * 50, "NaN", "\\u"])
        text = text[:at] + data.draw(pieces | st.text(max_size=3)) + text[end:]
    read(loader, text)


@given(st.binary(max_size=200))
def test_bytes_are_refused_or_read(data) -> None:
    """Whatever encoding they have."""
    with pytest.raises(RecordFormatError):
        loads(data)


def with_value(name: str, value: str) -> str:
    """Return a report of one block, with this text in one of its columns."""
    document = json.loads(dumps(snapshot()))
    columns = document["blocks"]["columns"]
    document["blocks"]["rows"][0][columns.index(name)] = "here"
    return json.dumps(document).replace('"here"', value)


# --- numbers --------------------------------------------------------------
@pytest.mark.parametrize("name", ["size", "address", "sequence"])
@pytest.mark.parametrize("zeros", [20, 400, 5000])
def test_huge_integers_are_refused(name, zeros) -> None:
    """A size of 10**400 is a damaged report; it never counts as growth."""
    digits = "1" + "0" * zeros
    old = version_1(snapshot()).replace(
        f'"{name}": ', f'"{name}": {digits}, "old": ', 1
    )
    texts = {
        "allocations[0]": old,
        "blocks.rows[0]": with_value(name, digits),
    }
    for path, text in texts.items():
        for sign in ("", "-"):
            signed = text.replace(digits, sign + digits)
            with pytest.raises(ReportFormatError, match="expected") as at:
                loads(signed)
            assert str(at.value).startswith(f"{path}.{name}: ")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "1e16", "true"])
def test_senseless_numbers_are_refused(value) -> None:
    """An age is a number of seconds that can be."""
    text = version_1(snapshot()).replace('"age": 1.5', f'"age": {value}')
    with pytest.raises(ReportFormatError, match=r"allocations\[0\]\.age: "):
        loads(text)
    with pytest.raises(ReportFormatError, match=r"blocks\.rows\[0\]\.age: "):
        loads(with_value("age", value))


@pytest.mark.parametrize("value", ["-1", "1", "true", "1.0", '"x"', "[]"])
@pytest.mark.parametrize("name", ["group", "thread", "scope"])
def test_positions_outside_of_a_table_are_refused(name, value) -> None:
    """They never count from the end, and nothing else is one."""
    with pytest.raises(ReportFormatError, match=f"{name}: expected a position"):
        loads(with_value(name, value))


@pytest.mark.slow
def test_many_references_take_no_time() -> None:
    """A block costs its row, however long the path of its group is."""
    document = json.loads(dumps(snapshot()))
    document["groups"][0]["frames"] = [0] * 100_000
    document["blocks"]["rows"] *= 10_000
    text = json.dumps(document)
    before = time.perf_counter()
    use_lightly(loads(text))
    assert time.perf_counter() - before < 10


def use_lightly(found: Snapshot) -> None:
    """Report it as text."""
    assert 10_000 == found.count
    assert "10,000 x 64 B" in render(found)


@pytest.mark.parametrize("digits", [10**6, 3 * 10**6])
def test_long_numbers_take_no_time(digits) -> None:
    """Reading digits is quadratic; these are not read."""
    nines = "9" * digits
    text = with_value("size", nines)
    before = time.perf_counter()
    with pytest.raises(ReportFormatError, match="a very large integer"):
        loads(text)
    assert time.perf_counter() - before < 10


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"allocations":['])
def test_deep_nesting_is_refused(opening) -> None:
    """However deep it is."""
    for depth in (1000, 100_000):
        with pytest.raises(ReportFormatError):
            loads(opening * depth)
        with pytest.raises(ReportFormatError):
            loads("[" * depth + "]" * depth)


def test_times_at_the_end_of_the_calendar() -> None:
    """A time that has no year in UTC is none; the last one is."""
    text = version_1(snapshot()).replace(
        "2023-11-14T22:13:20.250000Z", "9998-12-31T23:59:59.999999Z"
    )
    assert loads(text)[0].timestamp.year >= 9998
    for bad in (
        "9999-12-31T23:59:59-01:00",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00+01:00",
    ):
        with pytest.raises(ReportFormatError, match=r"\.timestamp: expected"):
            loads(text.replace("9998-12-31T23:59:59.999999Z", bad))


def test_frames_need_no_lines_that_can_be() -> None:
    """A line that no file has shows no source."""
    for lineno in (-5, 0, 2**63):
        one = Frame.from_dict({**frame().to_dict(), "lineno": lineno})
        assert one.source_line is None


# --- what is no file --------------------------------------------------------
@pytest.mark.skipif(os.name != "posix", reason="needs devices")
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/random"])
def test_devices_are_refused(path) -> None:
    """Some of them have no end."""
    with pytest.raises(ReportFormatError, match=f"{path}: .* found a device"):
        load(path)


def test_size_of_a_report_is_bounded(tmp_path, monkeypatch) -> None:
    """It is read into memory, so not without a limit."""
    path = tmp_path / "leaks.json"
    path.write_text(dumps(RICH))
    size = path.stat().st_size
    module = load.__globals__
    monkeypatch.setitem(module, "SIZE_MAX", size)
    assert RICH == load(path)
    monkeypatch.setitem(module, "SIZE_MAX", size - 1)
    with pytest.raises(ReportFormatError, match="expected at most"):
        load(path)
