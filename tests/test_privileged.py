"""In a program that has rights its caller lacks, no variable is obeyed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from children import PACKAGE_PARENT, environment

import ffi_leak_tracker
from ffi_leak_tracker._base import environment as ours
from ffi_leak_tracker._base.environment import is_privileged, variable

NOBODY = 65534
CODE = """
import ffi_leak_tracker as f
from ffi_leak_tracker._base.environment import is_privileged
from ffi_leak_tracker._seam import core_api, symbols
f.adaptive_calloc("int")
print(is_privileged(), f.LeakTracker.enabled, f.LeakTracker.stack_depth,
      core_api.callables is None, symbols._tool() is None)
"""


def run_as(tmp_path: Path, *ids: int) -> str:
    """Run with real, effective and saved user; return what was printed.

    All our variables are set. A real user who is not the effective one is
    what a setuid program has; the kernel then sets AT_SECURE.
    """
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "addr2line").write_text("#!/bin/sh\n")
    (tools / "addr2line").chmod(0o755)
    variables = {
        "FFI_LEAK_TRACKER": "on",
        "FFI_LEAK_TRACKER_DEPTH": "3",
        "FFI_LEAK_TRACKER_REPORT": str(tmp_path / "report.txt"),
        "FFI_LEAK_TRACKER_FAST": "0",
        "PATH": str(tools),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment(**variables),
        cwd=PACKAGE_PARENT,
        preexec_fn=lambda: os.setresuid(*ids) if ids else None,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "" == done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="AT_SECURE is of Linux")
@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to be root"
)
def test_setuid_program_obeys_no_variable(tmp_path) -> None:
    """Neither mode, depth nor report; no program of PATH is run."""
    said = run_as(tmp_path, NOBODY, 0, 0)
    assert "True False 16" == said.rpartition(" ")[0].rpartition(" ")[0]
    assert said.endswith("True")
    assert not (tmp_path / "report.txt").exists()


def test_other_programs_obey_them(tmp_path) -> None:
    """The same variables count where the caller has the same rights."""
    assert "False True 3 True False" == run_as(tmp_path)
    assert (tmp_path / "report.txt").exists()


@pytest.mark.parametrize("name", ["getuid", "getgid"])
def test_another_user_or_group_is_privileged(name, monkeypatch) -> None:
    """Where the kernel says nothing, the ids do."""
    monkeypatch.setattr(ours, "_privileged", None)
    monkeypatch.setattr(os, name, lambda: 4711)
    assert is_privileged()


@pytest.mark.parametrize("secure", [False, True])
def test_at_secure_decides(secure, monkeypatch) -> None:
    """As with file capabilities, which change no id; it is read once."""
    monkeypatch.setattr(ours, "_privileged", None)
    monkeypatch.setattr(ours, "_is_secure", lambda: secure)
    monkeypatch.setenv("FFI_LEAK_TRACKER_X", "set")
    assert secure == is_privileged()
    assert ("default" if secure else "set") == variable(
        "FFI_LEAK_TRACKER_X", "default"
    )
    monkeypatch.setattr(ours, "_is_secure", lambda: not secure)
    assert secure == is_privileged()


def test_kernel_is_read_right() -> None:
    """What this process finds is what its auxiliary vector has."""
    vector = Path("/proc/self/auxv")
    if not vector.exists():
        pytest.skip("no auxiliary vector to read")
    data = vector.read_bytes()
    word = 8 if sys.maxsize > 2**32 else 4
    words = [
        int.from_bytes(data[i : i + word], sys.byteorder)
        for i in range(0, len(data), word)
    ]
    entries = dict(zip(words[::2], words[1::2], strict=True))
    assert bool(entries[23]) == ours._is_secure()


def test_one_module_reads_the_environment() -> None:
    """So that no variable is read where the rights are not looked at."""
    package = Path(ffi_leak_tracker.__file__).parent
    word = re.compile(r"\benviron\b|getenv|expandvars")
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if word.search(path.read_text("utf-8"))
    }
    # __init__ only looks whether there is a mode to read.
    assert {"__init__.py", "_base/environment.py"} == readers
    sources = Path(__file__).parents[1] / "csrc"
    texts = [path.read_text("utf-8") for path in sources.glob("*/*.[ch]")]
    assert not [text for text in texts if "getenv" in text]
