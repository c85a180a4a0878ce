"""One grammar of C types: filters, observers and ``track`` spell as cffi."""

from __future__ import annotations

from typing import Any

import cffi
import pytest

from ffi_leak_tracker import (
    LeakDetector,
    LeakFilter,
    LeakTracker,
    diagnostic_calloc,
    find_growth,
)
from ffi_leak_tracker._base.ctype_names import ByType, spelled, spellings
from ffi_leak_tracker._records.suppressions import Suppressions

ffi = cffi.FFI()
ffi.cdef("struct tree; union both { int a; }; enum kind { ONE };")
NAMES = """
int; char; unsigned; unsigned int; signed; signed int; short
short int; unsigned short int; long; long int; unsigned long; long unsigned int
long long; long long int; unsigned long long
signed char; unsigned char; float; double; long double; bool; _Bool; void *
char*; char **; char * const *; const char *; char const*; struct tree *
struct  tree **; union both; enum kind; uint8_t; size_t; uint8_t*; int[3]
int [3]; int*[3]; char[4][5]; unsigned[2]; const unsigned * [7]; int[]
"""


@pytest.mark.parametrize(
    "name",
    [one.strip() for line in NAMES.splitlines() for one in line.split(";")],
)
def test_the_spelling_is_that_of_cffi(name) -> None:
    """And is not changed again."""
    if not name:
        return
    assert spelled(name) == ffi.typeof(name).cname
    assert spelled(spelled(name)) == spelled(name)


@pytest.mark.parametrize(
    "name",
    [
        "inflate state",
        "thing",
        "int(*)(int)",
        "drawn shape",
        "c_int_Array_2",
        "(more than 65280 types)",
        "calloc of libz",
        "std::string",
        "3",
        "*",
        "[3]",
        "",
        "é t",
    ],
)
def test_other_texts_stay(name) -> None:
    """A type of ``track`` may be any text."""
    assert spelled(name) == name


def test_an_array_stands_for_arrays_of_no_length() -> None:
    """As memory of ``ffi.new`` is recorded."""
    assert spellings("int[3]") == ("int[3]", "int[]")
    assert spellings("int *[3]") == ("int *[3]", "int *[]")
    assert spellings("int[]") == ("int[]",)
    assert spellings("int *") == ("int *",)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("unsigned", "unsigned"),
        ("unsigned int", ffi.typeof("unsigned")),
        ("long int", "long"),
        ("int[3]", "int [3]"),
        ("int[3]", ffi.typeof("int[3]")),
    ],
)
def test_filters_and_observers_know_each_spelling(made, named) -> None:
    """Of a type that an allocator was given."""
    seen: list[Any] = []
    with (
        LeakTracker.scope(isolated=True) as scope,
        LeakTracker.observe(named, allocated=seen.append),
    ):
        block = diagnostic_calloc(made)
        other = diagnostic_calloc("char")
        hidden = LeakFilter.ignore_types([named])
        assert [one.type for one in scope.snapshot(filter=hidden)] == ["char"]
        assert [one.type for one in seen] == [ffi.typeof(made).cname]
        diagnostic_calloc.free(block)
        diagnostic_calloc.free(other)


def test_track_spells_its_type() -> None:
    """So that filters find it."""
    with LeakTracker.scope(isolated=True) as scope:
        LeakTracker.track(4096, 4, type="unsigned")
        LeakTracker.track(8192, 4, type="struct  tree")
        assert sorted(one.type for one in scope.snapshot()) == [
            "struct tree",
            "unsigned int",
        ]
        LeakTracker.untrack(4096)
        LeakTracker.untrack(8192)


# --- every door that takes the name of a type ---------------------------
SPELLINGS = {
    "unsigned int": [
        "unsigned",
        "int unsigned",
        "unsigned int",
        "const unsigned",
    ],
    "char *": ["char*", "char *", "const char *", "char  *"],
    "int[]": ["int[3]", "int [3]", "int[]"],
    "struct image": ["struct image", "const struct image", "struct  image"],
    "drawn shape": ["drawn shape"],
}
PAIRS = [(made, one) for made, names in SPELLINGS.items() for one in names]


def by_types(name: str) -> bool:
    """Return whether ``types()`` has the type, in each way to look it up."""
    found = LeakTracker.types()
    answers = {name in found, found.get(name) is not None}
    try:
        answers.add(found[name].live_blocks > 0)
    except KeyError:
        answers.add(False)
    (answer,) = answers
    return answer


def by_filter(name: str) -> bool:
    """Return whether ``ignore_types`` hides the block."""
    hidden = LeakFilter.ignore_types([name])
    return not len(LeakTracker.snapshot(filter=hidden))


def by_suppression(name: str) -> bool:
    """Return whether a rule hides the block."""
    rules = Suppressions(f"leak:^{name}$")
    return not len(LeakTracker.snapshot(filter=rules))


DOORS = {"types": by_types, "filter": by_filter, "suppression": by_suppression}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("made", "named"), PAIRS)
def test_every_door_knows_each_spelling(made, named, door) -> None:
    """And no other type."""
    LeakTracker.reset()
    with LeakTracker.scope(isolated=True):
        LeakTracker.track(ffi.cast("void *", 4096), type=made)
        assert DOORS[door](named)
        assert not DOORS[door]("struct other")
        assert not DOORS[door]("long long")
        LeakTracker.untrack(ffi.cast("void *", 4096))


def test_a_table_is_a_dictionary() -> None:
    """Its own keys are found first, and nothing is added by a look-up."""
    table = ByType({"int": 1, "drawn shape": 2})
    assert [table["signed"], table["drawn shape"]] == [1, 2]
    assert table.get("char") is None
    assert table.get("char", 5) == 5
    assert dict(table) == {"int": 1, "drawn shape": 2}


def test_keys_of_types_are_cffis() -> None:
    """Each type once; ctypes of cffi are keys as well."""
    LeakTracker.reset()
    with LeakTracker.scope(isolated=True):
        one = diagnostic_calloc("unsigned")
        found = LeakTracker.types()
        assert list(found) == ["unsigned int"]
        assert found[ffi.typeof("unsigned")] is found["unsigned"]
        with pytest.raises(KeyError):
            _ = found["short"]
        with pytest.raises(KeyError):
            _ = found[3]  # type: ignore[index]
        diagnostic_calloc.free(one)


# --- names of which nothing was ever recorded ---------------------------
@pytest.fixture
def tree() -> Any:
    """Record and remove a block of a type."""
    with LeakTracker.scope(isolated=True):
        LeakTracker.track(4096, 8, type="struct tall_tree")
        LeakTracker.untrack(4096)


UNSEEN = (
    'no block of type "struct tal_tree" (did you mean "struct tall_tree"?) '
    "was ever recorded"
)
MISSPELT = ~LeakFilter.ignore_types(["struct tal_tree"])
RIGHT = ~LeakFilter.ignore_types(["struct  tall_tree"])


def test_a_check_of_an_unknown_type_is_doubted(tree) -> None:
    """What it leaves is nothing, whatever leaks."""
    with LeakTracker.scope(isolated=True) as scope:
        LeakTracker.track(4096, 8, type="struct tall_tree")
        with pytest.warns(RuntimeWarning, match="did you mean") as told:
            scope.verify_no_leaks(filter=MISSPELT)
        assert UNSEEN in str(told[0].message)
        assert UNSEEN in scope.snapshot(filter=MISSPELT).notes
        assert UNSEEN in scope.leaks(filter=MISSPELT).notes
        LeakTracker.untrack(4096)


def test_a_detector_of_an_unknown_type_is_doubted(tree) -> None:
    """As a scope is that verifies, and the filter of all reports."""
    with LeakDetector(filter=MISSPELT) as detector:
        one = diagnostic_calloc("int")
    with pytest.warns(RuntimeWarning, match="did you mean"):
        detector.assert_no_leaks()
    with (
        pytest.warns(RuntimeWarning, match="did you mean"),
        LeakTracker.scope(verify=True, filter=MISSPELT),
    ):
        two = diagnostic_calloc("int")
    LeakTracker.add_global_filter(MISSPELT)
    try:
        with (
            pytest.warns(RuntimeWarning, match="did you mean"),
            LeakTracker.scope(verify=True),
        ):
            three = diagnostic_calloc("int")
    finally:
        LeakTracker.clear_global_filter()
    for block in (one, two, three):
        diagnostic_calloc.free(block)


def test_nothing_live_is_clean_of_any_type(
    tree, recwarn: pytest.WarningsRecorder
) -> None:
    """A filter that hides nothing needs no warning."""
    with LeakTracker.scope(isolated=True, filter=MISSPELT) as scope:
        scope.verify_no_leaks()
    with LeakDetector(filter=MISSPELT) as detector:
        pass
    detector.assert_no_leaks()
    assert not [one for one in recwarn if "of type" in str(one.message)]


def test_known_types_and_hidden_ones_need_no_word(
    tree, recwarn: pytest.WarningsRecorder
) -> None:
    """A type that is left out and does not occur hides no leak."""
    unused = LeakFilter.ignore_types(["struct tal_tree"])
    with LeakTracker.scope(isolated=True) as scope:
        for one in (RIGHT, unused, RIGHT | unused):
            scope.verify_no_leaks(filter=one)
            assert UNSEEN not in scope.snapshot(filter=one).notes
    assert not [one for one in recwarn if "of type" in str(one.message)]


def test_an_array_is_known_by_its_item(tree) -> None:
    """Memory of ``ffi.new`` is recorded without a length."""
    with LeakTracker.scope(isolated=True) as scope:
        LeakTracker.track(4096, type="short[]")
        for name in ("short[3]", "short[]"):
            one = ~LeakFilter.ignore_types([name])
            assert not [
                text
                for text in scope.snapshot(filter=one).notes
                if "of type" in text
            ]
        LeakTracker.untrack(4096)
        unknown = ~LeakFilter.ignore_types(["struct nowhere[3]"])
        (note,) = [
            text
            for text in scope.snapshot(filter=unknown).notes
            if "of type" in text
        ]
        assert note == 'no block of type "struct nowhere[3]" was ever recorded'


def test_an_observer_of_an_unknown_type_says_so(tree) -> None:
    """At its end, once."""
    observer = LeakTracker.observe("tall_tree *", allocated=print)
    with pytest.warns(RuntimeWarning, match='mean "struct tall_tree"'):
        observer.close()
    observer.close()


def test_an_observer_of_a_known_type_is_silent(
    tree, recwarn: pytest.WarningsRecorder
) -> None:
    """Also if nothing of it was made meanwhile, and one of a new type."""
    with LeakTracker.observe("struct tall_tree", allocated=print):
        pass
    with (
        LeakTracker.scope(isolated=True),
        LeakTracker.observe("struct other_tree", freed=id),
    ):
        LeakTracker.track(4096, type="struct other_tree")
        LeakTracker.untrack(4096)
    assert not [one for one in recwarn if "of type" in str(one.message)]


def test_growth_of_an_unknown_type_is_doubted(tree) -> None:
    """Nothing of what grows is left."""
    kept: list[Any] = []

    def grow() -> None:
        kept.append(diagnostic_calloc("int"))

    found = find_growth(grow, rounds=40, filter=MISSPELT)
    assert not found
    assert UNSEEN in found.unseen
    with pytest.warns(RuntimeWarning, match="did you mean"):
        found.assert_none()
    assert UNSEEN not in find_growth(grow, rounds=40, filter=RIGHT).unseen
    for one in kept:
        diagnostic_calloc.free(one)


def test_a_key_of_types_that_is_unknown_has_a_hint(tree) -> None:
    """A budget of a type is one of its counts."""
    LeakTracker.types()["struct tall_tree"].assert_max(blocks=100)
    with pytest.raises(KeyError, match="did you mean 'struct tall_tree'"):
        LeakTracker.types()["struct tal_tree"].assert_max(blocks=100)


@pytest.mark.parametrize("name", ["", " "])
def test_empty_names_are_refused_everywhere(name) -> None:
    """Since nothing has one."""
    with pytest.raises(ValueError, match="empty"):
        LeakFilter.ignore_types([name])
    with pytest.raises(TypeError, match="empty"):
        LeakTracker.observe(name, freed=print)
    with pytest.raises(ValueError, match="must be a word"):
        LeakTracker.track(4096, type=name)
