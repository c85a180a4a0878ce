"""How many blocks of the known programs ``find_lost()`` judges right.

    python tests/known_counts.py [ROUNDS]

prints one row for each allocator of Python: the programs of ``test_lost.py``,
each ROUNDS times (100), in 10 processes. "Held" are lost blocks that a word is
left of, which is told too little; "lost" are held blocks that are told to be
lost, which must never be.
"""

from __future__ import annotations

import json
import platform
import sys
from collections import Counter

from c_library import child
from test_lost import IN_THREADS, KNOWN, judging

PROCESSES = 10
ALLOCATORS = {"": "of Python", "malloc": "malloc"}


def judged(rounds: int, allocator: str) -> Counter[str]:
    """Return counts of blocks: all, right, false "held", false "lost"."""
    changes = {"PYTHONMALLOC": allocator} if allocator else {}
    found = json.loads(child(judging(rounds), timeout=600, **changes))
    counts: Counter[str] = Counter()
    many = {size: Counter(kinds) for size, kinds in IN_THREADS.items()}
    for size, kinds in KNOWN.items():
        many[size] = Counter({name: n * rounds for name, n in kinds.items()})
    for size, wanted in many.items():
        told = Counter(found[str(size)])
        wrong = told - wanted
        assert told.total() == wanted.total(), (size, told)
        counts["all"] += told.total()
        counts["right"] += (told & wanted).total()
        for verdict, n in wrong.items():
            is_lost = verdict in "DB"
            was_lost = bool(set("DB") & set(wanted))
            if is_lost == was_lost:
                counts["head or below"] += n
            else:
                counts["lost" if is_lost else "held"] += n
    return counts


def main() -> None:
    """Print the rows."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for allocator, name in ALLOCATORS.items():
        sums: Counter[str] = Counter()
        for _ in range(PROCESSES):
            sums += judged(rounds, allocator)
        cells = [
            f"{platform.python_version()}, glibc {platform.libc_ver()[1]}",
            name,
            *(f"{sums[one]:,}" for one in ("all", "right", "held", "lost")),
            f"{sums['head or below']:,}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
