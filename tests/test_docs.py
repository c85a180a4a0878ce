"""The pages under docs/: what they show happens, what they list exists."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from functools import cache
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest
from children import environment
from documents import (
    ROOT,
    Document,
    commands_in,
    output,
    prints,
    why_not,
    write,
)

import ffi_leak_tracker
from ffi_leak_tracker import JsonEmitter, LeakTracker, diagnostic_calloc
from ffi_leak_tracker.emitters.json import loads

DOCS = ROOT / "docs"
if not DOCS.exists():
    pytest.skip("no source tree here", allow_module_level=True)

PAGES = {
    path.stem: Document(str(path.relative_to(ROOT)))
    for path in sorted(DOCS.glob("*.md"))
}
PACKAGE = Path(ffi_leak_tracker.__file__).parent
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


# --- what is shown --------------------------------------------------------
@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with the commands of the documents."""
    made = commands_in(tmp_path)
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return made


def needs_of(command: str, programs: dict[str, str]) -> str:
    """Return a command with the programs that it names, or whose folder."""
    named = [
        text
        for name, text in programs.items()
        if name in command or name.partition("/")[0] in command
    ]
    return "\n".join([*named, command])


@pytest.mark.slow
@each_page
def test_commands_print_what_is_shown(page: Document, commands: Path) -> None:
    """Each command, in the order of the page, in one folder."""
    write(page.programs)
    for command, expected in page.commands():
        if why_not(needs_of(command, page.programs)) is None:
            printed = output(command, commands)
            assert prints(command, expected, printed), f"$ {command}\n{printed}"


@each_page
def test_every_program_is_used(page: Document) -> None:
    """A command names each program, or its folder, or a program imports it."""
    texts = [command for command, _ in page.commands()]
    texts += page.programs.values()
    for name in page.programs:
        stem = name.partition("/")[0].partition(".")[0]
        others = [t for t in texts if t != page.programs[name]]
        is_setting = name == "pyproject.toml"  # read by pytest
        assert is_setting or any(stem in text for text in others), name


@each_page
def test_links_lead_somewhere(page: Document) -> None:
    for target in page.links():
        assert (DOCS / target).exists(), target


# --- JSON -----------------------------------------------------------------
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (DOCS / "report.schema.json").read_text()
    )
    return found


def objects_in(part: Any) -> list[dict[str, Any]]:
    """Return the schemas of objects with named fields within a schema."""
    if isinstance(part, list):
        return [one for item in part for one in objects_in(item)]
    if not isinstance(part, dict):
        return []
    has_fields = part.get("type") == "object" and "properties" in part
    here = [part] if has_fields else []
    return here + objects_in(list(part.values()))


def strict_schema() -> dict[str, Any]:
    """Return the schema with no field allowed that it does not name."""
    whole = schema()
    for one in objects_in(whole):
        one["additionalProperties"] = False
    return whole


def check(document: dict[str, Any]) -> None:
    """Raise unless a document is as the schema says, without other fields."""
    fastjsonschema = pytest.importorskip("fastjsonschema")
    fastjsonschema.compile(strict_schema())(document)


def test_shown_json_is_a_report() -> None:
    """It can be read, is as the schema says, and is written the same."""
    shown = [text for page in PAGES.values() for text in page.texts("json")]
    assert shown
    for text in shown:
        check(json.loads(text))
        assert loads(text).count == json.loads(text)["summary"]["count"]


@pytest.mark.parametrize(
    "change",
    [
        {"taken_at": 1e16},
        {"duration": -1e16},
        {"hidden": 1 << 64},
        {"hidden": -1},
    ],
    ids=str,
)
def test_the_schema_has_the_limits_of_the_reader(change) -> None:
    """What is refused when read is refused by the schema, and the reverse."""
    fastjsonschema = pytest.importorskip("fastjsonschema")
    texts = [text for page in PAGES.values() for text in page.texts("json")]
    document = json.loads(texts[0])
    check(document)
    document["summary"].update(change)
    with pytest.raises(ffi_leak_tracker.RecordFormatError):
        loads(json.dumps(document))
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        check(document)


def test_written_reports_are_as_the_schema_says(tmp_path: Path) -> None:
    """Also empty ones, and with a scope, a filter and notes."""
    path = tmp_path / "report.json"
    with LeakTracker.scope("work") as scope:
        kept = diagnostic_calloc("int32_t", 4)
    for snapshot in (
        scope.snapshot(),
        scope.snapshot(filter=lambda block: True),
        ffi_leak_tracker.Snapshot(),
        ffi_leak_tracker.Snapshot(notes=["1 record dropped"]),
    ):
        JsonEmitter(path).emit(snapshot)
        check(json.loads(path.read_text()))
    diagnostic_calloc.free(kept)


@pytest.mark.skipif(
    sys.platform != "linux" or sys.implementation.name == "pypy",
    reason="no search, or words of freed objects hold blocks",
)
def test_verdicts_are_as_the_schema_says(tmp_path: Path) -> None:
    """Of a block that is lost, and of one that is held; also of records."""
    path = tmp_path / "report.json"
    with LeakTracker.scope("work") as scope:
        kept = diagnostic_calloc("int32_t", 4)
        for _ in range(20):  # a stale word may hold one of them
            diagnostic_calloc("char", 40)
    found = scope.find_lost()
    for blocks in (found.blocks, ffi_leak_tracker.Snapshot(found.blocks)):
        JsonEmitter(path, verdicts=found).emit(blocks)
        report = json.loads(path.read_text())
        check(report)
        lost, held = report["groups"]
        assert lost["lost"] >= 15
        stale = 20 - lost["lost"]
        assert sum(lost["holders"].values()) == stale
        assert (held["lost"], sum(held["holders"].values())) == (0, 1)
        assert sum(one["blocks"] for one in report["holders"]) == 1 + stale
    diagnostic_calloc.free(kept)
    scope.reset()


def test_native_frames_are_as_the_schema_says(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    frame = ffi_leak_tracker.NativeFrame(None, "libfoo.so", 16)
    block = ffi_leak_tracker.Allocation(16, 8, "malloc", native_frames=(frame,))
    JsonEmitter(path).emit(ffi_leak_tracker.Snapshot([block]))
    check(json.loads(path.read_text()))


def test_the_page_lists_the_fields_of_the_schema() -> None:
    """All of them, and no other."""
    named = {name for one in objects_in(schema()) for name in one["properties"]}
    assert table_of("json-format") == named


def table_of(page: str) -> set[str]:
    """Return the first cells of the tables of a page, without backquotes."""
    cells = re.findall(r"(?m)^\| `([^`]+)`", PAGES[page].text)
    return set(cells)


# --- options and variables ------------------------------------------------
def sources() -> str:
    """Return the text of the package and of what builds it."""
    paths = [*PACKAGE.rglob("*.py"), *(ROOT / "csrc").glob("*.py")]
    return "\n".join(path.read_text("utf-8") for path in paths)


def test_the_page_lists_the_environment_variables() -> None:
    """All that the package reads, and no other."""
    pattern = r"\bFFI_LEAK_TRACKER(?:_[A-Z]+)?\b"
    rows = re.findall(rf"(?m)^\| `({pattern})`", PAGES["options"].text)
    assert set(re.findall(pattern, sources())) == set(rows)
    for page in PAGES.values():
        assert set(re.findall(pattern, page.text)) <= set(rows)


def section(heading: str) -> str:
    """Return the text below a heading of the options page."""
    parts = re.split(r"(?m)^#+ (.*)\n", PAGES["options"].text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def rows_with_options(text: str) -> set[str]:
    """Return the options in the first cells of tables."""
    cells = re.findall(r"(?m)^\| (.*?) \|", text)
    return {
        option
        for cell in cells
        for option in re.findall(r"`(-{1,2}[\w-]+)", cell)
    }


@cache
def help_of(name: str) -> str:
    """Return what ``--help`` of a command prints; "" is above them all."""
    return subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", *name.split(), "--help"],
        env=environment(),
        cwd=PACKAGE.parent,  # a checkout has no compiled core
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("name", ["", "run", "diff", "pairs"])
def test_the_page_lists_the_options_of_commands(name: str) -> None:
    """All that ``--help`` lists, and no other."""
    lines = re.findall(r"(?m)^  (-.*?)(?:  |$)", help_of(name))
    options = re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(lines))
    heading = f"ffi-leak-tracker {name}".strip()
    assert rows_with_options(section(heading)) == set(options)


def test_the_page_has_a_section_for_each_command() -> None:
    names = re.findall(r"(?m)^    (\w+)  ", help_of(""))
    assert len(names) >= 3
    for name in names:
        assert section(f"ffi-leak-tracker {name}")


@cache
def pytest_says(option: str) -> str:
    """Return what pytest prints, with the plugin, for ``--help`` or such."""
    plugin = ["-p", "ffi_leak_tracker.pytest_plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, option],
        env=environment(COLUMNS="200", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        cwd=PACKAGE.parent,  # a checkout has no compiled core
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.slow
def test_the_page_lists_the_options_of_pytest() -> None:
    """All of the plugin's options, settings and markers, and no other."""
    text = PAGES["pytest"].text
    printed = pytest_says("--help")
    group = printed.partition("native memory leaks:\n")[2].partition("\n\n")[0]
    heads = "".join(re.findall(r"(?m)^  --.*$", group))
    options = set(re.findall(r"--[\w-]+", heads))
    settings = set(re.findall(r"(?m)^  (leak\w*) \(", printed))
    marker = r"(?m)^@pytest.mark.(\w*leak\w*)\("
    markers = set(re.findall(marker, pytest_says("--markers")))
    assert options
    assert settings
    assert markers
    assert rows_with_options(text) == options
    assert set(re.findall(r"(?m)^\| `--[^|]* \| `(\w+)`", text)) == settings
    assert set(re.findall(r"(?m)^\| `(\w+)\(", text)) == markers


def test_the_page_lists_the_options_of_enable() -> None:
    rows = set(re.findall(r"(?m)^\| `(\w+)`", section("LeakTracker.enable")))
    assert rows == set(inspect.signature(LeakTracker.enable).parameters)


@each_page
def test_figures_of_the_tracker_exist(page: Document) -> None:
    """A page names no key that ``LeakTracker.self_stats`` does not have."""
    named = set(re.findall(r'self_stats\["(\w+)"\]', page.text))
    assert named <= set(LeakTracker.self_stats)


# --- lines of reports and messages ----------------------------------------
def texts_in_sources() -> str:
    """Return all constant texts of the package, f-strings with a mark.

    What an f-string puts in is replaced by a blank.
    """
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    one.value if isinstance(one, ast.Constant) else "\0"
                    for one in node.values
                ]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    for path in (ROOT / "csrc").glob("**/*.c"):
        joined = re.sub(r'"\s*"', "", path.read_text("utf-8"))
        found += re.findall(r'"((?:[^"\\\n]|\\.)*)"', joined)
    return "\n".join(found)


def rows_below(page: str, heading: str) -> list[str]:
    """Return the texts in the first cells of the tables below a heading."""
    parts = re.split(r"(?m)^(#+ .*)\n", PAGES[page].text)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    cells = re.findall(r"(?m)^\| (`.*?`) \|", text)
    return [one for cell in cells for one in re.findall(r"`([^`]+)`", cell)]


#: Where a listed line may be put together: at what stands for something
#: else, and at punctuation.
_SEAM = re.compile(
    r"\.\.\.|\bN\b|0x\.\.\.|'[^']*'|\d[\d.,]*|[+()-]|[:;,](?: |$)|  +"
)


def parts_of(line: str) -> list[list[str]]:
    """Return the words of each part of a line that has four or more."""
    parts = [one.split() for one in _SEAM.split(line)]
    return [words for words in parts if len(words) >= 4]


def is_known(words: list[str], known: str) -> bool:
    """Return whether a text has the words; two nouns may be put before."""
    counts = range(min(3, len(words) - 1))
    return any(" ".join(words[skipped:]) in known for skipped in counts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("reading-a-report", "## Notes"),
        ("reading-a-report", "## Misuse"),
        ("measuring-and-growth", "### The report"),
        ("troubleshooting", "## Messages"),
    ],
)
def test_listed_lines_exist(page: str, heading: str) -> None:
    """The package, or its core, has the words of each."""
    known = re.sub(r"\s+", " ", texts_in_sources())
    for line in rows_below(page, heading):
        for words in parts_of(line):
            assert is_known(words, known), f"{line}: {' '.join(words)}"


def notes_of_views() -> list[str]:
    """Return each note on what the tracker could not record."""
    for module in modules(private=True):
        limits_of = getattr(module, "limits_of", None)
        if limits_of is not None:
            every = dict.fromkeys(LeakTracker.self_stats, 2)
            found: list[str] = limits_of(every)
            return found
    raise AssertionError("no module makes the notes of reports")


def test_every_note_is_listed() -> None:
    """As the core would make them for two of each."""
    listed = set(rows_below("reading-a-report", "## Notes"))
    made = {note.replace("2 ", "N ", 1) for note in notes_of_views()}
    assert made <= listed


# --- the reference ---------------------------------------------------------
def modules(*, private: bool = False) -> list[Any]:
    """Return the modules of the package; the public ones unless asked."""
    found = []
    names = pkgutil.walk_packages(
        ffi_leak_tracker.__path__, "ffi_leak_tracker."
    )
    for one in names:
        is_private = any(part.startswith("_") for part in one.name.split("."))
        if one.name.endswith("__main__") or (is_private and not private):
            continue
        if util.find_spec(one.name).origin.endswith(".py"):
            found.append(import_module(one.name))
    return found


def public_names() -> set[str]:
    """Return the names of the package, and what its modules have besides."""
    own = set(ffi_leak_tracker.__all__)
    found = {f"ffi_leak_tracker.{name}" for name in own}
    for module in modules():
        others = set(getattr(module, "__all__", ())) - own
        found |= {f"{module.__name__}.{name}" for name in others}
    return found


def test_the_reference_has_every_public_name() -> None:
    """And no name that does not exist."""
    text = "\n".join(
        path.read_text("utf-8") for path in DOCS.glob("reference/*.rst")
    )
    listed = re.findall(
        r"(?m)^\.\. (?:py:\w+|auto\w+):: (ffi_leak_tracker\.[\w.]+)", text
    )
    assert len(listed) == len(set(listed))
    assert set(listed) == public_names()


@pytest.mark.slow
def test_the_pages_build_without_warnings(tmp_path: Path) -> None:
    """Each public method is in the index of what was built."""
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", str(DOCS), "html"],
        env=environment(),
        cwd=tmp_path,  # a checkout has no compiled core
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    from sphinx.util.inventory import InventoryFile

    with open(tmp_path / "html" / "objects.inv", "rb") as file:
        entries = InventoryFile.load(file, "", lambda base, name: name)
    built = {name for kind in entries.values() for name in kind}
    missing = {
        f"{name}.{member}"
        for name in public_names()
        for member in members_of(name)
        if f"{name}.{member}" not in built
    }
    assert missing == set()


def members_of(name: str) -> list[str]:
    """Return the public methods that a public class itself defines."""
    module, _, last = name.rpartition(".")
    value = getattr(import_module(module), last)
    if not inspect.isclass(value) or name.endswith("LeakTrackerException"):
        return []
    return [
        one
        for one, member in vars(value).items()
        if not one.startswith("_") and inspect.isroutine(member)
    ]
