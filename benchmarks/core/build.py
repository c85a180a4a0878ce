"""Builds the programs of this folder; ``build(target_dir)`` returns them.

The core is compiled with the flags of the extension module. Files that include
Python.h are left out; tests/core/stub_python.c stands in for them.
"""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"
PUBLIC = ROOT / "ffi_leak_tracker" / "include"
TESTS = ROOT / "tests" / "core"

SHARED = (HERE / "bench.c", TESTS / "stub_python.c")
FLAGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O2",
    "-g1",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
]


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def _tool(name: str, default: str) -> list[str]:
    return shlex.split(os.environ.get(name, default))


@cache
def _link_time(target: Path) -> tuple[str, ...]:
    """Return flags for link-time optimisation, as the extension has them."""
    trial = target / "trial.c"
    trial.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    flags = ("-flto", "-fno-semantic-interposition")
    output = target / "trial"
    command = [*_tool("CC", "cc"), *flags, str(trial), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, check=False)
    return flags if done.returncode == 0 else ()


def _compile(source: Path, target: Path, flags: tuple[str, ...] = ()) -> Path:
    made = target / f"{source.stem}.o"
    includes = [f"-I{one}" for one in (CSRC, PUBLIC, TESTS, HERE)]
    extra = [*shlex.split(os.environ.get("CFLAGS", "")), *flags]
    if source.suffix == ".cpp":
        tool = [*_tool("CXX", "c++"), "-std=c++17", "-O2"]
    else:
        tool = [*_tool("CC", "cc"), *FLAGS, *_link_time(target)]
    _run(*tool, *extra, *includes, "-c", source, "-o", made)
    return made


def _sees_python(source: Path) -> bool:
    """Return whether a file includes Python.h, or is one of python/."""
    room, name = source.parts[-2:]
    return room == "python" or name in {"pyframe.c", "codes.c", "pycontext.c"}


def _peer(target: Path) -> Path:
    """Return the object of the peer, or of its stand-in without boost."""
    command = [*_tool("CXX", "c++"), "-std=c++17", "-E", "-x", "c++", "-"]
    header = b"#include <boost/unordered/unordered_flat_map.hpp>"
    try:
        done = subprocess.run(
            command, input=header, capture_output=True, check=False
        )
    except FileNotFoundError:
        return _compile(HERE / "bench_registry_none.c", target)
    has_boost = done.returncode == 0
    peer = "bench_registry_boost.cpp" if has_boost else "bench_registry_none.c"
    return _compile(HERE / peer, target)


def build(
    target_dir: str | Path, names: str = "*", flags: tuple[str, ...] = ()
) -> dict[str, Path]:
    """Return programs by their name, without the prefix bench_.

    Args:
        target_dir: a folder for objects and programs; made if missing.
        names: which programs, with * for any characters.
        flags: for the compiler, beside those of the extension module.

    Raises: subprocess.CalledProcessError if a file does not compile.
    """
    target = Path(target_dir)
    target.mkdir(parents=True, exist_ok=True)
    sources = [one for one in CSRC.glob("*/*.c") if not _sees_python(one)]
    _link_time(target)  # tried before the threads need it
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        core = list(
            pool.map(
                lambda one: _compile(one, target, flags), [*sources, *SHARED]
            )
        )
    programs = {}
    for source in sorted(HERE.glob(f"bench_{names}.c")):
        name = source.stem.removeprefix("bench_")
        if name == "registry_none":
            continue
        objects = [_compile(source, target, flags)]
        if name == "registry":
            objects.append(_peer(target))
        programs[name] = target / source.stem
        link = [*_tool("CXX", "c++"), "-O2", *_link_time(target)]
        _run(*link, *objects, *core, "-lpthread", "-lm", "-o", programs[name])
    return programs


if __name__ == "__main__":
    for name, path in build(sys.argv[1]).items():
        print(name, path)
