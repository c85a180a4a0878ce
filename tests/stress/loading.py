"""Load and unload libraries in threads while all are attached and not."""

from __future__ import annotations

from _common import LeakTracker, Stress, churning, core, run
from c_library import cffi, declarations, path


def main(stress: Stress) -> None:
    paths = [
        (path("plain", as_name=f"storm{number}"), "plain")
        for number in range(4)
    ]
    LeakTracker.attach().detach()

    def storm(number: int) -> None:
        where, name = paths[number]
        text = declarations(name)
        while stress.going():
            ffi = cffi.FFI()
            ffi.cdef(text)
            lib = ffi.dlopen(where)
            blocks = [lib.take(size) for size in range(1, 20)]
            lib.churn(50)
            for block in blocks:
                lib.give(block)
            ffi.dlclose(lib)
            stress.count(138)

    chance = stress.random()

    def toggle() -> None:
        with LeakTracker.attach(chance.choice([None, ["libstorm*"]])):
            LeakTracker.snapshot()
        stress.count()

    stress.beside(
        toggle,
        churning(stress, 50),
        *[lambda n=n: storm(n) for n in range(len(paths))],
    )
    LeakTracker.detach()
    stress.check(core.lib.flk_tracker_check(), "flk_tracker_check() is false")
    slots = core.self_figures()["hooks_slots"]
    stress.check(slots == 0, f"{slots} slots are still hooked")
    entries = core.self_figures()["entries"]
    stress.check(entries == 0, f"{entries} records are left")


if __name__ == "__main__":
    run(main)
