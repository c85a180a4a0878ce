"""How the core is built: what compilers and linkers do, and their warnings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import IS_PYPY

ROOT = Path(__file__).resolve().parents[1]
INCLUDES = [
    f"-I{ROOT / one}" for one in ("csrc", "ffi_leak_tracker/include", ".")
]
pytestmark = pytest.mark.skipif(
    not (ROOT / "csrc").is_dir() or sys.platform == "win32",
    reason="needs the sources, and a compiler with options of gcc",
)
ASK = """
import json, runpy
names = runpy.run_path("csrc/build_ffi.py")
print(json.dumps(names["LINK_TIME"]))
"""


def asked(**changes: str) -> subprocess.CompletedProcess[str]:
    """Run the description of the build; it prints what it found."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"CC", "CFLAGS", "LDFLAGS", "FFI_LEAK_TRACKER_BUILD"}
    }
    return subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        env={**kept, **changes},
        capture_output=True,
        text=True,
        check=False,
    )


def compiler(folder: Path, text: str) -> str:
    """Return a compiler that is a script."""
    script = folder / "cc"
    real = shutil.which("cc") or shutil.which("gcc")
    script.write_text(f"#!/bin/sh\nreal={real}\n{text}\n")
    script.chmod(0o755)
    return str(script)


# --- link-time optimization --------------------------------------------------
def test_a_product_without_functions_is_refused(tmp_path) -> None:
    """The linker left them out and ended with 0, as lld does."""
    loses_all = (
        'for last; do :; done; echo | exec $real -shared -xc - -o "$last"'
    )
    done = asked(CC=compiler(tmp_path, loses_all))
    assert [] == json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_a_good_product_is_used(tmp_path) -> None:
    """The same flags as without a script around the compiler."""
    through = asked(CC=compiler(tmp_path, 'exec $real "$@"'))
    assert json.loads(asked(CC="cc").stdout) == json.loads(through.stdout)


def test_the_flags_of_the_user_are_tried_as_well(tmp_path) -> None:
    """LDFLAGS choose the linker."""
    log = tmp_path / "log"
    noted = compiler(tmp_path, f'echo "$@" >>{log}; exec $real "$@"')
    asked(CC=noted, LDFLAGS="-Wl,-z,now -fuse-ld=bfd")
    assert "-Wl,-z,now -fuse-ld=bfd" in log.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ld.lld"), reason="no lld")
def test_the_core_is_whole_when_linked_by_lld(tmp_path) -> None:
    """It has the function that Python looks for."""
    for name in ("csrc", "ffi_leak_tracker"):
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("*.so", "__pycache__"),
        )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path,
        env={**os.environ, "LDFLAGS": "-fuse-ld=lld"},
        capture_output=True,
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", "import ffi_leak_tracker._core as c; print(c)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(tmp_path) in done.stdout, done.stderr


# --- no compiler -------------------------------------------------------------
def test_without_a_compiler_one_line_says_so() -> None:
    """With the name that was tried, and what to do."""
    done = asked(CC="no-such-compiler -m64")
    assert done.returncode != 0
    assert 1 == len(done.stderr.splitlines())
    assert "needs a C compiler, and 'no-such-compiler'" in done.stderr


# --- warnings ----------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.skipif(IS_PYPY, reason="the same sources as for CPython")
@pytest.mark.parametrize("debug", [(), ("-DFLK_DEBUG",)])
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_compiler_warns(name, debug) -> None:
    """Of the sources as they are compiled, with -Wall and -Wextra."""
    if not shutil.which(name):
        pytest.skip(f"no {name}")
    assert 0 == asked().returncode  # makes the units
    for room in sorted((ROOT / "build" / "units").glob("*.c")):
        done = subprocess.run(
            [
                name,
                "-fsyntax-only",
                "-std=c11",
                "-D_GNU_SOURCE",
                *("-Wall", "-Wextra", "-Werror"),
                *debug,
                *INCLUDES,
                "-isystem",
                sysconfig.get_path("include"),
                room,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr


# --- other systems ------------------------------------------------------------
def zig(target: str) -> list[str]:
    """Return the compiler of the package ziglang for a target."""
    return [sys.executable, "-m", "ziglang", "cc", "-target", target]


ELSEWHERE = {
    "Windows": ["x86_64-w64-mingw32-gcc", "-Wall", "-Wextra"],
    "macOS on aarch64": zig("aarch64-macos"),
    "macOS on x86-64": zig("x86_64-macos"),
    "Linux on riscv64": zig("riscv64-linux-gnu"),
}


@pytest.mark.slow
@pytest.mark.parametrize("system", ELSEWHERE)
def test_the_core_compiles_elsewhere(system, tmp_path) -> None:
    """Every room, without the headers of Python, which are not there."""
    command = ELSEWHERE[system]
    if "ziglang" in command and find_spec("ziglang") is None:
        pytest.skip("no package ziglang")
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}")
    assert 0 == asked().returncode  # makes the units
    for room in sorted((ROOT / "build" / "units").glob("*.c")):
        done = subprocess.run(
            [
                *command,
                "-c",
                *("-o", tmp_path / "unit.o"),
                *("-std=c11", "-D_GNU_SOURCE", "-DFLK_PLAIN_PYTHON=1"),
                *INCLUDES,
                room,
            ],
            env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
