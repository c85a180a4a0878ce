"""Run Python code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import ffi_leak_tracker

PACKAGE_PARENT = str(Path(ffi_leak_tracker.__file__).resolve().parents[1])


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a child, without settings of the package."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "FFI_LEAK_TRACKER_FAST"
        or not name.startswith(("FFI_LEAK_TRACKER", "PYTHON", "PYTEST"))
    }
    # Without the variable glibc writes its last message to the terminal.
    fixed = {
        "PYTHONPATH": PACKAGE_PARENT,
        "LIBC_FATAL_STDERR_": "1",
        "COLUMNS": "100",  # of reports
    }
    return {**kept, **fixed, **changes}


def run(
    code: str, *options: str, timeout: float = 120, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter and return the ended process.

    Args:
        options: of the interpreter.
        changes: of the environment.
    """
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env=environment(**changes),
        cwd=PACKAGE_PARENT,  # a checkout has no compiled core
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def output(code: str, *options: str, **changes: str) -> str:
    """Return what code printed. It must exit with 0 and print no error."""
    done = run(code, *options, **changes)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
