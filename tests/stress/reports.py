"""Write, read and compare reports beside threads that allocate."""

from __future__ import annotations

import tempfile
from pathlib import Path

from _common import LeakTracker, Stress, alloc, churning, run

from ffi_leak_tracker.emitters.json import load


def main(stress: Stress) -> None:
    LeakTracker.enable()
    folder = Path(tempfile.mkdtemp(prefix="flk-stress-"))

    def write(name: str) -> None:
        """Write, read and compare; all threads write one file, too."""
        path, shared = folder / f"{name}.json", folder / "shared.json"
        while stress.going():
            kept = [alloc("short", 3) for _ in range(5)]
            shot = LeakTracker.snapshot()
            shot.emit(path) if hasattr(shot, "emit") else _emit(shot, path)
            found = load(path)
            stress.check(found == shot, "a report was not read as written")
            stress.check(not len(found - shot), "a report differs from itself")
            _emit(shot, shared)
            load(shared)
            shot.call_tree().to_text()
            for pointer in kept:
                alloc.free(pointer)
            stress.count(10)

    def look() -> None:
        names = [one.name for one in folder.iterdir()]
        stress.check(len(names) < 20, f"files were left: {names}")

    stress.beside(
        look,
        lambda: write("one"),
        lambda: write("two"),
        churning(stress),
    )
    left = {one.name for one in folder.iterdir()}
    for name in left:
        (folder / name).unlink()
    folder.rmdir()
    stress.check(left <= {"one.json", "two.json", "shared.json"}, str(left))
    stress.check_books(0)


def _emit(shot, path: Path) -> None:
    from ffi_leak_tracker.emitters.json import JsonEmitter

    JsonEmitter(path).emit(shot)


if __name__ == "__main__":
    run(main)
