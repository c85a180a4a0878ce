"""Packages with known leaks, as they are in the package index, under ``run``.

A package gets an environment of its own, with this package as a wheel. A
program of a few lines uses it, several times, each in a new process and with
another layout of memory. It is right if the exit status is the wanted one and
the wanted line of the program is in the first place that the report names;
silence is right if nothing is reported and the exit status is 0.

Alone: ``python benchmarks/bench_packages.py [FOLDER]`` prints a table of what
was named. The environments are made in FOLDER, if it has none, and stay
there. Variables of the environment: ``FLT_PACKAGES_RUNS`` (10).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness import HERE, Row, is_smallest, machine, missing_row, values_row

RUNS = int(os.environ.get("FLT_PACKAGES_RUNS", "10"))
SECONDS_MAX = 120  # of one program
#: Ends the line that is to be named first.
MARK = "  # first"

# Issue 613 of curl_cffi: two blocks a call, 26 and 16 bytes.
RESOLVE = """
from curl_cffi import Curl, CurlOpt

def call():
    curl = Curl()
    curl.setopt(CurlOpt.RESOLVE, ["example.com:443:127.0.0.1"])  # first
    curl.reset()
    curl.close()

for _ in range(5):
    call()
"""
PDF = '''
DATA = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]>>>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Annots[4 0 R]>>endobj
4 0 obj<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/Rect[0 0 5 5]>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""
'''
NOT_CLOSED = f"""{PDF}
import pypdfium2.raw as pdfium

pdfium.FPDF_InitLibrary()

def call():
    document = pdfium.FPDF_LoadMemDocument(DATA, len(DATA), None)  # first
    assert document

call()
"""
CLOSED = NOT_CLOSED.replace(MARK, "").replace(
    "    assert document", "    pdfium.FPDF_CloseDocument(document)"
)
# Issue 444 of pypdfium2. Its exit handler closes all documents, so the leak is
# one of a scope.
FORMS = f"""{PDF}
import gc
import pypdfium2
from ffi_leak_tracker import LeakTracker

def call():
    document = pypdfium2.PdfDocument(DATA)
    document.init_forms()
    page = document[0]{{}}

call()
gc.collect()
with LeakTracker.scope(verify=True):
    for _ in range(5):
        call()
    gc.collect()
"""
# Mended in lz4 4.0.2: the buffer stays if a frame is broken.
BROKEN_FRAME = """
import lz4.frame

data = bytes(range(256)) * 2000
frame = bytearray(lz4.frame.compress(data, block_checksum=True))
frame[60] ^= 255

def call():
    try:
        lz4.frame.decompress(bytes(frame)){}
    except RuntimeError as error:
        print(error)

for _ in range({}):
    call()
"""
KEPT = """
import numpy
from ffi_leak_tracker import LeakTracker

def call():
    return [numpy.zeros(1000) for _ in range(5)]{}

call()  # numpy keeps some small blocks of freed arrays
with LeakTracker.attach([numpy]), LeakTracker.scope(verify=True):
    kept = call()
    {}
"""
IMPORTS = "\nimport ssl, sqlite3, lzma, ctypes, numpy, lxml.etree, h5py\n"


@dataclass
class Case:
    """A program and the packages that it needs."""

    what: str
    needs: tuple[str, ...]
    code: str
    options: tuple[str, ...] = ()
    blocks: str = ""  # how the head of the first place begins

    @cached_property
    def wanted(self) -> int:
        """The number of the line that is to be named; 0: none."""
        lines = self.code.splitlines()
        found = [i for i, one in enumerate(lines, 1) if one.endswith(MARK)]
        return found[0] if found else 0


CURL, LZ4 = ("curl_cffi==0.17.0",), ("lz4==4.0.1",)
PDF_OLD, PDF_NEW = ("pypdfium2==5.9.0",), ("pypdfium2==5.15.2",)
LZ4_NEW, NUMPY = ("lz4>=4.1",), ("numpy",)
CASES = (
    Case("RESOLVE set, then reset, 5 calls", CURL, RESOLVE, (), "10 x "),
    Case("a document, never closed", PDF_OLD, NOT_CLOSED),
    Case("a document, closed", PDF_OLD, CLOSED),
    Case("5 documents with forms, in a scope", PDF_OLD, FORMS.format(MARK)),
    Case("5 documents with forms, in a scope", PDF_NEW, FORMS.format("")),
    Case("a broken frame", LZ4, BROKEN_FRAME.format(MARK, 1), (), "1 x 500.0"),
    Case("a broken frame, 5 calls", LZ4, BROKEN_FRAME.format(MARK, 5)),
    Case("a broken frame, 5 calls", LZ4_NEW, BROKEN_FRAME.format("", 5)),
    Case("5 arrays, kept in a scope", NUMPY, KEPT.format(MARK, ""), ("--own",)),
    Case("5 arrays, dropped", NUMPY, KEPT.format("", "kept = 0"), ("--own",)),
    Case("imports", (*NUMPY, "lxml", "h5py"), IMPORTS),
)


@dataclass(frozen=True)
class Answer:
    """What a run said."""

    status: int
    named: str  # the first place: its blocks and the line of the program
    is_right: bool


# --- environments -------------------------------------------------------
def run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True)


def build_wheel(folder: Path) -> Path:
    """Return a wheel of this checkout, from a copy of it."""
    source = folder / "source"
    if not source.exists():
        left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "*.so")
        shutil.copytree(HERE.parent, source, ignore=left_out)
        pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps")
        run(*pip, "-w", folder, source)
    return next(folder.glob("*.whl"))


def environment_of(needs: tuple[str, ...], folder: Path) -> Path:
    """Return an environment with packages; it is made at its first use.

    Raises:
        subprocess.CalledProcessError: something cannot be installed.
    """
    target = folder / re.sub(r"\W+", "-", "-".join(needs))
    if not (target / "done").exists():
        run(sys.executable, "-m", "venv", "--clear", target)
        wheel = build_wheel(folder)
        run(target / "bin" / "pip", "install", "-q", wheel, "cffi", *needs)
        (target / "done").touch()
    return target


def version_of(need: str, target: Path) -> str:
    """Return a package with the version that is installed."""
    name = re.split("[=>]", need)[0]
    code = f"from importlib.metadata import version; print(version({name!r}))"
    command = [str(target / "bin" / "python"), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"{name} {done.stdout.strip()}"


# --- answers ------------------------------------------------------------
def first_place(report: str, program: Path) -> tuple[str, int]:
    """Return the blocks of the first place, and its line of the program."""
    found = re.search(r"^LEAKED .*?\n\n((?:\S|    ).*\n)+", report, re.M)
    if not found:
        return "", 0
    head, *frames = found[0].split("\n\n")[1].splitlines()
    line = re.search(re.escape(program.name) + r":(\d+) ", "\n".join(frames))
    return head.split("   ")[0], int(line[1]) if line else 0


def answer(case: Case, program: Path, target: Path) -> Answer:
    """Run a program once."""
    command = [str(target / "bin" / "ffi-leak-tracker"), "run", *case.options]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FFI_LEAK_TRACKER", "PYTHON"))
    }
    done = subprocess.run(
        [*command, str(program)],
        cwd=program.parent,
        env={**kept, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    blocks, line = first_place(done.stderr, program)
    is_silent = "\nNo native memory leaks." in f"\n{done.stderr}"
    is_right = done.returncode == int(case.wanted > 0) and (
        line == case.wanted and blocks.startswith(case.blocks)
        if case.wanted
        else is_silent
    )
    named = f"{blocks}, line {line}" if line else blocks
    named = named or ("nothing" if is_silent else "no report")
    if named == "no report":
        print(done.stderr, file=sys.stderr)
    return Answer(done.returncode, named, is_right)


Answers = tuple[Case, str, list[Answer]]


def layouts() -> list[str]:
    """Return first lines of programs, each with another layout of memory."""
    return [
        f"unused = [str(i) * {1 + n % 7} for i in range({37 * n})]"
        for n in range(RUNS)
    ]


def answers_of(number: int, folder: Path) -> Answers:
    """Return a case, the packages that it used, and all its answers."""
    case = CASES[number]
    target = environment_of(case.needs, folder)
    versions = ", ".join(version_of(one, target) for one in case.needs)
    program = folder / f"program{number + 1}.py"
    answers = []
    for first_line in layouts():
        program.write_text(first_line + case.code)
        answers.append(answer(case, program, target))
    return case, versions, answers


def row(case: Case, versions: str, answers: list[Answer]) -> Row:
    wrong = float(sum(not one.is_right for one in answers))
    what = f"{versions}: {case.what}"
    made = values_row("", what, f"{RUNS} runs", [wrong], 0.0, "wrong")
    made.detail["exit status"] = answers[0].status
    return made


def rows() -> list[Row]:
    if is_smallest():
        why = "the smallest size installs nothing"
        return [missing_row("", case.what, "", why) for case in CASES]
    with tempfile.TemporaryDirectory(prefix="flt_packages") as name:
        folder = Path(name)
        return [row(*answers_of(i, folder)) for i in range(len(CASES))]


# --- the table ----------------------------------------------------------
def lines_of(case: Case, versions: str, answers: list[Answer]) -> list[str]:
    """Return a line of the table for each answer that differs."""
    wanted = f"1, line {case.wanted}" if case.wanted else "0, nothing"
    counts = Counter(answers)
    return [
        f"| {versions}: {case.what} | {wanted} | {one.status} | {one.named} "
        f"| {count} of {RUNS} {'right' if one.is_right else '**wrong**'} |"
        for one, count in counts.most_common()
    ]


def print_table(folder: Path) -> None:
    """Print what was named first, for each case."""
    print("| program | wanted | exit status | named first | |")
    print("|---|---|--:|---|---|")
    for number in range(len(CASES)):
        print(*lines_of(*answers_of(number, folder)), sep="\n", flush=True)
    print("\n" + ", ".join(f"{key}: {one}" for key, one in machine().items()))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        Path(sys.argv[1]).mkdir(exist_ok=True)
        print_table(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="flt_packages") as name:
            print_table(Path(name))
