"""What these hooks and other tools cost programs that use native libraries.

Each program runs in a process of its own for each tool, in turns. The figure is
the processor time of its work, without start and exit, in relation to that
without a tool. The program calls ``LeakTracker.attach(stack_depth=16)`` itself,
before it imports its libraries; no scope is open, and no report is made.

Alone: ``python benchmarks/bench_programs.py [--json FILE]``. Programs whose
package is not installed are printed as missing: lxml, numpy, pillow, zstandard.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_hooks import (
    Tool,
    heaptrack,
    memray,
    needs_module,
    needs_program,
    preload,
    preloaded,
)
from harness import Row, main, missing_row, size, values_row

ROUNDS = size(3, 1)
TURNS = size(1, 0)  # 0: one small turn of the work
SECONDS_MAX = 600
NO_TOOL, HOOKS = "no tool", "attached, 16 frames"

#: A module that is needed, and the work: the body of a function of `turns`.
PROGRAMS = {
    "lxml: parse, search, write": (
        "lxml",
        """
from lxml import etree
text = b"<r>" + b"".join(b"<i k='%d'><n>t%d</n></i>" % (i, i)
                         for i in range(2000)) + b"</r>"
for _ in range(60 * turns + 1):
    tree = etree.fromstring(text)
    tree.xpath("count(//n[contains(., '9')])")
    for node in tree.iter("n"):
        node.text = node.text.upper()
    etree.tostring(tree)
""",
    ),
    "numpy: arrays of 1,000 numbers": (
        "numpy",
        """
import numpy
for i in range(40_000 * turns + 10):
    a = numpy.arange(1000, dtype=float)
    b = numpy.sqrt(a * i + 1)
    (a + b).sum()
""",
    ),
    "sqlite3: insert, index, select": (
        "sqlite3",
        """
import sqlite3
for _ in range(4 * turns + 1):
    db = sqlite3.connect(":memory:")
    db.execute("create table t (a integer, b text)")
    rows = [(i, "text %d" % (i * 7919 % 10007)) for i in range(20000)]
    db.executemany("insert into t values (?, ?)", rows)
    db.execute("create index j on t (b)")
    for i in range(3000):
        db.execute("select * from t where b = ?", ("text %d" % i,)).fetchall()
    db.close()
""",
    ),
    "pillow: resize, write, read": (
        "PIL",
        """
import io
from PIL import Image
image = Image.effect_noise((256, 256), 50).convert("RGB")
for _ in range(60 * turns + 1):
    small = image.resize((128, 128)).rotate(30)
    out = io.BytesIO()
    small.save(out, "PNG")
    Image.open(io.BytesIO(out.getvalue())).load()
""",
    ),
    "zstandard: texts of 2 KB": (
        "zstandard",
        """
import zstandard
text = bytes(range(256)) * 8
for _ in range(8_000 * turns + 2):
    made = zstandard.ZstdCompressor().compress(text)
    zstandard.ZstdDecompressor().decompress(made)
""",
    ),
}
HEAD = """
import os, sys, time
if os.environ.get("FLT_PROGRAM_ATTACH"):
    from ffi_leak_tracker import LeakTracker
    LeakTracker.attach(stack_depth=16)
def work(turns):
"""
TAIL = """
work(0)
start = time.process_time()
work(int(sys.argv[1]))
with open(sys.argv[2], "w") as out:
    out.write(str(time.process_time() - start))
"""


def tools() -> list[Tool]:
    no_memray = needs_module("memray")
    lsan = "liblsan.so.0"
    return [
        Tool(NO_TOOL),
        Tool(HOOKS, environment={"FLT_PROGRAM_ATTACH": "1"}),
        Tool("memray", no_memray, wrap=memray()),
        Tool("memray --native", no_memray, wrap=memray("--native")),
        Tool("heaptrack", needs_program("heaptrack"), wrap=heaptrack),
        Tool("LSan", preloaded(lsan), environment=preload(lsan)),
    ]


def seconds(tool: Tool, body: str, folder: Path) -> float:
    """Return the processor time of the work.

    Raises: RuntimeError if the program fails.
    """
    script, out = folder / "program.py", folder / "out"
    lines = body.strip().splitlines()
    script.write_text(HEAD + "".join(f"    {x}\n" for x in lines) + TAIL)
    out.unlink(missing_ok=True)
    before = tool.wrap(folder / "peer") if tool.wrap else [sys.executable]
    done = subprocess.run(
        [*before, str(script), str(TURNS), str(out)],
        env={**os.environ, **tool.environment},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if not out.exists():
        raise RuntimeError(f"{tool.name}: {done.stderr[-2000:]}")
    return float(out.read_text())


def rows_of(what: str, body: str, folder: Path) -> list[Row]:
    """Return the rows of one program."""
    times: dict[str, list[float]] = {}
    present = [tool for tool in tools() if not tool.missing]
    for _ in range(ROUNDS):
        for tool in present:
            times.setdefault(tool.name, []).append(seconds(tool, body, folder))
    found = []
    for tool in tools()[1:]:
        text = f"{what}: {tool.name}"
        if tool.missing:
            found.append(missing_row("", text, NO_TOOL, tool.missing))
            continue
        pairs = zip(times[tool.name], times[NO_TOOL], strict=True)
        ratios = [on / max(off, 1e-9) for on, off in pairs]
        found.append(values_row("", text, NO_TOOL, ratios))
    return found


def rows() -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory(prefix="flt_bench") as name:
        for what, (module, body) in PROGRAMS.items():
            missing = needs_module(module)
            if missing:
                found.append(missing_row("", what, NO_TOOL, missing))
            else:
                found += rows_of(what, body, Path(name))
    return found


if __name__ == "__main__":
    main(rows)
