"""Change guard bytes and poison beside threads that allocate and align."""

from __future__ import annotations

from _common import LeakTracker, Stress, alloc, churning, run


def main(stress: Stress) -> None:
    chance = stress.random()
    LeakTracker.enable()

    def aligning(align: int) -> None:
        mine = stress.random()
        while stress.going():
            pointers = [
                alloc("char", mine.randrange(1, 300), alignment=align)
                for _ in range(20)
            ]
            for pointer in pointers:
                alloc.free(pointer)
            stress.count(40)

    def toggle() -> None:
        LeakTracker.enable(
            guard=chance.choice([0, 16, 48]), poison=chance.random() < 0.5
        )
        stress.count()

    stress.beside(
        toggle,
        churning(stress),
        churning(stress),
        lambda: aligning(64),
        lambda: aligning(4096),
    )
    LeakTracker.drain_quarantine()
    stress.check_books(0)
    stress.check(not LeakTracker.misuses(), "misuses were found")


if __name__ == "__main__":
    run(main)
