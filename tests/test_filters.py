"""What filters ignore, how they combine, what they refuse."""

from __future__ import annotations

import math
import operator
import pickle
import re
import threading
from typing import Any

import cffi
import pytest
from helpers import block, frame, native_frame
from hypothesis import given
from hypothesis import strategies as st

from ffi_leak_tracker.filters import LeakFilter
from ffi_leak_tracker.records import Allocation

NONE = LeakFilter.ignore_none()
ALL = LeakFilter.ignore_all()
ATOMS = [LeakFilter.ignore_types([name]) for name in "ABCDE"]
A, B, C, D, E = ATOMS
# Every combination of verdicts of four atoms that do not exclude each other.
BITS = [
    LeakFilter.ignore_if(lambda one: one.size & 1, "bit 0"),
    LeakFilter.ignore_if(lambda one: one.size & 2, "bit 1"),
    LeakFilter.ignore_if(lambda one: one.size & 4, "bit 2"),
    LeakFilter.ignore_if(lambda one: one.size & 8, "bit 3"),
]
SIZES = [block(size=size) for size in range(16)]

Tree = Any  # an atom's number, ("~", tree), ("&", tree, tree), ("|", ...)
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.sampled_from([0, 1, 2, 3, "none", "all"]),
    lambda inner: st.one_of(
        st.tuples(st.just("~"), inner),
        st.tuples(st.sampled_from("&|"), inner, inner),
    ),
    max_leaves=10,
)


def build(tree: Tree) -> LeakFilter:
    """Return the filter of a tree, simplified as it is built."""
    if tree in ("none", "all"):
        return NONE if tree == "none" else ALL
    if isinstance(tree, int):
        return BITS[tree]
    if tree[0] == "~":
        return ~build(tree[1])
    join = operator.and_ if tree[0] == "&" else operator.or_
    joined: LeakFilter = join(build(tree[1]), build(tree[2]))
    return joined


def naive(tree: Tree, one: Allocation) -> bool:
    """Return the verdict of a tree without any simplification."""
    if tree in ("none", "all"):
        return bool(tree == "all")
    if isinstance(tree, int):
        return bool(one.size >> tree & 1)
    if tree[0] == "~":
        return not naive(tree[1], one)
    join = all if tree[0] == "&" else any
    return join([naive(tree[1], one), naive(tree[2], one)])


FILTERS = TREES.map(build)


@given(TREES)
def test_simplifying_keeps_the_meaning(tree: Tree) -> None:
    """A simplified filter ignores what the naive evaluation does."""
    built = build(tree)
    verdicts = [naive(tree, one) for one in SIZES]
    assert verdicts == [built.ignore(one) for one in SIZES]
    assert verdicts == [built(one) for one in SIZES]


@given(FILTERS, FILTERS, FILTERS)
def test_joining_is_associative(x: Any, y: Any, z: Any) -> None:
    """How operands are bracketed does not show."""
    assert (x & y) & z == x & (y & z)
    assert (x | y) | z == x | (y | z)


@given(FILTERS, FILTERS)
def test_joining_is_commutative(x: Any, y: Any) -> None:
    """Order does not show: not in equality, hash or text."""
    for left, right in [(x & y, y & x), (x | y, y | x)]:
        assert left == right
        assert hash(left) == hash(right)
        assert str(left) == str(right)


@given(FILTERS)
def test_two_negations_cancel(x: Any) -> None:
    """NOT NOT is nothing, and a filter twice is that filter."""
    assert x == ~~x
    assert x == x & x == x | x


@given(FILTERS)
def test_neutral_and_dominant_operands(x: Any) -> None:
    """All and none are the units and zeros of AND and OR."""
    assert x == (x & ALL) == (x | NONE)
    assert NONE == x & NONE
    assert ALL == x | ALL


def test_none_ignores_nothing() -> None:
    """Nothing is ignored, and the text says so."""
    assert not NONE.ignore(block())
    assert ("ignore none", ALL) == (str(NONE), ~NONE)


def test_all_ignores_everything() -> None:
    """Everything is ignored, and the text says so."""
    assert ALL.ignore(block())
    assert ("ignore all", NONE) == (str(ALL), ~ALL)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            LeakFilter.ignore_addresses([0xABCD, 1]),
            'address is in: "0x00000001", "0x0000abcd"',
        ),
        (
            LeakFilter.ignore_types({"struct point", "A"}),
            'type is in: "A", "struct point"',
        ),
        (LeakFilter.ignore_kinds(["calloc"]), 'kind is in: "calloc"'),
        (
            LeakFilter.ignore_threads(["MainThread"]),
            'thread is in: "MainThread"',
        ),
        (LeakFilter.ignore_scopes([None]), 'scope is in: "None"'),
        (
            LeakFilter.ignore_stack_contains("start demo.py:12"),
            'stack contains "start demo.py:12"',
        ),
        (
            LeakFilter.ignore_stack_contains(re.compile(r"^st.*:\d+$")),
            r"stack matches /^st.*:\d+$/",
        ),
        (LeakFilter.ignore_size(min=64), "size >= 64"),
        (LeakFilter.ignore_size(max=64), "size <= 64"),
        (LeakFilter.ignore_age(min=1, max=1.5), "1 <= age <= 1.5"),
        (LeakFilter.ignore_if(lambda one: "x", "mine"), "predicate mine"),
    ],
)
def test_factory_ignores_its_match(rule: LeakFilter, text: str) -> None:
    """Each kind of filter ignores what it names and reads as that."""
    other = block(
        address=2,
        type="a",
        kind="b",
        thread="c",
        scope="d",
        frames=(),
        size=63 if "size >=" in text else 65,
        age=2.0,
    )
    assert rule.ignore(block())
    assert "mine" in text or not rule.ignore(other)
    assert text == str(rule)
    assert f"<LeakFilter {text}>" == repr(rule)


def test_types_match_exactly() -> None:
    """A part of a type's name is not the type."""
    assert not LeakFilter.ignore_types(["struct"]).ignore(block())


def test_stack_filter_sees_native_frames() -> None:
    """The names of C functions can be searched for."""
    made = block(frames=(frame(),), native_frames=(native_frame(),))
    assert LeakFilter.ignore_stack_contains("deflateInit2_ /usr").ignore(made)


def test_values_equal_in_any_order() -> None:
    """Filters on the same values are equal, others not."""
    one = LeakFilter.ignore_types(["A", "B"])
    two = LeakFilter.ignore_types(["B", "A"])
    assert one == two
    assert hash(one) == hash(two)
    assert one != A
    assert LeakFilter.ignore_addresses([1, 2]) == LeakFilter.ignore_addresses(
        (2, 1, 1)
    )
    assert LeakFilter.ignore_kinds(["A"]) != A


def test_no_values_ignore_nothing() -> None:
    """An empty list of values is the filter for nothing."""
    assert NONE == LeakFilter.ignore_types([])


def test_nested_joins_flatten() -> None:
    """Joins of joins are one join, without doubles."""
    assert 'type is in: "A" AND type is in: "B" AND type is in: "C"' == str(
        (A & B) & (C & A)
    )
    assert 'type is in: "A" OR type is in: "B" OR type is in: "C"' == str(
        C | (B | A) | B
    )


def test_mixed_joins_have_parentheses() -> None:
    """No text can be read two ways."""
    inner = '(type is in: "B" OR type is in: "C")'
    assert f'type is in: "A" AND {inner}' == str(A & (C | B))
    inner = '(type is in: "B" AND type is in: "C")'
    assert f'type is in: "A" OR {inner}' == str((C & B) | A)
    assert 'NOT (type is in: "A")' == str(~A)


def test_join_asks_both() -> None:
    """AND needs both operands, OR one of them."""
    big = LeakFilter.ignore_size(min=10)
    rows = [("A", 10), ("A", 9), ("B", 10), ("B", 9)]
    made = [block(type=name, size=size) for name, size in rows]
    both, either = A & big, A | big
    assert [True, False, False, False] == [both.ignore(one) for one in made]
    assert [True, True, True, False] == [either.ignore(one) for one in made]


def test_deep_joins_compare() -> None:
    """Equality looks through all levels."""
    assert (A & (B | (C & D))) == (((D & C) | B) & A)
    assert (A | (B & (C | D))) == (((D | C) & B) | A)
    assert (A & (B | C)) != (A & (B | D))


def test_callables_join() -> None:
    """A plain function can be an operand on either side."""

    def tiny(one: Allocation) -> bool:
        return one.size < 8

    assert A | tiny == tiny | A == A | LeakFilter.of(tiny)
    assert (A & tiny).ignore(block(type="A", size=1))
    assert "tiny" in str(LeakFilter.of(tiny))


def test_of_coerces() -> None:
    """None ignores nothing, a filter is itself."""
    assert NONE == LeakFilter.of(None)
    assert LeakFilter.of(A) is A


@pytest.mark.parametrize("thing", [3, "text", LeakFilter, object()])
def test_of_anything_else_raises(thing: object) -> None:
    """The error says what is taken."""
    with pytest.raises(TypeError, match="expected a LeakFilter, a callable"):
        LeakFilter.of(thing)


@pytest.mark.parametrize("join", [operator.and_, operator.or_])
def test_join_with_value_raises(join: Any) -> None:
    """What is no filter does not join."""
    with pytest.raises(TypeError):
        join(A, 3)


@pytest.mark.parametrize(
    ("factory", "arguments", "error"),
    [
        ("ignore_types", ("A",), TypeError),
        ("ignore_size", (), ValueError),
        ("ignore_age", (2, 1), ValueError),
        ("ignore_stack_contains", ("",), ValueError),
        ("ignore_stack_contains", (re.compile(b"x"),), TypeError),
        ("ignore_stack_contains", (3,), TypeError),
        ("ignore_if", (3,), TypeError),
    ],
)
def test_mistaken_arguments_raise(
    factory: str, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    """What can only be a mistake is refused when the filter is made."""
    with pytest.raises(error):
        getattr(LeakFilter, factory)(*arguments)


class Odd(LeakFilter):
    """A filter of a user's own."""

    def ignore(self, allocation: Allocation) -> bool:
        """Return whether the size is odd."""
        return allocation.size % 2 == 1


def test_subclass_joins() -> None:
    """A user's filter works like the others."""
    odd = Odd()
    assert (A | odd).ignore(block(size=3))
    assert not (~odd & A).ignore(block(size=3, type="A"))
    assert "Odd" == str(odd)


def test_subclass_without_rule_raises() -> None:
    """The method to override is named."""

    class Empty(LeakFilter):
        pass

    with pytest.raises(NotImplementedError, match="Empty must override"):
        Empty().ignore(block())


def test_filter_pickles() -> None:
    """A filter of plain values is equal after a pickle."""
    rule = ~A & (B | LeakFilter.ignore_size(min=3)) | NONE
    assert rule == pickle.loads(pickle.dumps(rule))
    assert str(rule) == str(pickle.loads(pickle.dumps(rule)))


class Counting(LeakFilter):
    """Counts how often it is hashed."""

    hashed = 0

    def __hash__(self) -> int:
        Counting.hashed += 1
        return id(self)

    def ignore(self, allocation: Allocation) -> bool:
        """Ignore nothing."""
        return False


@pytest.mark.parametrize("join", [operator.and_, operator.or_])
def test_joining_one_by_one_is_linear(join: Any) -> None:
    """Thousands of operands: each is looked at a few times, no recursion."""
    rule: LeakFilter = Counting()
    Counting.hashed = 0
    for _ in range(3000):
        rule = join(rule, Counting())
    for _ in range(3):
        assert not rule.ignore(block(address=299))
    assert Counting.hashed <= 2 * 3001
    assert 3000 == str(rule).count("Counting") - 1
    assert 3000 < Counting.hashed
    del rule


def test_joins_of_joins_are_linear() -> None:
    """Also where both sides are joins."""
    rule = LeakFilter.ignore_none()
    Counting.hashed = 0
    for _ in range(1000):
        rule |= Counting() | Counting()
    assert rule == LeakFilter.of(rule)
    assert not rule.ignore(block())
    assert Counting.hashed <= 8 * 2000


def test_filter_that_cannot_be_hashed_joins() -> None:
    """A callable object with an equality of its own is an operand."""

    class Predicate:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, one: Allocation) -> bool:
            return one.size == 1

    rule = A | Predicate() | B
    assert [True, False] == [rule.ignore(block(size=n)) for n in (1, 2)]


def test_pickle_of_the_former_form_is_read() -> None:
    """Version 0.1 kept a set of operands in a slot."""
    old = type(A | B).__new__(type(A | B))
    old.__setstate__((None, {"_key": (frozenset([A, B]),), "_ordered": [A]}))
    assert old == A | B


# --- arguments --------------------------------------------------------------
ffi = cffi.FFI()
ffi.cdef("struct point { int x; };")


def test_ctypes_name_types() -> None:
    """A ctype object is its name, in any spelling."""
    given = [ffi.typeof(text) for text in ("struct point", "int *", "char[3]")]
    names = LeakFilter.ignore_types(["struct  point", "int*", "char [3]"])
    assert names == LeakFilter.ignore_types(given)


def test_pointers_are_addresses() -> None:
    """Cdata pointers and arrays stand for where they point."""
    pointer, array = ffi.new("int *"), ffi.new("char[3]")
    found = LeakFilter.ignore_addresses([pointer, array, 5])
    numbers = [int(ffi.cast("uintptr_t", one)) for one in (pointer, array)]
    assert LeakFilter.ignore_addresses([*numbers, 5]) == found


async def coroutine(one: Allocation) -> bool:
    return True


SENSELESS = [
    ("ignore_types", ([5],), TypeError, "names of C types or ctype objects"),
    ("ignore_types", (5,), TypeError, "several values for type, not 5"),
    ("ignore_addresses", (["5"],), TypeError, "addresses .int. or cdata"),
    ("ignore_addresses", ([True],), TypeError, "addresses .int. or cdata"),
    ("ignore_addresses", ([-1],), ValueError, "no negative number: -1"),
    ("ignore_kinds", ([None],), TypeError, "expected names, not None"),
    (
        "ignore_threads",
        ([threading.main_thread()],),
        TypeError,
        "pass its name, 'MainThread'",
    ),
    ("ignore_scopes", ([3],), TypeError, "expected names, not 3"),
    ("ignore_size", ("3",), TypeError, "size: min must be a number, not str"),
    ("ignore_size", (True,), TypeError, "size: min must be a number, not bool"),
    ("ignore_size", (math.nan,), ValueError, "size: min is nan"),
    ("ignore_age", (None, math.nan), ValueError, "age: max is nan"),
    ("ignore_size", (None, -1), ValueError, "no block has one"),
    ("ignore_age", (math.inf,), ValueError, "no block has one"),
    ("ignore_if", (int,), TypeError, "expected a callable that takes an"),
    ("ignore_if", (coroutine,), TypeError, "is always true"),
    ("ignore_if", (len, 5), TypeError, "name must be a str, not int"),
    ("of", (coroutine,), TypeError, "is always true"),
]


@pytest.mark.parametrize(("factory", "arguments", "error", "says"), SENSELESS)
def test_what_can_never_match_is_refused(
    factory: str, arguments: tuple[Any, ...], error: type[Exception], says: str
) -> None:
    """When the filter is made, with what is expected instead."""
    with pytest.raises(error, match=says):
        getattr(LeakFilter, factory)(*arguments)
