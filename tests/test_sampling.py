"""attach(sample_bytes=...): few blocks recorded, honest estimates."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from math import expm1

import cffi
import pytest
from conftest import IS_PYPY

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._tracking.sampling import Estimate

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="no hooks"),
    pytest.mark.skipif(IS_PYPY, reason="slow"),
]

SOURCE = """
#include <stdlib.h>
static void *kept[100000];
static int count;
void make(int n, int size) {
    for (int i = 0; i < n; i++)
        kept[count++] = malloc(size);
}
void grow(int n, int size) {
    for (int i = 0; i < n; i++) {
        void *block = malloc(1);
        for (int have = 8; have < size; have += 8)
            block = realloc(block, have);
        kept[count++] = realloc(block, size);
    }
}
void drop(void) {
    while (count)
        free(kept[--count]);
}
"""


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    source = folder / "sampled.c"
    source.write_text(SOURCE)
    target = folder / "libsampled.so"
    subprocess.run(
        ["cc", "-O1", "-shared", "-fPIC", str(source), "-o", str(target)],
        check=True,
    )
    ffi = cffi.FFI()
    ffi.cdef("void make(int, int); void grow(int, int); void drop(void);")
    loaded = ffi.dlopen(str(target))
    yield loaded
    loaded.drop()


def sampled(lib, mean: int):
    return LeakTracker.attach([lib], sample_bytes=mean, stack_depth=4)


def is_near(guess: float, truth: float, error: float) -> bool:
    """Within six standard errors: fails once in 500 million runs."""
    return abs(guess - truth) <= 6 * error + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 64, 500, 5000])
def test_estimates_are_near(lib, size) -> None:
    """Without bias, and as far off as they say.

    Compared with the true standard error: the estimated one is too small
    whenever the estimate is, which would make the test fail too often.
    """
    rounds, count, mean = 16, 20_000, 2000
    guesses = []
    for _ in range(rounds):
        with sampled(lib, mean) as attachment:
            lib.make(count, size)
            guesses.append(attachment.estimate())
            lib.drop()
            assert attachment.estimate().blocks == 0
    chance = -expm1(-size / mean)
    error = (count * (1 - chance) / chance) ** 0.5
    blocks = statistics.fmean(one.blocks for one in guesses)
    size_bytes = statistics.fmean(one.bytes for one in guesses)
    assert is_near(blocks, count, error / rounds**0.5)
    assert is_near(size_bytes, count * size, error * size / rounds**0.5)
    said = statistics.fmean(one.blocks_error for one in guesses)
    assert abs(said - error) <= 0.1 * error


def test_few_are_recorded(lib) -> None:
    """One block for each so many bytes."""
    with sampled(lib, 10_000) as attachment:
        lib.make(50_000, 20)  # a million bytes: 100 samples
        found = len(attachment.detach())
    assert 40 < found < 180
    lib.drop()


def test_large_blocks_are_all_recorded(lib) -> None:
    """A block of many times the mean is always in the sample."""
    with sampled(lib, 100) as attachment:
        lib.make(200, 100_000)
        assert len(attachment.detach()) == 200
    lib.drop()


def test_growing_is_not_likelier(lib) -> None:
    """By realloc, step by step, as by one malloc."""
    with sampled(lib, 2000) as attachment:
        lib.grow(4000, 400)
        guess = attachment.estimate()
        chance = -expm1(-400 / 2000)
        error = (4000 * (1 - chance) / chance) ** 0.5
        assert is_near(guess.blocks, 4000, error)
        lib.drop()
        assert attachment.estimate().blocks == 0


def test_reports_say_so(lib) -> None:
    """The note names the mean, and goes with the attachment."""
    with sampled(lib, 1000):
        lib.make(100, 100)
        (note,) = [
            one for one in LeakTracker.snapshot().notes if "sampled" in one
        ]
        assert "1000 B" in note or "1,000 B" in note
        lib.drop()
    assert not any("sampled" in one for one in LeakTracker.snapshot().notes)


def test_unsampled_frees_are_not_foreign(lib) -> None:
    """A free of a block outside the sample counts as nothing."""
    before = LeakTracker.self_stats["hooks_foreign_frees"]
    with sampled(lib, 10**9):
        lib.make(1000, 16)
        lib.drop()
    assert LeakTracker.self_stats["hooks_foreign_frees"] == before


def test_all_attachments_agree(lib) -> None:
    """A second mean is refused; without one all blocks are recorded."""
    with sampled(lib, 1000), pytest.raises(ValueError, match="sample_bytes"):
        LeakTracker.attach([lib])
    with LeakTracker.attach([lib]) as attachment:
        lib.make(10, 10)
        guess = attachment.estimate()
        assert (guess.blocks, guess.blocks_error) == (10, 0)
        lib.drop()


def test_estimate_has_no_bias() -> None:
    """The formula, on samples drawn here."""
    draw = random.Random(3)
    sizes, mean = [10, 100, 1000] * 30, 300

    def once() -> float:
        taken = [s for s in sizes if draw.random() < -expm1(-s / mean)]
        return Estimate.of(taken, mean).blocks

    guesses = [once() for _ in range(2000)]
    error = statistics.stdev(guesses) / 2000**0.5
    assert is_near(statistics.fmean(guesses), 90, error)
