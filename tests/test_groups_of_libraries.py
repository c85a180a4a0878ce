"""Blocks of a library are one entry for each Python call path.

The C functions are a subtree of the entry, whose head names the function of
the library that Python called.
"""

from __future__ import annotations

import json
import sys
import textwrap

import pytest
from c_library import child, child_environment, path
from children import run
from conftest import IS_PYPY
from helpers import block, frame, native_frame, snapshot
from needs import needs_hooks

from ffi_leak_tracker import CallTree, LeaksFoundError
from ffi_leak_tracker.emitters import ConsoleEmitter
from ffi_leak_tracker.emitters.json import dumps, loads
from ffi_leak_tracker.records import Group

LINE = (frame("call", "app.py", 9), frame("main", "app.py", 20))


def native(*names: str):
    """Return the frames of one library, innermost first."""
    return tuple(
        native_frame(function=name, module="/lib/libdeep.so", offset=i)
        for i, name in enumerate(names)
    )


def hooked(*names: str, size: int = 8, type: str = "malloc", **changes):
    return block(
        size=size,
        type=type,
        kind="hook",
        frames=changes.pop("frames", LINE),
        native_frames=native(*names),
        **{"release": "free", **changes},
    )


@pytest.fixture
def deep():
    """One Python line, four ways through the library; another block."""
    return snapshot(
        hooked("new_node", "parse", "load", size=100),
        hooked("new_node", "parse", "load", size=100),
        hooked("new_text", "copy", "load", size=50, type="strdup"),
        hooked("load", size=10, type="operator new", release="delete"),
        hooked("other_load", size=5, type="calloc"),
        block(size=3, type="char", kind="calloc", frames=LINE),
    )


# --- the rule -----------------------------------------------------------
def test_one_python_line_is_one_group(deep) -> None:
    """Whatever C code allocated; blocks of our allocators stand apart."""
    whole, own = deep.groups()
    assert (5, 265, "hook") == (whole.count, whole.total_bytes, whole.kind)
    assert LINE == whole.frames
    assert (1, 3, "calloc") == (own.count, own.total_bytes, own.kind)
    assert (own,) == own.parts
    assert () == own.c_functions


def test_parts_tell_c_paths_and_types_apart(deep) -> None:
    """Most bytes first; they have all blocks of the group, each once."""
    whole = deep.groups()[0]
    assert [
        (2, "malloc", "new_node"),
        (1, "strdup", "new_text"),
        (1, "operator new", "load"),
        (1, "calloc", "other_load"),
    ] == [
        (one.count, one.type, one.native_frames[0].function)
        for one in whole.parts
    ]
    assert all((one,) == one.parts for one in whole.parts)
    sequences = sorted(b.sequence for p in whole.parts for b in p.allocations)
    assert [b.sequence for b in whole.allocations] == sequences
    assert "malloc, strdup, operator new, calloc" == whole.type
    assert "free, delete" == whole.release


def test_the_function_that_python_called(deep) -> None:
    """The outermost C frame; each function is named once."""
    whole = deep.groups()[0]
    names = [one.function for one in whole.c_functions]
    assert ["load", "other_load"] == names


def test_common_c_frames_are_the_outermost() -> None:
    """From the called function inwards, while all have the same."""
    parts = [("a", "mid", "load"), ("b", "mid", "load")]
    frames = [
        (*native(*names)[:1], *native("x", "mid", "load")[1:])
        for names in parts
    ]
    blocks = [
        block(kind="hook", type="malloc", frames=LINE, native_frames=one)
        for one in frames
    ]
    (whole,) = snapshot(*blocks).groups()
    assert ["mid", "load"] == [f.function for f in whole.native_frames]
    assert frames[0] == snapshot(blocks[0]).groups()[0].native_frames


def test_other_call_paths_are_other_groups() -> None:
    """Another line, another caller; and blocks without a Python line."""
    other = (frame("call", "app.py", 10), LINE[1])
    caller = (LINE[0], frame("main", "app.py", 21))
    found = snapshot(
        hooked("a", "load"),
        hooked("b", "load", frames=other),
        hooked("a", "load", frames=caller),
        hooked("a", "run", frames=()),
        hooked("b", "run", frames=()),
        hooked("b", "run", frames=(), type="calloc"),
    )
    assert 6 == len(found.groups())


def test_a_group_of_blocks_by_hand_finds_its_parts(deep) -> None:
    """Equal to the one of a snapshot, also after pickling."""
    import pickle

    whole = deep.groups()[0]
    made = Group(whole.allocations)
    assert [p.count for p in whole.parts] == [p.count for p in made.parts]
    copied = pickle.loads(pickle.dumps(whole))
    assert (whole, whole.type, whole.c_functions) == (
        copied,
        copied.type,
        copied.c_functions,
    )
    data = whole.to_dict()
    assert ["load", "other_load"] == [
        f["function"] for f in data["c_functions"]
    ]


# --- where it is used ---------------------------------------------------
def test_the_report_has_one_entry(deep, capsys) -> None:
    """Its head names the function; a line for each C path."""
    ConsoleEmitter(sys.stdout, color=False).emit(deep)
    text = capsys.readouterr().out
    assert ", from 2 places" in text.splitlines()[0]
    assert 1 == text.count("hook in load of libdeep.so and 1 more, freed by")
    assert "+ 2 x 100 B = 200 B  malloc  in new_node < parse < load" in text
    assert "+ 1 x 50 B  strdup  in new_text < copy < load" in text
    assert "+ 1 x 5 B  calloc  in other_load" in text
    assert 2 == text.count("app.py:9")


def test_an_entry_of_one_c_path_reads_as_before(capsys) -> None:
    """All of its C frames above the Python ones, no subtree."""
    one = snapshot(hooked("new_node", "load"))
    ConsoleEmitter(sys.stdout, color=False).emit(one)
    text = capsys.readouterr().out
    assert "hook in load of libdeep.so, freed by free" in text
    lines = [line.split()[-1] for line in text.splitlines()[3:6]]
    assert "new_node" in text
    assert "+ 1 x" not in text
    assert lines


def test_many_c_paths_are_counted(capsys) -> None:
    """Five are shown."""
    blocks = [hooked(f"inner{i}", "load", size=i + 1) for i in range(9)]
    ConsoleEmitter(sys.stdout, color=False).emit(snapshot(*blocks))
    text = capsys.readouterr().out
    assert "in inner8" in text
    assert "+ 4 more C paths" in text
    assert 1 == text.count("load of libdeep.so")


def test_messages_count_the_same_places(deep) -> None:
    """verify_no_leaks, logging and pytest take them from here."""
    assert "from 2 places" in LeaksFoundError(deep).summary


def test_json_has_entries_and_their_parts(deep) -> None:
    """Read back, each block has its own C frames and type again."""
    data = json.loads(dumps(deep))
    assert 2 == data["summary"]["places"] == len(data["places"])
    first, second = data["places"]
    assert (5, 265, [0, 1, 2, 3]) == (
        first["count"],
        first["total_bytes"],
        first["groups"],
    )
    assert [4] == second["groups"]
    names = [data["native_frames"][i]["function"] for i in first["c_functions"]]
    assert ["load", "other_load"] == names
    assert [9, 20] == [data["frames"][i]["lineno"] for i in first["frames"]]
    assert deep.groups() == loads(dumps(deep)).groups()
    assert list(deep) == list(loads(dumps(deep)))


def test_a_difference_compares_python_lines(deep) -> None:
    """Another way through the library is the same place that grew."""
    before = snapshot(
        hooked("old_way", "load", size=7),
        block(size=3, type="char", kind="calloc", frames=LINE),
    )
    (change,) = deep - before
    assert ("grew", 1, 5) == (
        change.what,
        change.old_blocks,
        change.new_blocks,
    )
    assert LINE == change.frames
    assert not before - before
    nothing = before.keep(lambda block: False)
    (gone,) = nothing - snapshot(hooked("a", "load"))
    assert ("vanished", "malloc") == (gone.what, gone.type)


def test_trees_have_c_functions_below_the_line(deep) -> None:
    """Below their line with the outermost first; else the line is a site."""
    tree = deep.call_tree()
    assert [(6, 9)] == [
        (node.blocks, node.frame.lineno) for node in tree.root.children
    ]
    tree = deep.call_tree(outermost_first=True)
    (main,) = tree.root.children
    (line,) = main.children
    assert {"load", "other_load"} == {
        node.frame.function for node in line.children
    }
    assert 6 == line.blocks == line.self_blocks + 5
    assert "new_node" in {spot.frame.function for spot in tree.hotspots(None)}
    assert isinstance(tree, CallTree)


def test_totals_by_type_and_line_are_not_joined(deep) -> None:
    """By type each type is counted; by line all blocks of the line."""
    types = {one.type: one.blocks for one in deep.totals("type")}
    assert 2 == types["malloc"]
    assert {"malloc", "strdup", "operator new", "calloc", "char"} == set(types)
    (line,) = deep.totals("line")
    assert 6 == line.blocks
    assert 2 == len(deep.totals("path"))


# --- with a library -----------------------------------------------------
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="hooks need Linux")
@pytest.mark.parametrize("flags", [(), ("-O0",), ("-O2",), ("-s",)], ids=str)
def test_one_line_that_calls_a_library(flags) -> None:
    """Copied blocks are grouped by the core in the same way."""
    name = "one_line" + "".join(flags)
    path("deep_paths", *flags, as_name=name)
    child(f"""
        lib = opened("deep_paths", as_name={name!r})
        with LeakTracker.attach([lib], native_depth=8):
            kept = [lib.load(n) for n in range(6)]; line = here()
            found = LeakTracker.snapshot()
            whole, = found.groups()
            assert (whole.count, whole.frames[0].lineno) == (14, line), whole
            assert [f.function for f in whole.c_functions] == ["load"]
            assert len(whole.parts) >= 3, whole.parts
            assert {{p.type for p in whole.parts}} == {{"malloc", "calloc"}}
            same, = type(found)(list(found)).groups()
            assert same == whole
            assert [p.count for p in same.parts] == [
                p.count for p in whole.parts]
            assert found.totals("path")[0].blocks == 14
    """)


test_one_line_that_calls_a_library.pytestmark = [
    *test_one_line_that_calls_a_library.pytestmark,
    *needs_hooks,
]


@pytest.mark.skipif(sys.platform != "linux", reason="hooks need Linux")
def test_run_shows_one_entry() -> None:
    """The command line and its JSON; two lines are two entries."""
    code = f"""
    import ctypes
    lib = ctypes.CDLL({path("deep_paths")!r})
    for n in range(6):
        lib.load(n)
    lib.load(3)
    """
    done = run(
        f"""
        import os, sys
        os.execv(sys.executable, [sys.executable, "-m", "ffi_leak_tracker",
            "run", "--library", "libdeep_paths*", "-c",
            {textwrap.dedent(code)!r}])
        """,
        **child_environment(),
    )
    assert 1 == done.returncode, done.stderr
    # Without frames of Python, as on PyPy, lines of C tell them apart.
    count = 3 if IS_PYPY else 2
    assert f"from {count} places" in done.stderr.splitlines()[0]
    assert count == done.stderr.count("hook in load of libdeep_paths.so")
