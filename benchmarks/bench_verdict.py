"""``find_lost``: how long it takes, and how long the process stands still.

Each case is a process of its own. Its memory holds words of which half are
addresses of Python objects, as in a real heap, so that the look-up of words
is part of the figure.
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

from harness import main, new_process, size, values_row

if TYPE_CHECKING:
    from harness import Row

MEGABYTES = size(100, 10), size(1000, 20)
BLOCKS = size(10_000, 1000)
MANY_BLOCKS = size(1_000_000, 10_000)
ROUNDS = size(7, 1)

CASE = """
import json, resource, sys
from array import array
from ffi_leak_tracker import LeakTracker, diagnostic_malloc
megabytes, blocks, rounds = map(int, sys.argv[1:])
objects = [str(i) for i in range(65536)]
ids = [id(one) for one in objects] * 2
words = array("Q", [ids[i] if i % 2 else i for i in range(131072)])
memory = [words[:] for _ in range(megabytes)]
LeakTracker.enable()
kept = [diagnostic_malloc("char", 64) for _ in range(blocks // 2)]
for _ in range(blocks - len(kept)):
    diagnostic_malloc("char", 64)
times = []
def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
for _ in range(rounds):
    before = spent()
    found = LeakTracker.find_lost(time_limit=600)
    search = found.search
    cpu = spent() - before
    times.append((search.duration, cpu, search.standing))
    lost = len(found.lost)
figures = LeakTracker.self_stats
print(json.dumps([times, search.words, lost, figures["search_bytes"]]))
"""


def measured(megabytes: int, blocks: int) -> tuple[list[Row], float]:
    """Return the rows of one case, and the share of lost blocks found."""
    sizes = str(megabytes), str(blocks), str(ROUNDS)
    times, words, lost, memory = json.loads(new_process("-c", CASE, *sizes))
    whole, cpu, standing = zip(*times, strict=True)
    what = f"process of {megabytes} MB, {blocks:,} recorded blocks"
    detail = {
        "words": words,
        "MB a second of processor time": words
        * 8
        / 1e6
        / statistics.median(cpu),
        "memory of the search, bytes a block": memory / blocks,
        "lost, of half of the blocks": lost / (blocks - blocks // 2),
    }
    return [
        row(what, "the call", whole, detail),
        row(what, "processor time of the child", cpu, {}),
        row(what, "in which threads that allocate wait", standing, {}),
    ], lost / (blocks - blocks // 2)


def row(
    what: str, part: str, times: tuple[float, ...], detail: dict[str, float]
) -> Row:
    values = [1000 * one for one in times]
    made = values_row("", f"{what}: {part}", "", values, unit="ms")
    made.detail.update(detail)
    return made


def rows() -> list[Row]:
    cases = [(one, BLOCKS) for one in MEGABYTES]
    cases.append((MEGABYTES[0], MANY_BLOCKS))
    found: list[Row] = []
    for megabytes, blocks in cases:
        some, share = measured(megabytes, blocks)
        assert share > 0.9, f"{share:.0%} of the lost blocks were found"
        found += some
    return found


if __name__ == "__main__":
    main(rows)
