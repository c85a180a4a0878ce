"""Call trees: sums, paths, hotspots, pruning, text and JSON."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from typing import Any

import pytest
from helpers import block, frame, native_frame, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ALLOCATIONS, FRAMES

from ffi_leak_tracker import LeakTracker, diagnostic_calloc
from ffi_leak_tracker.analysis import CallTree, Hotspot
from ffi_leak_tracker.exceptions import DoubleFreeError, RecordFormatError
from ffi_leak_tracker.records import Allocation, Frame, Snapshot

DEEP = 3_000  # frames, past the limit of recursion


def f(name: str) -> Frame:
    """Return a frame of a function, in a file of which there is no source."""
    return frame(name, f"{name}.py", 1)


def path(names: str, size: int = 10, **changes: Any) -> Allocation:
    """Return a block whose path is these functions, innermost first."""
    return block(frames=tuple(map(f, names)), size=size, **changes)


def tree(*blocks: Allocation, **options: Any) -> CallTree:
    """Return the call tree of some blocks."""
    return Snapshot(blocks).call_tree(**options)


def shape(made: CallTree) -> list[tuple[int, str, int, int]]:
    """Return depth, function, blocks and own blocks of all nodes."""
    return [
        (
            node.depth,
            node.frame.function if node.frame else f"*{node.merged}",
            node.blocks,
            node.self_blocks,
        )
        for node in made
    ]


# --- building -----------------------------------------------------------
def test_tree_of_nothing_has_a_root() -> None:
    """Without blocks there is the root, and nothing in any list."""
    made = tree()
    assert (1, 0, 0) == (len(made), made.blocks, made.bytes)
    assert made.root.frame is made.root.parent is None
    assert ((), (), ()) == (
        made.root.children,
        made.top_paths(),
        made.hotspots(),
    )


def test_tree_begins_at_allocation_sites() -> None:
    """Below the root stand the sites, below each its callers."""
    made = tree(path("ab", 30), path("ac", 20), path("d", 1))
    assert [
        (0, "*0", 3, 0),
        (1, "a", 2, 0),
        (2, "b", 1, 1),
        (2, "c", 1, 1),
        (1, "d", 1, 1),
    ] == shape(made)
    assert [51, 50, 30, 20, 1] == [node.bytes for node in made]
    assert [0, 0, 30, 20, 1] == [node.self_bytes for node in made]


def test_tree_begins_at_outermost_callers() -> None:
    """Asked for, the order is the other way round."""
    made = tree(path("ac", 30), path("bc", 20), outermost_first=True)
    assert [
        (0, "*0", 2, 0),
        (1, "c", 2, 0),
        (2, "a", 1, 1),
        (2, "b", 1, 1),
    ] == shape(made)
    assert made.outermost_first


def test_children_are_ranked_by_bytes() -> None:
    """The largest first, then that of more blocks."""
    made = tree(path("a", 4), path("b", 1), path("b", 3), path("c", 9))
    names = [node.frame.function for node in made.root.children if node.frame]
    assert ["c", "b", "a"] == names


def test_node_knows_its_place() -> None:
    """Parent, equality and text."""
    made = tree(path("ab", 64))
    (site,) = made.root.children
    (caller,) = site.children
    assert (site, made.root) == (caller.parent, site.parent)
    assert hash(site) == hash(caller.parent)
    assert site != tree(path("ab", 64)).root.children[0]
    assert "<Node a.py:1 in a: 1 block, 64 B>" == repr(site)
    assert "<CallTree of 1 block, 64 B>" == repr(made)


def test_native_frames_are_inside() -> None:
    """C functions are the subtree of the Python line that called them."""
    one = path("ab", native_frames=(native_frame(),))
    assert ["*0", "a", "b"] == [s[1] for s in shape(tree(one))]
    alone = path("", native_frames=(native_frame(),))
    assert ["*0", "deflateInit2_"] == [s[1] for s in shape(tree(alone))]
    one = path("a", native_frames=(native_frame(),))
    outer = tree(one, outermost_first=True)
    assert ["*0", "a", "deflateInit2_"] == [s[1] for s in shape(outer)]
    (total,) = outer.top_paths()
    assert ((f("a"),), (native_frame(),)) == (
        total.frames,
        total.native_frames,
    )


def test_unknown_path_is_the_roots_own() -> None:
    """Blocks without frames are in the sums."""
    made = tree(path("", 5), path("a", 7))
    assert (2, 12) == (made.blocks, made.bytes)
    assert (1, 5) == (made.root.self_blocks, made.root.self_bytes)
    assert [1, 1] == [one.blocks for one in made.top_paths()]


# --- top paths and hotspots ---------------------------------------------
def test_top_paths_show_interior_nodes() -> None:
    """A path that longer ones go through has its own blocks."""
    made = tree(*[path("a") for _ in range(5)], path("ab"))
    assert [((f("a"),), 5, 50), ((f("a"), f("b")), 1, 10)] == [
        (one.frames, one.blocks, one.bytes) for one in made.top_paths()
    ]


@pytest.mark.parametrize(("by", "names"), [("bytes", "bca"), ("blocks", "acb")])
def test_top_paths_are_ranked(by: str, names: str) -> None:
    """By bytes or by blocks, ties by the other; a limit cuts."""
    made = tree(
        *[path("a", 1) for _ in range(3)],
        path("b", 9),
        path("c", 4),
        path("c", 4),
    )
    paths = [one.frames for one in made.top_paths(by=by)]
    assert [(f(name),) for name in names] == paths
    assert paths[:2] == [one.frames for one in made.top_paths(2, by)]
    assert () == made.top_paths(0)


def test_hotspot_counts_recursion_once() -> None:
    """A block is counted once for a frame, however often it is on its path."""
    for outermost_first in (False, True):
        made = tree(path("aaa", 7), outermost_first=outermost_first)
        assert (Hotspot(f("a"), 1, 7, 1, 7),) == made.hotspots()


def test_hotspots_tell_sites_from_callers() -> None:
    """Own figures are those of blocks that a frame allocated itself."""
    for outermost_first in (False, True):
        made = tree(
            path("ab", 5), path("b", 3), outermost_first=outermost_first
        )
        assert (
            Hotspot(f("b"), 2, 8, 1, 3),
            Hotspot(f("a"), 1, 5, 1, 5),
        ) == made.hotspots()


def test_hotspots_are_ranked() -> None:
    """By bytes or by blocks, with a limit."""
    made = tree(path("a", 1), path("a", 1), path("b", 9))
    assert f("b") == made.hotspots(1)[0].frame
    assert f("a") == made.hotspots(1, "blocks")[0].frame
    assert 2 == len(made.hotspots(None))


@pytest.mark.parametrize("ask", ["top_paths", "hotspots", "pruned"])
def test_wrong_arguments_are_refused(ask: str) -> None:
    """The error says what is possible."""
    with pytest.raises(
        ValueError, match=r"by must be one of 'blocks', 'bytes', not 'size'"
    ):
        getattr(tree(path("a")), ask)(5, "size")
    with pytest.raises(ValueError, match="limit must be 0 or more, or None"):
        getattr(tree(path("a")), ask)(-1)


# --- pruning ------------------------------------------------------------
def test_pruning_merges_the_rest() -> None:
    """What is left out is one node; no sum changes; the tree stays."""
    whole = tree(path("a", 9), path("b", 5), path("cd", 3), path("ce", 2))
    small = whole.pruned(1)
    assert [
        (0, "*0", 4, 0),
        (1, "a", 1, 1),
        (1, "*2", 3, 3),
    ] == shape(small)
    assert [19, 9, 10] == [node.bytes for node in small]
    assert (6, 19) == (len(whole), whole.bytes)
    assert "<Node 2 merged: 3 blocks, 10 B>" == repr(small.root.children[1])


def test_pruning_by_blocks_keeps_others() -> None:
    """The measure says what is large."""
    whole = tree(path("a", 9), path("b", 1), path("b", 1))
    assert "b" == shape(whole.pruned(1, "blocks"))[1][1]


def test_pruning_by_depth() -> None:
    """What is deeper is merged; levels are counted below the root."""
    whole = tree(path("abc"), path("abd"), path("e"))
    assert [
        (0, "*0", 3, 0),
        (1, "a", 2, 0),
        (2, "*1", 2, 2),
        (1, "e", 1, 1),
    ] == shape(whole.pruned(None, depth=1))
    assert [(0, "*0", 3, 0), (1, "*2", 3, 3)] == shape(whole.pruned(depth=0))
    assert whole == whole.pruned(None) == whole.pruned(2, depth=3)


def test_pruning_twice_counts_merged_nodes() -> None:
    """A merged node is merged again, with all that it stands for."""
    whole = tree(*[path(name, 9 - i) for i, name in enumerate("abcd")])
    assert [
        (0, "*0", 4, 0),
        (1, "a", 1, 1),
        (1, "*3", 3, 3),
    ] == shape(whole.pruned(2).pruned(1))


def test_freed_after_pruning_is_gone() -> None:
    """A tree of the next snapshot does not miss frees of pruned nodes."""
    LeakTracker.enable()
    many = [diagnostic_calloc("char", 1) for _ in range(10)]
    few = [diagnostic_calloc("char", 1) for _ in range(3)]
    before = LeakTracker.snapshot().call_tree().pruned(1)
    assert 13 == before.blocks
    for pointer in many + few:
        diagnostic_calloc.free(pointer)
    after = LeakTracker.snapshot().call_tree().pruned(1)
    assert (0, -13) == (after.blocks, (after - before).blocks)


def test_second_free_leaves_no_negative_count() -> None:
    """A block leaves the tree once."""
    LeakTracker.enable()
    pointer, other = diagnostic_calloc("char", 1), diagnostic_calloc("char", 2)
    diagnostic_calloc.free(pointer)
    with pytest.raises(DoubleFreeError):
        diagnostic_calloc.free(pointer)
    assert [1] * 2 == [
        one.blocks for one in LeakTracker.snapshot().call_tree()
    ][:2]
    diagnostic_calloc.free(other)
    assert 0 == LeakTracker.snapshot().call_tree().blocks


# --- differences --------------------------------------------------------
def test_difference_has_signed_figures() -> None:
    """What grew is positive, what shrank negative, the rest is not there."""
    old = tree(path("ab", 5), path("ac", 7), path("d", 1))
    new = tree(path("ab", 5), path("ab", 5), path("e", 2), path("d", 1))
    delta = new - old
    assert [
        (0, "*0", 1, 0),
        (1, "e", 1, 1),
        (1, "a", 0, 0),
        (2, "b", 1, 1),
        (2, "c", -1, -1),
    ] == shape(delta)
    assert [0, 2, -2, 5, -7] == [node.bytes for node in delta]
    assert delta.is_difference
    assert 1 == len(new - new)


def test_difference_needs_one_order() -> None:
    """Trees of different order do not compare; nor does anything else."""
    with pytest.raises(ValueError, match="same outermost_first"):
        tree() - tree(outermost_first=True)
    with pytest.raises(TypeError):
        tree() - 1  # type: ignore[operator]


def test_difference_of_pruned_trees_keeps_sums() -> None:
    """Merged nodes are compared with merged nodes."""
    old = tree(path("a", 9), path("b", 2), path("c", 1)).pruned(1)
    new = tree(path("a", 9), path("b", 7), path("c", 1)).pruned(1)
    delta = new - old
    assert [(0, "*0", 0, 0), (1, "*2", 0, 0)] == shape(delta)
    assert (5, 5) == (delta.bytes, delta.root.children[0].bytes)


# --- sums ---------------------------------------------------------------
def check_sums(made: CallTree) -> None:
    """A node has what its children and itself have."""
    for node in made:
        below = node.children
        assert node.blocks == node.self_blocks + sum(n.blocks for n in below)
        assert node.bytes == node.self_bytes + sum(n.bytes for n in below)
        ranks = [(one.merged > 0, -one.bytes) for one in below]
        assert all(one <= other for one, other in pairwise(ranks))


# Few frames, so that paths meet.
SOME_FRAMES = st.lists(
    st.sampled_from([f("a"), f("b"), f("c")]) | FRAMES, max_size=5
).map(tuple)
BLOCKS = st.lists(
    ALLOCATIONS
    | st.builds(
        lambda frames, size: block(frames=frames, size=size),
        SOME_FRAMES,
        st.integers(0, 1000),
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(deadline=None)
@given(BLOCKS, st.booleans(), st.integers(0, 3), st.integers(0, 3))
def test_tree_sums_equal_table_sums(
    made: list[Allocation], outermost_first: bool, limit: int, depth: int
) -> None:
    """However a tree is ordered or pruned, no block is lost or invented."""
    shot = Snapshot(made)
    whole = shot.call_tree(outermost_first=outermost_first)
    table = shot.count, shot.total_bytes
    for one in (whole, whole.pruned(limit), whole.pruned(None, depth=depth)):
        check_sums(one)
        assert table == (one.blocks, one.bytes)
        assert one == CallTree.from_json(one.to_json())
    paths = whole.top_paths(None)
    assert table == (
        sum(one.blocks for one in paths),
        sum(one.bytes for one in paths),
    )
    own = whole.hotspots(None)
    without = sum(1 for one in made if not one.frames + one.native_frames)
    assert shot.count - without == sum(one.self_blocks for one in own)


@pytest.mark.slow
@settings(deadline=None)
@given(BLOCKS)
def test_hotspots_equal_table_sums(made: list[Allocation]) -> None:
    """A frame has the blocks on whose path it is."""
    tree = Snapshot(made).call_tree(outermost_first=True)
    for one in tree.hotspots(None):
        on_it = [b for b in made if one.frame in b.frames + b.native_frames]
        assert len(on_it) == one.blocks
        assert sum(b.size for b in on_it) == one.bytes


@pytest.mark.slow
@settings(deadline=None)
@given(BLOCKS, BLOCKS, st.booleans())
def test_difference_sums_equal_table_sums(
    new: list[Allocation], old: list[Allocation], outermost_first: bool
) -> None:
    """Trees subtracted are the tree of the snapshots' difference."""
    shots = Snapshot(new), Snapshot(old)
    trees = [one.call_tree(outermost_first=outermost_first) for one in shots]
    delta = trees[0] - trees[1]
    check_sums(delta)
    assert shots[0].count - shots[1].count == delta.blocks
    assert shots[0].total_bytes - shots[1].total_bytes == delta.bytes
    diff = shots[0] - shots[1]
    other = diff.call_tree(outermost_first=outermost_first)
    assert {repr(node) for node in delta} == {repr(node) for node in other}


@pytest.mark.slow
def test_deep_tree_needs_no_recursion() -> None:
    """Everything works on paths of thousands of frames."""
    deep = [frame("f", "x.py", i) for i in range(DEEP)]
    one = block(frames=tuple(deep))
    two = block(frames=(*deep[: DEEP // 2], f("other")))
    made = tree(one, two)
    assert (DEEP + 2, DEEP) == (len(made), max(n.depth for n in made))
    assert made == CallTree.from_json(made.to_json())
    assert made == pickle.loads(pickle.dumps(made))
    assert made == made.pruned()
    assert DEEP + 1 == len(made.hotspots(None))
    assert DEEP == len(made.top_paths(1)[0].frames)
    assert 0 == (made - made).blocks
    assert DEEP + 1 + 3 == len(made.to_text().splitlines())


# --- text ---------------------------------------------------------------
def test_tree_reads_well() -> None:
    """A line a node; one alone below another repeats no figures."""
    made = tree(
        *[path("abm", 1000) for _ in range(3)],
        path("acm", 24),
        path("dm", 1024, native_frames=(native_frame(),)),
    )
    expected = """\
CALL TREE  5 blocks, 4.0 KiB, allocation sites first

share    bytes  blocks
74.7%  3.0 KiB       4   + a.py:1  in a
74.1%  2.9 KiB       3     + b.py:1  in b
                             m.py:1  in m
 0.6%     24 B       1     + c.py:1  in c
                             m.py:1  in m
25.3%  1.0 KiB       1   + d.py:1  in d
                           m.py:1  in m
"""
    assert expected == made.to_text()


def test_tree_reads_well_from_outside() -> None:
    """Blocks that a caller of others makes itself have a line."""
    made = tree(
        path("am", 10), path("m", 30), path("", 60), outermost_first=True
    )
    assert (
        made.to_text()
        == """\
CALL TREE  3 blocks, 100 B, outermost callers first

share  bytes  blocks
60.0%   60 B       1   + (call path not recorded)
40.0%   40 B       2   + m.py:1  in m
30.0%   30 B       1     + (allocated here)
10.0%   10 B       1     + a.py:1  in a
"""
    )


def test_pruned_tree_says_so() -> None:
    """Merged nodes come last, and tell how many they are."""
    made = tree(
        *[path(name + "m", 1) for name in "abc"],
        path("xm", 9),
        path("xn", 5),
        path("xo", 4),
    )
    assert (
        made.to_text(limit=1, by="blocks")
        == """\
CALL TREE  6 blocks, 21 B, allocation sites first

share  bytes  blocks
50.0%   18 B       3   + x.py:1  in x
16.7%    9 B       1     + m.py:1  in m
33.3%    9 B       2     + ... 2 more callers
50.0%    3 B       3   + ... 3 more sites
"""
    )


def test_difference_reads_well() -> None:
    """Figures have signs, and no share."""
    old, new = tree(path("a", 5)), tree(path("b", 2048), path("c", 1))
    assert (
        (new - old).to_text()
        == """\
CHANGED CALL PATHS  +1 block, +2.0 KiB, allocation sites first

   bytes  blocks
+2.0 KiB      +1   + b.py:1  in b
    +1 B      +1   + c.py:1  in c
    -5 B      -1   + a.py:1  in a
"""
    )


def test_native_calls_of_a_function_are_told_apart() -> None:
    """By their offset, where no line is known."""
    places = [native_frame(filename=None, offset=i) for i in (0x1A0, 0x1B0)]
    paths = [path("a", native_frames=(one,)) for one in places]
    text = tree(*paths, outermost_first=True).to_text()
    assert "+ libz.so.1  in deflateInit2_   +0x1a0\n" in text
    assert "+ libz.so.1  in deflateInit2_   +0x1b0\n" in text


def test_tree_of_nothing_reads_as_one_line() -> None:
    """There is no table without nodes."""
    first = "CALL TREE  0 blocks, 0 B, allocation sites first\n"
    assert first == tree().to_text()


def test_tree_of_empty_blocks_has_no_shares() -> None:
    """Nothing is divided by zero."""
    assert "\n    -    0 B       1   + a.py" in tree(path("a", 0)).to_text()


def test_source_is_shown_and_colors_asked_for() -> None:
    """The line of source stands behind the function, where there is room."""
    line = frame("test", __file__, 1)
    made = tree(block(frames=(line,)))
    assert '   """Call trees: sums, ' in made.to_text()
    assert "Call trees" not in made.to_text(source=False)
    assert "\x1b[" in made.to_text(color=True)
    assert "\x1b[" not in made.to_text()


@pytest.mark.slow
@settings(deadline=None)
@given(BLOCKS)
def test_text_is_printable(made: list[Allocation]) -> None:
    """Whatever names there are, lines stay lines."""
    text = Snapshot(made).call_tree().to_text()
    assert all(line.isprintable() for line in text.split("\n"))


# --- JSON ---------------------------------------------------------------
def test_json_is_flat() -> None:
    """Frames stand in one list, nodes point to it and to their parent."""
    data = json.loads(tree(path("ab", 7)).to_json())
    assert [f("a").to_dict(), f("b").to_dict()] == data["frames"]
    assert [None, 0, 1] == [one["parent"] for one in data["nodes"]]
    assert [None, 0, 1] == [one["frame"] for one in data["nodes"]]
    assert {
        "parent": 1,
        "frame": 1,
        "merged": 0,
        "blocks": 1,
        "bytes": 7,
        "self_blocks": 1,
        "self_bytes": 7,
    } == data["nodes"][2]
    assert (False, False) == (data["outermost_first"], data["is_difference"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parent": 2}, r"nodes\[2\].parent: expected an earlier node, found"),
        ({"parent": -1}, r"nodes\[2\].parent: expected an integer >= 0"),
        ({"frame": 9}, r"nodes\[2\].frame: expected the place of a frame"),
        ({"frame": None}, r"nodes\[2\].merged: expected 0 with a frame"),
        ({"merged": 1}, r"nodes\[2\].merged: expected 0 with a frame"),
        ({"self_bytes": "1"}, r"nodes\[2\].self_bytes: expected an integer"),
    ],
)
def test_faults_in_json_are_named(change: dict[str, Any], message: str) -> None:
    """The error says where, what was expected and what was found."""
    data = tree(path("ab", 7)).to_dict()
    data["nodes"][2].update(change)
    with pytest.raises(RecordFormatError, match=message):
        CallTree.from_dict(data)


def test_sums_of_json_are_not_believed() -> None:
    """They are made anew from what ends at each node."""
    data = tree(path("ab", 7)).to_dict()
    data["nodes"][0]["bytes"] = 1
    assert 7 == CallTree.from_dict(data).bytes


def test_tree_of_loaded_snapshot_is_the_same() -> None:
    """A snapshot that went through JSON has the same call paths."""
    shot = snapshot(path("ab"), path("ac", native_frames=(native_frame(),)))
    again = Snapshot.from_dict(json.loads(json.dumps(shot.to_dict())))
    assert shot.call_tree() == again.call_tree()
    assert hash(shot.call_tree()) == hash(again.call_tree())
