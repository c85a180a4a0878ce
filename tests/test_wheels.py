"""Wheels: what they are for, and that they are the same each time.

The packages of the extra ``wheels`` are needed for most of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import IS_PYPY

ROOT = Path(__file__).resolve().parents[1]
GLIBC = "2.17"  # manylinux2014
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        IS_PYPY or not (ROOT / "csrc").is_dir() or sys.platform != "linux",
        reason="CPython on Linux, and the sources",
    ),
]


def needs(package: str) -> pytest.MarkDecorator:
    """Skip without a package of the extra."""
    is_there = find_spec(package) is not None
    return pytest.mark.skipif(not is_there, reason=f"no package {package}")


def wheel(folder: Path, **environment: str) -> Path:
    """Build a wheel of a copy of the sources in a folder of its own."""
    source = folder / "source"
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    for name in ("csrc", "ffi_leak_tracker"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), "."]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def compiler(folder: Path) -> str:
    """Return a compiler for the glibc that the wheel is to run on."""
    target = f"{os.uname().machine}-linux-gnu.{GLIBC}"
    found = find_spec("ziglang")
    assert found is not None
    assert found.origin is not None
    # Not by "python -m": pip's environment for the build has no such package.
    zig = Path(found.origin).with_name("zig")
    script = folder / "cc"
    script.write_text(f'#!/bin/sh\nexec {zig} cc -target {target} "$@"')
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel by the compiler of this machine."""
    return wheel(tmp_path_factory.mktemp("first"))


def test_two_builds_are_the_same_bytes(built, tmp_path) -> None:
    """With SOURCE_DATE_EPOCH, wherever the sources lie."""
    first, second = built, wheel(tmp_path / "another" / "folder")
    names = ZipFile(first).namelist()
    assert names == ZipFile(second).namelist()
    differ = [
        name
        for name in names
        if ZipFile(first).read(name) != ZipFile(second).read(name)
    ]
    assert not differ
    assert first.read_bytes() == second.read_bytes()


def test_a_wheel_is_small_and_has_no_sources_of_c(built) -> None:
    """1.3 MB at most; the header for other extensions is there."""
    assert built.stat().st_size < 1_300_000
    names = ZipFile(built).namelist()
    of_c = [name for name in names if name.endswith((".c", ".h"))]
    assert of_c == ["ffi_leak_tracker/include/ffi_leak_tracker.h"]


@needs("ziglang")
@needs("auditwheel")
def test_a_wheel_for_an_old_glibc_passes_the_audit(tmp_path) -> None:
    """It gets the tag of 2014, and its demo runs here."""
    zig = compiler(tmp_path)
    cache = str(tmp_path / "cache")
    made = wheel(
        tmp_path / "made",
        CC=zig,
        LDSHARED=f"{zig} -shared",
        LDFLAGS="-lgcc_s",  # zig links its own unwinder for it
        ZIG_GLOBAL_CACHE_DIR=cache,
        ZIG_LOCAL_CACHE_DIR=cache,
    )
    audited = tmp_path / "audited"
    command = [sys.executable, "-m", "auditwheel", "repair", "-w", str(audited)]
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        [*command, str(made)],
        env={**os.environ, "PATH": os.pathsep.join(folders)},  # patchelf
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    (tagged,) = audited.glob("*.whl")
    assert re.search(r"manylinux(_2_17|2014)_", tagged.name), tagged.name
    ZipFile(tagged).extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", "demo"],
        cwd=tmp_path / "installed",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "LEAKED" in done.stdout, done.stderr


@needs("cibuildwheel")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_wheel_is_configured_for_each_interpreter(machine) -> None:
    """Those of the README, with both C libraries; PyPy with glibc."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cibuildwheel"),
            *("--print-build-identifiers", "--platform", "linux"),
            *("--archs", machine),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    pythons = [f"cp3{minor}" for minor in range(10, 16)] + ["cp314t", "cp315t"]
    wanted = {
        f"{python}-{system}_{machine}"
        for python in pythons
        for system in ("manylinux", "musllinux")
    }
    assert {*wanted, f"pp311-manylinux_{machine}"} == set(done.stdout.split())
