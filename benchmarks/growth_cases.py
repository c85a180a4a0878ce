"""Functions whose growth is known.

``CASES`` maps a name to (make, leaking types). ``make(random)`` returns the
function to call. A leak has a type that nothing else in its function has.
Blocks that do not leak have the type char.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from ffi_leak_tracker import diagnostic_calloc as alloc

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from typing import TypeAlias

    Function: TypeAlias = Callable[[], object]
    Make: TypeAlias = Callable[[random.Random], Function]

CASES: dict[str, tuple[Make, frozenset[str]]] = {}


def case(name: str, *leaking: str) -> Callable[[Make], Make]:
    def enter(make: Make) -> Make:
        CASES[name] = make, frozenset(leaking)
        return make

    return enter


# --- leaks ----------------------------------------------------------------
@case("one block a call", "int64_t")
def steady(_: random.Random) -> Function:
    return lambda: alloc("int64_t", 4)


@case("three blocks a call", "int64_t")
def three(_: random.Random) -> Function:
    return lambda: [alloc("int64_t", 4) for _ in range(3)]


def every(k: int) -> None:
    @case(f"every {k}th call", "int64_t")
    def make(random: random.Random) -> Function:
        count = random.randrange(k)

        def call() -> None:
            nonlocal count
            count += 1
            if count % k == 0:
                alloc("int64_t", 4)

        return call


for number in (2, 7, 50, 100):
    every(number)


def by_chance(chance: float) -> None:
    @case(f"with chance {chance}", "int64_t")
    def make(random: random.Random) -> Function:
        def call() -> None:
            if random.random() < chance:
                alloc("int64_t", 4)

        return call


for part in (0.5, 0.1, 0.01):
    by_chance(part)


@case("two leaks, two lines", "int64_t", "double")
def two(random: random.Random) -> Function:
    def call() -> None:
        alloc("int64_t", 4)
        if random.random() < 0.2:
            alloc("double", 2)

    return call


@case("larger and larger blocks", "int64_t")
def larger(_: random.Random) -> Function:
    size = 0

    def call() -> None:
        nonlocal size
        size += 1
        alloc("int64_t", size % 500)

    return call


@case("a block that realloc enlarges", "int64_t")
def enlarged(_: random.Random) -> Function:
    size, block = 1, alloc("int64_t", 1)

    def call() -> None:
        nonlocal size, block
        size += 2
        block = alloc.realloc(block, size)

    return call


@case("a buffer that is doubled", "int64_t")
def doubled(_: random.Random) -> Function:
    used, room, block = 0, 1, alloc("int64_t", 1)

    def call() -> None:
        nonlocal used, room, block
        used += 1
        if used == room:
            room *= 2
            block = alloc.realloc(block, room)

    return call


@case("a buffer copied to a larger one", "int64_t")
def copied(_: random.Random) -> Function:
    size, block = 1, alloc("int64_t", 1)

    def call() -> None:
        nonlocal size, block
        size += 1
        old, block = block, alloc("int64_t", size)
        alloc.free(old)

    return call


@case("begins after 500 calls", "int64_t")
def late(_: random.Random) -> Function:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        if count > 500:
            alloc("int64_t", 4)

    return call


@case("more kept than freed", "int64_t")
def drifting(random: random.Random) -> Function:
    kept: list[object] = []

    def call() -> None:
        if random.random() < 0.5:
            kept.append(alloc("int64_t", 4))
        if kept and random.random() < 0.3:
            alloc.free(kept.pop(random.randrange(len(kept))))

    return call


# --- no leaks ---------------------------------------------------------------
@case("nothing")
def nothing(_: random.Random) -> Function:
    return lambda: None


@case("freed at once")
def freed(_: random.Random) -> Function:
    return lambda: alloc.free(alloc("char", 100))


@case("once")
def once(_: random.Random) -> Function:
    kept: list[object] = []

    def call() -> None:
        if not kept:
            kept.append(alloc("char", 100_000))

    return call


@case("once, at call 300")
def once_late(_: random.Random) -> Function:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        if count == 300:
            alloc("char", 100_000)

    return call


def cache(keys: int) -> None:
    @case(f"cache of {keys} keys, at random")
    def make(random: random.Random) -> Function:
        seen: dict[int, object] = {}

        def call() -> None:
            key = random.randrange(keys)
            if key not in seen:
                seen[key] = alloc("char", 100)

        return call


for number in (5, 100, 1000):
    cache(number)


@case("cache of 300 keys, in order")
def ordered(_: random.Random) -> Function:
    kept: list[object] = []

    def call() -> None:
        if len(kept) < 300:
            kept.append(alloc("char", 100))

    return call


def lru(room: int, keys: int) -> None:
    @case(f"LRU cache of {room} of {keys} keys")
    def make(random: random.Random) -> Function:
        kept: OrderedDict[int, object] = OrderedDict()

        def call() -> None:
            key = random.randrange(keys)
            if key in kept:
                kept.move_to_end(key)
                return
            kept[key] = alloc("char", 100)
            if len(kept) > room:
                alloc.free(kept.popitem(last=False)[1])

        return call


lru(128, 200)
lru(128, 10**9)
lru(1000, 10**9)


@case("ring of 16")
def ring(_: random.Random) -> Function:
    kept: list[object] = []

    def call() -> None:
        kept.append(alloc("char", 100))
        if len(kept) > 16:
            alloc.free(kept.pop(0))

    return call


def sawtooth(batch: int) -> None:
    @case(f"emptied each {batch} calls")
    def make(random: random.Random) -> Function:
        kept = [alloc("char", 100) for _ in range(random.randrange(batch))]

        def call() -> None:
            kept.append(alloc("char", 100))
            if len(kept) >= batch:
                for block in kept:
                    alloc.free(block)
                kept.clear()

        return call


for number in (10, 100, 700):
    sawtooth(number)


def churn(order: str) -> None:
    @case(f"kept and freed, {order} first")
    def make(random: random.Random) -> Function:
        kept: list[object] = []

        def call() -> None:
            if random.random() < 0.5:
                kept.append(alloc("char", 100))
            if kept and random.random() < 0.5:
                at = {"newest": -1, "oldest": 0}.get(order)
                at = random.randrange(len(kept)) if at is None else at
                alloc.free(kept.pop(at))

        return call


for word in ("newest", "oldest", "any"):
    churn(word)


@case("released in the end")
def released(_: random.Random) -> Function:
    """Keep batches of 2,000: longer than the 1,000 calls that are watched."""
    kept: list[object] = []

    def call() -> None:
        kept.append(alloc("char", 100))
        if len(kept) == 2000:
            for block in kept:
                alloc.free(block)
            kept.clear()

    return call


@case("garbage in cycles")
def cycles(_: random.Random) -> Function:
    def call() -> None:
        cycle: list[object] = [alloc.new("char[100]")]
        cycle.append(cycle)

    return call


# --- both -------------------------------------------------------------------
def both(leak: str, noise: str) -> None:
    @case(f"{leak} + {noise}", *CASES[leak][1])
    def make(random: random.Random) -> Function:
        calls = [CASES[name][0](random) for name in (leak, noise)]

        def call() -> None:
            for one in calls:
                one()

        return call


both("every 50th call", "LRU cache of 128 of 200 keys")
both("with chance 0.1", "cache of 1000 keys, at random")
both("every 7th call", "kept and freed, any first")


@case("leak and cache on one line", "int64_t")
def shared(random: random.Random) -> Function:
    seen: dict[int, object] = {}

    def call() -> None:
        key = random.randrange(100)
        if key not in seen or key < 10:
            seen[key] = alloc("int64_t", 4)

    return call


@case("leak and ring on one line", "int64_t")
def shared_ring(random: random.Random) -> Function:
    kept: list[object] = []

    def call() -> None:
        block = alloc("int64_t", 4)
        if random.random() < 0.9:
            kept.append(block)
            if len(kept) > 16:
                alloc.free(kept.pop(0))

    return call
