"""Scopes in tasks: nested at random, held across awaits, ended elsewhere."""

from __future__ import annotations

import asyncio
import random

from _common import LeakTracker, Stress, alloc, run

TASKS = 20


async def nested(
    stress: Stress, chance: random.Random, depth: int
) -> tuple[int, list[object]]:
    """Allocate in a scope; return how much was made, and what is left."""
    made, left = 0, []
    name = f"{depth}-{chance.random()}"
    async with LeakTracker.scope(name) as scope:
        for _ in range(chance.randrange(1, 6)):
            await asyncio.sleep(0)
            if depth and chance.random() < 0.4:
                below, kept = await nested(stress, chance, depth - 1)
                made, left = made + below, left + kept
                continue
            left.append(alloc("char", chance.randrange(1, 90)))
            made += 1
            if chance.random() < 0.5:
                alloc.free(left.pop(chance.randrange(len(left))))
        stats = scope.stats
        stress.check(
            (stats.allocations, stats.live_blocks) == (made, len(left)),
            f"{made} made and {len(left)} left, but {stats}",
        )
        shot = scope.snapshot()
        stress.check(len(shot) == len(left), f"{len(shot)} in the snapshot")
    stress.count(made)
    return made, left


async def one(stress: Stress, chance: random.Random) -> None:
    _, left = await nested(stress, chance, 5)
    for pointer in left:
        alloc.free(pointer)
    stress.count(len(left))


async def work(stress: Stress) -> None:
    while stress.going():
        chances = [stress.random() for _ in range(TASKS)]
        await asyncio.gather(*[one(stress, chance) for chance in chances])


def main(stress: Stress) -> None:
    LeakTracker.enable()

    def loop() -> None:
        asyncio.run(work(stress))

    stress.beside(loop, loop)
    stress.check_books(0)


if __name__ == "__main__":
    run(main)
