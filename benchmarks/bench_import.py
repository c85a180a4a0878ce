"""P18: the cost of ``import ffi_leak_tracker``."""

from __future__ import annotations

from harness import Row, main, new_process, size, values_row

ROUNDS = size(15, 2)
TIMED = "import time; start = time.process_time(); {}; "
TIMED += "print(time.process_time() - start)"
TRACKER = "from ffi_leak_tracker import LeakTracker, adaptive_calloc"


def seconds(statement: str) -> float:
    """Return the processor time of an import statement in a new process."""
    environment = {"PYTHONDONTWRITEBYTECODE": ""}
    timed = TIMED.format(statement)
    return float(new_process("-c", timed, environment=environment))


def rows() -> list[Row]:
    statements = {
        "cffi": "import cffi",
        "package": "import ffi_leak_tracker",
        "tracker": TRACKER,
    }
    times: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(ROUNDS):
        for name, statement in statements.items():
            times[name].append(seconds(statement))
    times = {name: values[1:] for name, values in times.items()}  # 1 warm-up

    def row(name: str, what: str, goal: float | None) -> Row:
        ratios = [
            one / base
            for one, base in zip(times[name], times["cffi"], strict=True)
        ]
        return values_row("P18", what, "import cffi", ratios, goal)

    return [
        row("package", "import ffi_leak_tracker", 3.0),
        row("tracker", "with LeakTracker and the allocators", 2.0),
    ]


if __name__ == "__main__":
    main(rows)
