"""Run the stress scripts beside this file, each in processes of its own.

    python tests/stress/run.py --minutes 10 [--seed 1] [--only forks]

A round is one process of one script with a seed of its own. A round that is
killed by a signal, hangs or ends with another status is a fault; what a
script finds to be wrong is printed. Ends with 0 if there was neither.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted(
    path.stem
    for path in HERE.glob("*.py")
    if path.stem != "run" and not path.stem.startswith("_")
)
#: Scripts that attach, which a sanitizer's allocator rules out.
HOOKED = {"attach", "loading", "reattach", "signals"}
#: What a core built with FFI_LEAK_TRACKER_BUILD=asan or tsan needs: its library
#: first, and options. Leaks are those of the interpreter. The addresses of a
#: process must not be too random for TSan.
SANITIZERS = {
    "asan": {
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    },
    "tsan": {
        "TSAN_OPTIONS": "report_thread_leaks=0:report_signal_unsafe=0:"
        "ignore_noninstrumented_modules=1:die_after_fork=0:exitcode=66",
    },
}
GRACE = 60.0  # seconds that a round may take to begin and to end
SHOWN = 3000  # characters of the standard error of a fault


class Tally:
    """What the rounds of one script came to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rounds = self.operations = self.forks = 0
        self.faults = self.wrong = 0

    def add(self, other: Tally) -> None:
        for name in ("rounds", "operations", "forks", "faults", "wrong"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def cells(self) -> tuple[str, ...]:
        numbers = (self.rounds, self.operations, self.forks)
        numbers += (self.faults, self.wrong)
        return (self.name, *[f"{one:,}" for one in numbers])


def run_round(tally: Tally, python: str, seconds: float, seed: int) -> None:
    """Run one process and add what came of it."""
    script = str(HERE / f"{tally.name}.py")
    command = [python, script, f"--seconds={seconds:g}", f"--seed={seed}"]
    tally.rounds += 1
    status, out, err = finished(command, seconds + GRACE)
    result = parsed(out)
    if status != 0 or result is None:
        tally.faults += 1
        say(f"FAULT {' '.join(command)}\nstatus {status}\n{err[-SHOWN:]}")
    if result is not None:
        tally.operations += result["operations"]
        tally.forks += result["forks"]
        tally.wrong += len(result["wrong"])
        for text in result["wrong"]:
            say(f"WRONG {' '.join(command)}\n{text}")


def finished(command: list[str], timeout: float) -> tuple[object, str, str]:
    """Return status, output and errors; a process that hangs is ended."""
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        process = subprocess.Popen(
            as_preloaded(command),
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        status: object = "hung"
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # the stacks are written
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it forked
            process.wait()
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


def parsed(out: str) -> dict[str, object] | None:
    """Return the line of JSON that a script ends with."""
    lines = out.splitlines()
    with contextlib.suppress(ValueError, IndexError):
        result = json.loads(lines[-1])
        if isinstance(result, dict):
            return result
    return None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(tallies: list[Tally]) -> str:
    """Return a line for each script, and one for all."""
    total = Tally("all")
    for one in tallies:
        total.add(one)
    head = ("script", "rounds", "operations", "forks", "faults", "wrong")
    rows = [head, *[one.cells() for one in [*tallies, total]]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def verdict(tallies: list[Tally]) -> str:
    faults = sum(one.faults for one in tallies)
    return f"{faults:,} faults, {sum(one.wrong for one in tallies):,} wrong"


def use_sanitizer(name: str) -> None:
    """Let rounds load the library of a sanitizer."""
    asked = ["gcc", f"-print-file-name=lib{name}.so"]
    library = subprocess.run(asked, check=True, capture_output=True, text=True)
    os.environ["FLK_STRESS_PRELOAD"] = library.stdout.strip()
    os.environ.update(SANITIZERS[name])


def as_preloaded(command: list[str]) -> list[str]:
    """Return a command with the library of the sanitizer, if there is one."""
    library = os.environ.get("FLK_STRESS_PRELOAD")
    if not library:
        return command
    return ["setarch", "-R", "env", f"LD_PRELOAD={library}", *command]


def run_all(options: argparse.Namespace) -> list[Tally]:
    """Run rounds of all scripts in turn until the time is over."""
    names = options.only or SCRIPTS
    if options.sanitizer:
        use_sanitizer(options.sanitizer)
        names = [name for name in names if name not in HOOKED]
    tallies = [Tally(name) for name in names]
    pythons = options.python or [sys.executable]
    seconds = options.seconds
    end = time.monotonic() + 60 * (options.minutes or 0)
    seed = options.seed
    while True:
        for tally in tallies:
            for python in pythons:
                run_round(tally, python, seconds, seed)
            if options.minutes and time.monotonic() >= end:
                return tallies
        if not options.minutes:
            return tallies
        seed += 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, help="for all; one round each if not given")
    add("--seconds", type=float, default=10.0, help="of a round (10)")
    add("--seed", type=int, default=1, help="of the first round (1)")
    add("--only", action="append", choices=SCRIPTS, help="these scripts")
    add("--python", action="append", help="interpreters in place of this one")
    add("--sanitizer", choices=SANITIZERS, help="the core was built with it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flk-stress-") as folder:
        os.environ.setdefault("C_LIBRARIES", folder)
        tallies = run_all(options)
    print(f"{table(tallies)}\n{verdict(tallies)}")
    return int(any(one.faults or one.wrong for one in tallies))


if __name__ == "__main__":
    sys.exit(main())
