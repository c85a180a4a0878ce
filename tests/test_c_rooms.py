"""What keeps the C core in its rooms; csrc/README.md has the map."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parent.parent / "csrc"

#: Lowest first: a room includes and calls itself and the rooms before it.
ROOMS = (
    "base",
    "elf",
    "paths",
    "registry",
    "tracker",
    "reach",
    "hooks",
    "api",
    "python",
)
OUTSIDE = {"README.md", "build_ffi.py"}
#: The files below python/ that need an interpreter's headers.
SEE_PYTHON = {
    "paths/pyframe_layout.h",
    "paths/pyframe.c",
    "paths/pycontext.c",
    "paths/codes.c",
}
PLATFORM = {"pthread.h", "sys/mman.h", "sched.h"}


def code_of(path: Path) -> str:
    """Return a file without its comments and texts."""
    text = re.sub(r"//.*", "", path.read_text("utf-8"))
    return re.sub(r'"(?:[^"\\\n]|\\.)*"(?!\n)', '""', text)


def heads_of(path: Path) -> dict[str, str]:
    """Return the head of each function that a .c file defines globally."""
    found, head = {}, ""
    for line in path.read_text("utf-8").splitlines():
        if re.match(r"[A-Za-z_]", line):
            head = line
        elif line.startswith(" ") and head and "{" not in head:
            head += line
        if (line == "}" or (head == line and line.endswith("}"))) and head:
            name = re.search(r"(flk_\w+)\(", head.split("=")[0])
            if name and not re.search(r"\bstatic\b|FLK_HOT", head):
                found[name[1]] = head
            head = ""
    return found


@dataclass
class Core:
    """A folder laid out in rooms."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    defined: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in {".c", ".h"}:
                self.files[path.relative_to(self.folder).as_posix()] = path
        for name, path in self.files.items():
            if path.suffix == ".c":
                self.defined |= dict.fromkeys(heads_of(path), name)

    def rank(self, name: str) -> int:
        room = name.split("/", maxsplit=1)[0]
        return ROOMS.index(room) if room in ROOMS else len(ROOMS)

    def misplaced(self) -> list[str]:
        """Return files outside a room, and folders that are none."""
        inside = {f"{room}/" for room in ROOMS}
        return [
            path.relative_to(self.folder).as_posix()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
            and "__pycache__" not in path.parts
            and path.name not in OUTSIDE
            and path.relative_to(self.folder).parts[0] + "/" not in inside
        ] + [name for name in self.files if name.count("/") != 1]

    def includes_upwards(self) -> list[str]:
        found = []
        for name, path in self.files.items():
            for header in re.findall(
                r'#include "(.*?)"', path.read_text("utf-8")
            ):
                if header.startswith("internal/"):
                    continue  # CPython's own
                if header not in self.files:
                    found.append(f"{name}: {header} is not written from csrc")
                elif self.rank(header) > self.rank(name):
                    found.append(f"{name}: {header}")
        return found

    def calls_upwards(self) -> list[str]:
        found = []
        for name, path in self.files.items():
            for used in sorted(set(re.findall(r"\bflk_\w+", code_of(path)))):
                where = self.defined.get(used)
                if where and self.rank(where) > self.rank(name):
                    found.append(f"{name}: {used} of {where}")
        return found

    def declared_elsewhere(self) -> list[str]:
        """Return what a header declares and another room defines."""
        found = []
        for name, path in self.files.items():
            if path.suffix == ".h":
                for used in re.findall(
                    r"^[A-Za-z_][\w *]*?\b(flk_\w+)\([^;{}]*\);",
                    code_of(path),
                    re.M,
                ):
                    where = self.defined.get(used)
                    if where and self.rank(where) != self.rank(name):
                        found.append(f"{name}: {used} of {where}")
        return found

    def without_their_stem(self) -> list[str]:
        """Return global functions not named after their file.

        Those that Python calls (api/) have no module in their name.
        """
        return [
            f"{where}: {name}"
            for name, where in self.defined.items()
            if not where.startswith("api/")
            and not name.startswith(f"flk_{Path(where).stem}_")
            and name != f"flk_{Path(where).stem}"
        ]

    def including(self, header: str) -> set[str]:
        pattern = re.compile(rf'#include\s*[<"]{re.escape(header)}[>"]')
        return {
            name
            for name, path in self.files.items()
            if pattern.search(path.read_text("utf-8"))
        }


CORE = Core(CSRC)


def test_every_file_is_in_a_room() -> None:
    """Each folder of csrc is a room, and rooms have no folders."""
    assert [] == CORE.misplaced()
    assert set(ROOMS) == {p.name for p in CSRC.iterdir() if p.is_dir()} - {
        "__pycache__"
    }


def test_no_include_goes_up() -> None:
    """A room includes its own headers and those of rooms before it."""
    assert [] == CORE.includes_upwards()


def test_no_call_goes_up() -> None:
    """A room calls its own functions and those of rooms before it."""
    assert [] == CORE.calls_upwards()


def test_headers_declare_what_their_room_defines() -> None:
    """So the order of includes is the order of calls."""
    assert [] == CORE.declared_elsewhere()


def test_functions_bear_the_name_of_their_file() -> None:
    """flk_<file>_<verb>, but for what Python calls."""
    assert [] == CORE.without_their_stem()


def test_file_names_are_unique() -> None:
    """Their objects lie in one folder; .c and .h of a name are one module."""
    names = [path.name for path in CORE.files.values()]
    assert len(names) == len(set(names))
    room_of: dict[str, str] = {}
    for name, path in CORE.files.items():
        room = name.split("/")[0]
        assert room_of.setdefault(path.stem, room) == room


def test_few_files_see_python() -> None:
    """python/ and what reads frames."""
    seeing = CORE.including("Python.h") | CORE.including("structmember.h")
    assert {n for n in seeing if not n.startswith("python/")} <= SEE_PYTHON
    layout = {"paths/pyframe.c", "paths/pyframe_trust.h"}
    assert CORE.including("paths/pyframe_layout.h") == layout
    assert CORE.including("paths/pyframe_trust.h") == {"paths/pyframe.c"}


@pytest.mark.parametrize("header", sorted(PLATFORM))
def test_one_file_sees_the_platform(header) -> None:
    """Threads, pages and the like: base/platform.c and its two parts."""
    parts = ("platform", "platform_pages", "platform_child")
    assert CORE.including(header) <= {f"base/{part}.c" for part in parts}


def test_the_map_lists_the_rooms() -> None:
    """csrc/README.md has a section for each room, in their order."""
    text = (CSRC / "README.md").read_text("utf-8")
    assert list(ROOMS) == re.findall(r"^### `(\w+)/`", text, re.M)


# --- the checks themselves --------------------------------------------------
SOUND = {
    "base/low.h": "void flk_low_do(void);\n",
    "base/low.c": '#include "base/low.h"\nvoid flk_low_do(void) {\n}\n',
    "python/high.h": "void flk_high_do(void);\n",
    "python/high.c": (
        '#include "python/high.h"\n#include "base/low.h"\n'
        "void flk_high_do(void) {\n    flk_low_do();\n}\n"
    ),
}


def planted(folder: Path, **changes: str) -> Core:
    for name, text in {**SOUND, **changes}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return Core(folder)


def faults_of(core: Core) -> list[str]:
    return (
        core.misplaced()
        + core.includes_upwards()
        + core.calls_upwards()
        + core.declared_elsewhere()
        + core.without_their_stem()
    )


def test_sound_rooms_pass(tmp_path) -> None:
    """The checks are silent about a core without faults."""
    assert [] == faults_of(planted(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "base/low.h",
            '#include "python/high.h"\n',
            ["base/low.h: python/high.h"],
        ),
        ("base/low.h", '#include "low.h"\n', ["is not written from csrc"]),
        (
            "base/low.c",
            "void flk_low_do(void) {\n    flk_high_do();\n}\n",
            ["base/low.c: flk_high_do of python/high.c"],
        ),
        ("stray.c", "", ["stray.c"]),
        ("attic/old.c", "", ["attic/old.c"]),
        (
            "base/low.h",
            "void flk_high_do(void);\n",
            [
                "base/low.h: flk_high_do of python/high.c",
            ],
        ),
        ("base/other.c", "int flk_stray(void) { return 1; }\n", ["flk_stray"]),
    ],
    ids=[
        "include",
        "include by name",
        "call",
        "outside",
        "no room",
        "declaration",
        "name",
    ],
)
def test_planted_faults_are_found(tmp_path, name, text, fault) -> None:
    """Each check finds what it is for."""
    found = "\n".join(faults_of(planted(tmp_path, **{name: text})))
    assert all(part in found for part in fault)
