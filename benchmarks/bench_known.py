"""Ten programs whose leaks are known, under ``run``, LSan and valgrind.

The programs are those of ``tests/libs/known.c``, one in each process. All
tools look before the interpreter frees its modules, and Python allocates by
malloc under LSan and valgrind, which see no pointers in its own heap. A tool is
right if it says that exactly the lost blocks of the program are lost. What it
says of other code is not counted, but for ``run``: its exit status must be
right, too.

Alone: ``python benchmarks/bench_known.py`` prints a table of the answers, with
the processor time of a process. Variables of the environment:
``FLT_KNOWN_RUNS`` (3; under valgrind it is 1).
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from bench_hooks import needs_program, preloaded
from harness import HERE, Row, is_smallest, machine, missing_row, values_row

SOURCE = HERE.parent / "tests" / "libs" / "known.c"
RUNS = 1 if is_smallest() else int(os.environ.get("FLT_KNOWN_RUNS", "3"))
SECONDS_MAX = 300  # of one program
LSAN = "liblsan.so.0"

PROGRAM = """
import os, sys, cffi
ffi = cffi.FFI()
ffi.cdef('''void {function}; void __lsan_do_leak_check(void);
void put(void **where, size_t bytes);''')
lib = ffi.dlopen({library!r})
sys.kept = [ffi, lib]  # beyond the end of this module
{code}
if "lsan" in sys.argv:
    ffi.dlopen(None).__lsan_do_leak_check()
if len(sys.argv) > 1:
    os._exit(0)
"""
FREED = """holder = ffi.new("void *[4]")
lib.put(holder + 1, 1100)
del holder"""
KEPT = """holder = ffi.new("void *[4]")
sys.kept.append(holder)
lib.put(holder + 2, 2100)"""


@dataclass(frozen=True)
class Known:
    """A program, and how many of its blocks are lost."""

    what: str
    function: str  # of known.c
    lost: int
    code: str = ""


PROGRAMS = (
    Known("a block", "lost_single", 1),
    Known("a list without its head", "lost_list", 6),
    Known("a ring", "lost_ring", 3),
    Known("pointer in a dead frame of the stack", "lost_in_dead_frame", 1),
    Known("7 pointers in freed memory", "lost_in_freed_block", 7),
    Known("pointer in a freed Python object", "lost_single", 1, FREED),
    Known("pointer in .bss of the library", "held_in_bss", 0),
    Known("pointer into the block", "held_interior", 0),
    Known("pointer in shared memory", "held_in_shared", 0),
    Known("pointer in a Python object", "held_in_bss", 0, KEPT),
)


# --- the tools ----------------------------------------------------------
def lost_by_run(done: subprocess.CompletedProcess[str], out: Path) -> int:
    """Return how many lost blocks ``run`` reports; -1: a wrong status."""
    del out
    found = re.search(r"^LEAKED  ([\d,]+) block", done.stderr, re.M)
    count = int(found[1].replace(",", "")) if found else 0
    is_silent = "No native memory leaks." in done.stderr
    is_sound = done.returncode == int(count > 0) and (count or is_silent)
    return count if is_sound else -1


def lost_by_lsan(done: subprocess.CompletedProcess[str], out: Path) -> int:
    """Return how many blocks of the library LSan calls leaks."""
    del out
    if "LeakSanitizer" not in done.stderr and done.returncode:
        return -1
    pattern = r"leak of \d+ byte\(s\) in (\d+) object\(s\)(.*?)\n\n"
    found = re.findall(pattern, done.stderr + "\n\n", re.S)
    return sum(int(n) for n, frames in found if "known." in frames)


def lost_by_valgrind(done: subprocess.CompletedProcess[str], out: Path) -> int:
    """Return how many blocks of the library valgrind calls lost."""
    del done
    count = 0
    for error in ElementTree.parse(out).iter("error"):
        objects = [one.text or "" for one in error.iter("obj")]
        blocks = error.findtext("xwhat/leakedblocks")
        if blocks and any("libknown.so" in one for one in objects):
            count += int(blocks)
    return count


@dataclass(frozen=True)
class Tool:
    """How a tool runs a program, and what it said."""

    name: str
    command: tuple[str, ...]
    lost: Callable[[subprocess.CompletedProcess[str], Path], int]
    arguments: tuple[str, ...] = ()  # of the program
    environment: tuple[tuple[str, str], ...] = ()
    missing: str = ""
    runs: int = RUNS


MALLOC = ("PYTHONMALLOC", "malloc")
KINDS = "--show-leak-kinds=definite,indirect,possible"
TOOLS = (
    Tool("run", (sys.executable, "-m", "ffi_leak_tracker", "run"), lost_by_run),
    Tool(
        "LSan",
        (sys.executable,),
        lost_by_lsan,
        ("lsan",),
        (MALLOC, ("LD_PRELOAD", LSAN)),
        preloaded(LSAN),
    ),
    Tool(
        "valgrind",
        ("valgrind", "--leak-check=full", KINDS, "--xml=yes"),
        lost_by_valgrind,
        ("valgrind",),
        (MALLOC,),
        needs_program("valgrind"),
        runs=1,
    ),
)


@dataclass(frozen=True)
class Answer:
    """How many blocks a tool called lost, and in which processor time."""

    lost: int
    seconds: float


def processor_time() -> float:
    """Return that of all children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def answer(tool: Tool, program: Path) -> Answer:
    out = program.with_suffix(".xml")
    command = list(tool.command)
    if tool.name == "valgrind":
        command += [f"--xml-file={out}", sys.executable]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FFI_LEAK_TRACKER")
    }
    start = processor_time()
    done = subprocess.run(
        [*command, str(program), *tool.arguments],
        cwd=program.parent,
        env={**kept, **dict(tool.environment)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    seconds = processor_time() - start
    return Answer(tool.lost(done, out), seconds)


def build(folder: Path) -> list[Path]:
    """Return the files of the programs, beside the library."""
    library = folder / "libknown.so"
    compiler = shutil.which("cc") or "gcc"
    flags = ("-O1", "-g", "-D_GNU_SOURCE", "-fno-builtin", "-w", "-fPIC")
    command = [compiler, *flags, "-shared", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-lpthread"], check=True)
    files = []
    for number, one in enumerate(PROGRAMS):
        files.append(folder / f"known{number}.py")
        code = one.code or f"lib.{one.function}(0)"
        function = f"{one.function}(int i)"
        text = PROGRAM.format(
            function=function, library=str(library), code=code
        )
        files[-1].write_text(text)
    return files


def measure() -> Iterator[tuple[Known, dict[str, list[Answer]]]]:
    """Make the answers of all tools, a program at a time."""
    tools = [one for one in TOOLS if not one.missing]
    programs = PROGRAMS[:1] if is_smallest() else PROGRAMS
    with tempfile.TemporaryDirectory(prefix="flt_known") as name:
        files = build(Path(name))
        for known, file in zip(programs, files, strict=False):
            yield (
                known,
                {
                    tool.name: [answer(tool, file) for _ in range(tool.runs)]
                    for tool in tools
                },
            )


# --- what is printed ----------------------------------------------------
def rows() -> list[Row]:
    table = list(measure())
    found: list[Row] = []
    for tool in TOOLS:
        if tool.missing:
            found.append(missing_row("", tool.name, "", tool.missing))
            continue
        wrong = sum(
            one.lost != known.lost
            for known, answers in table
            for one in answers[tool.name]
        )
        times = [one.seconds for _, all_ in table for one in all_[tool.name]]
        goal = 0.0 if tool.name == "run" else None
        what = f"{tool.name}: {len(table)} programs, {tool.runs} runs"
        found.append(values_row("", what, "", [float(wrong)], goal, "wrong"))
        what = f"{tool.name}: a program"
        found.append(values_row("", what, "", times, None, "s"))
    return found


def cell(known: Known, answers: list[Answer]) -> str:
    seconds = statistics.median(one.seconds for one in answers)
    told = sorted({one.lost for one in answers if one.lost != known.lost})
    right = sum(one.lost == known.lost for one in answers)
    if not told:
        return f"right, {seconds:.1f} s"
    often = f" in {len(answers) - right} of {len(answers)}" if right else ""
    return f"**{'/'.join(map(str, told))}**{often}, {seconds:.1f} s"


def print_table() -> None:
    """Print the answers, a line for each program."""
    tools = [one.name for one in TOOLS if not one.missing]
    print(f"| program | lost blocks | {' | '.join(tools)} |")
    print(f"|---|--:|{'---|' * len(tools)}")
    for known, answers in measure():
        cells = [cell(known, answers[name]) for name in tools]
        line = f"| {known.what} | {known.lost} | {' | '.join(cells)} |"
        print(line, flush=True)
    print("\n" + ", ".join(f"{key}: {one}" for key, one in machine().items()))


if __name__ == "__main__":
    print_table()
