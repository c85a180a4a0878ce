"""Each test that leaks has a name that says so."""

import pytest
from planted_leaks import Box, Shelf, each, lib, total


def test_clean_shelf():
    shelf = Shelf("books", 3)
    assert shelf.name_freed == "books"
    shelf.close()


def test_leak_1_error_path():
    with pytest.raises(ValueError, match="positive"):
        Shelf("books", 0)


def test_leak_2_owned_string():
    shelf = Shelf("books", 3)
    assert shelf.name == "books"
    shelf.close()


def test_clean_box():
    assert Box(3, "novels").label == "novels"


def test_leak_3_shallow_destructor():
    assert Box(3, "novels", is_shallow=True).label == "novels"


def test_clean_callback():
    seen = []
    each(3, seen.append)
    assert seen == [0, 1, 2]


def test_leak_4_userdata_kept():
    seen = []
    each(3, seen.append, keep=True)
    assert seen == [0, 1, 2]


def test_clean_total():
    assert total([1, 2, 3]) == 6


def test_leak_5_delete_for_new_array():
    assert total([1, 2, 3], is_array=False) == 6


def test_clean_cache_that_fills_once():
    assert lib.lookup(b"words") == ord("w")


def test_leak_6_growing_cache():
    assert lib.remember(b"words") == ord("w")
    assert lib.remembered() > 0


def test_clean_nothing():
    assert lib.remembered() >= 0
