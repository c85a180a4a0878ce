"""Builds the C tests of the core in several flavours and runs them.

A flavour is a set of compiler flags and a way to run. Its objects are
compiled once a session, on all cores, and kept in a folder of pytest's.
The `plain` flavour is quick; the others are marked `slow`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
CORE = ROOT / "tests" / "core"
CC = os.environ.get("CC", "gcc")
COMMON = ["-std=c11", "-D_GNU_SOURCE", "-g", f"-I{CSRC}", f"-I{CORE}"]
COMMON += [f"-I{ROOT / 'ffi_leak_tracker' / 'include'}"]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
SECONDS = 150  # a program that takes longer hangs

# The sources that see Python.h; stub_python.c stands in for the first three.
NEEDS_PYTHON = re.compile(r"paths/(pyframe|pycontext|codes)\.c|python/\w+\.c")
# A test of what is static includes its source, which is not linked then.
INCLUDED = re.compile(r'^#include "\w+/(\w+\.c)"', re.M)


@dataclass(frozen=True)
class Flavour:
    """How programs are compiled and run."""

    name: str
    flags: tuple[str, ...]
    wrapper: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    only: str = ".*"  # programs, as a regular expression


def without_randomised_addresses() -> tuple[str, ...]:
    """TSan of gcc-12 fails where addresses are too random."""
    return ("setarch", "-R") if shutil.which("setarch") else ()


FLAVOURS = (
    Flavour("plain", ("-DFLK_DEBUG", "-O1", *WARNINGS)),
    Flavour(
        "asan",
        (
            "-DFLK_DEBUG",
            "-O1",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
        ),
        # Sizes that no allocator gives are part of the tests.
        environment={"ASAN_OPTIONS": "allocator_may_return_null=1"},
    ),
    Flavour(
        "tsan",
        ("-DFLK_DEBUG", "-O1", "-fsanitize=thread"),
        without_randomised_addresses(),
        {
            "TSAN_OPTIONS": "allocator_may_return_null=1"
            " die_after_fork=0 halt_on_error=1"
        },
        # Those that have threads.
        only="test_(arena|callpath|misuse|names|pause|platform|references|scope|sequence|sites"
        "|snapshot|thread|threads|tracker|unwind|young)",
    ),
    Flavour(
        "no_simd",
        ("-DFLK_DEBUG", "-O1", "-DFLK_NO_SIMD"),
        only="test_(heap|region|registry|snapshot)|fuzz_registry",
    ),
    Flavour(
        "release",
        ("-O2", "-fvisibility=hidden"),
        only=r"test_(attach\w*|faults|heap|hook|lost|patch|registry|threads|unwind|young\w*)",
    ),
    Flavour(
        "valgrind",
        ("-DFLK_DEBUG", "-O1"),
        ("valgrind", "-q", "--error-exitcode=9"),
        {"FLK_SLOW_TOOL": "1"},
        only="test_(account|arena|attach|attach_cxx|callpath|cfi|context"
        "|counters|elf|guard|heap|hook|object_table|names|objects|observe|patch|quarantine"
        "|queue|recent|region|registry|sites|stack|thread|unwind)",
    ),
)

PROGRAMS = [
    *sorted(path.stem for path in CORE.glob("test_*.c")),
    "fuzz_registry",
]


def arguments_of(program: str, flavour: Flavour) -> list[str]:
    """Return what a program is run with: the length of what has one."""
    slow = flavour.name == "valgrind"
    if program == "test_threads":
        return ["1" if slow else "2"]
    if program == "fuzz_registry":
        return ["-n", "100" if slow else "2000"]
    return []


def run(command: list[str], environment: dict[str, str]) -> str:
    """Run a command; its output, or a failure that shows it."""
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"{command[0]} hangs: {expired.output!r}")
    if done.returncode != 0:
        pytest.fail(
            f"{' '.join(command)}\nended with {done.returncode}\n"
            f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}",
            pytrace=False,
        )
    return done.stdout + done.stderr


class Builder:
    """Compiles each source at most once a flavour."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[str, dict[str, Path]] = {}

    def compile(self, flavour: Flavour, source: Path) -> tuple[str, Path]:
        target = self.folder / flavour.name / f"{source.stem}.o"
        command = [CC, *COMMON, *flavour.flags]
        run([*command, "-c", str(source), "-o", str(target)], {})
        return source.name, target

    def core_of(self, flavour: Flavour) -> dict[str, Path]:
        """Return the objects of the core, by the name of their source."""
        if flavour.name not in self.objects:
            (self.folder / flavour.name).mkdir()
            sources = [CORE / "stub_python.c"] + [
                source
                for source in sorted(CSRC.glob("*/*.c"))
                if not NEEDS_PYTHON.fullmatch(str(source.relative_to(CSRC)))
            ]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = pool.map(lambda s: self.compile(flavour, s), sources)
                self.objects[flavour.name] = dict(made)
        return self.objects[flavour.name]

    def program(self, flavour: Flavour, name: str) -> Path:
        """Return the program, compiled and linked."""
        source = CORE / f"{name}.c"
        included = set(INCLUDED.findall(source.read_text()))
        core = self.core_of(flavour)
        objects = [str(core[key]) for key in core if key not in included]
        target = self.folder / flavour.name / name
        command = [CC, *COMMON, *flavour.flags, "-DFLK_FUZZ_MAIN"]
        run(
            [
                *command,
                str(source),
                *objects,
                "-o",
                str(target),
                "-lpthread",
                "-lm",
            ],
            {},
        )
        return target


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(tmp_path_factory.mktemp("core"))


def cases() -> list[object]:
    return [
        pytest.param(
            flavour,
            program,
            id=f"{flavour.name}-{program.removeprefix('test_')}",
            marks=[] if flavour.name == "plain" else [pytest.mark.slow],
        )
        for flavour in FLAVOURS
        for program in PROGRAMS
        if re.fullmatch(flavour.only, program)
    ]


@pytest.mark.parametrize(("flavour", "program"), cases())
def test_program_passes(
    builder: Builder, flavour: Flavour, program: str
) -> None:
    """Each program of tests/core passes, compiled in each way."""
    if flavour.name == "valgrind" and not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    path = builder.program(flavour, program)
    command = [*flavour.wrapper, str(path), *arguments_of(program, flavour)]
    assert "passed" in run(command, flavour.environment)
