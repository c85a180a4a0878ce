"""Names and source lines of native addresses, for reports.

Function names come from the symbol tables of the loaded file. Source lines
come from ``llvm-symbolizer`` or ``addr2line``, if one of them is installed.
"""

from __future__ import annotations

import os
from bisect import bisect_right

from ffi_leak_tracker._base.elf import UNREADABLE, ElfFile
from ffi_leak_tracker._base.environment import is_privileged
from ffi_leak_tracker._records.allocation import NativeFrame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    # An address in a file: path, offset, fingerprint.
    NativeSite = tuple[str, int, int]
    Line = tuple[str | None, str | None, int | None]


# --- names --------------------------------------------------------------
class SymbolFile:
    """The functions of one file, by address.

    Args:
        path: of the file.
        fingerprint: of the object that was loaded. If that of the file
            differs, the file was written anew since, and there are no
            functions; nor are there if it cannot be read.
    """

    def __init__(self, path: str, fingerprint: int) -> None:
        self.starts: list[int] = []
        self.functions: list[tuple[int, str]] = []
        self.is_loaded_one = False
        try:
            file = ElfFile.read(path)
            self.is_loaded_one = file.fingerprint() == fingerprint
            if self.is_loaded_one:
                found = sorted(file.functions().items())
                self.starts = [start for start, _ in found]
                self.functions = [function for _, function in found]
        except UNREADABLE:
            pass

    def name_at(self, offset: int) -> str | None:
        """Return the function around an address of the file, or None."""
        i = bisect_right(self.starts, offset) - 1
        if i < 0:
            return None
        size, name = self.functions[i]
        return name if offset < self.starts[i] + size else None


_files: dict[tuple[str, int], SymbolFile] = {}


def _file_of(site: NativeSite) -> SymbolFile:
    key = site[0], site[2]
    known = _files.get(key)
    if known is None:
        known = _files[key] = SymbolFile(*key)
    return known


# --- lines --------------------------------------------------------------
SECONDS = 20.0  # timeout for one module; debug information may be large
_TOOLS = (
    ("llvm-symbolizer", "--no-inlines", "--functions=linkage", "--obj={}"),
    ("addr2line", "-f", "-e", "{}"),
)
_lines: dict[tuple[str, int, int], Line] = {}
with_lines = False


def set_lines(on: bool) -> None:
    """Look up source lines as well; this runs a process for each module."""
    global with_lines  # noqa: PLW0603
    with_lines = on


def _tool() -> tuple[str, ...] | None:
    from shutil import which

    if is_privileged():  # PATH is its caller's
        return None
    for name, *arguments in _TOOLS:
        path = which(name)
        if path:
            return (path, *arguments)
    return None


def _run_tool(
    tool: Sequence[str], path: str, offsets: Sequence[int]
) -> list[str]:
    """Run a tool; return two lines for each offset: function and place.

    Empty if the tool fails or takes too long.
    """
    from subprocess import DEVNULL, PIPE, SubprocessError, run

    offsets_text = "".join(f"{offset:#x}\n" for offset in offsets)
    command = [part.replace("{}", path) for part in tool]
    try:
        done = run(
            command,
            input=offsets_text.encode(),
            stdout=PIPE,
            stderr=DEVNULL,
            timeout=SECONDS,
            check=True,
        )
    except (OSError, SubprocessError):
        return []
    text = done.stdout.decode("utf-8", "surrogateescape")
    lines = [line for line in text.splitlines() if line]
    return lines if len(lines) == 2 * len(offsets) else []


def parse_place(text: str) -> tuple[str | None, int | None]:
    """Return file and line of ``file:line``, as both tools write it.

    >>> parse_place("a:b.c:7:3"), parse_place("b.c:7 (discriminator 2)")
    (('a:b.c', 7), ('b.c', 7))
    >>> parse_place("??:0"), parse_place("??:?"), parse_place("b.c:?")
    ((None, None), (None, None), ('b.c', None))
    """
    parts = text.partition(" (discriminator")[0].split(":")
    numbers: list[int] = []
    while len(parts) > 1 and len(numbers) < 2 and _is_number(parts[-1]):
        last = parts.pop()
        numbers.append(int(last) if last != "?" else 0)
    name = ":".join(parts)
    if name in ("", "??"):
        return None, None
    return name, (numbers[-1] or None) if numbers else None


def _is_number(text: str) -> bool:
    return text.isdigit() or text == "?"


def look_up(sites: Iterable[NativeSite]) -> None:
    """Look up the source lines of addresses that are not yet known."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for path, offset, fingerprint in sites:
        if (path, offset, fingerprint) not in _lines:
            wanted.setdefault((path, fingerprint), []).append(offset)
    tool = _tool() if wanted else None
    for (path, fingerprint), offsets in wanted.items():
        found: list[str] = []
        if tool and _file_of((path, 0, fingerprint)).is_loaded_one:
            found = _run_tool(tool, path, offsets)
        for i, offset in enumerate(offsets):
            line: Line = (None, None, None)
            if found:
                line = _line_of(found[2 * i], found[2 * i + 1])
            _lines[path, offset, fingerprint] = line


def _line_of(name: str, place: str) -> Line:
    """Return function, file and line of the answer of a tool.

    Without debug information a tool names the nearest symbol, however far it
    is. Then no name is right.
    """
    filename, lineno = parse_place(place)
    is_known = filename is not None and name != "??"
    return name if is_known else None, filename, lineno


# --- frames -------------------------------------------------------------
def frame_of(site: NativeSite, demangle: Callable[[str], str]) -> NativeFrame:
    """Return the frame of an address, with None for unknown fields."""
    path, offset, fingerprint = site
    function = _file_of(site).name_at(offset)
    known = _lines.get((path, offset, fingerprint), (None, None, None))
    name, filename, lineno = known
    function = function or name
    return NativeFrame(
        demangle(function) if function else None,
        path or "(no module)",
        offset,
        filename,
        lineno,
    )


#: Functions and libraries through which cffi and ctypes call C functions.
_WRAPPERS = ("_cffi_f_", "_cffi_d_")
_BRIDGES = ("libffi.so", "libffi-", "_ctypes.", "_ctypes_")


def is_bridge(frame: NativeFrame) -> bool:
    """Return whether a frame belongs to cffi, ctypes or libffi."""
    if (frame.function or "").startswith(_WRAPPERS):
        return True
    return os.path.basename(frame.module).startswith(_BRIDGES)


def folded(frames: Sequence[NativeFrame]) -> tuple[NativeFrame, ...]:
    """Return the frames without outermost frames of cffi and ctypes."""
    count = len(frames)
    while count and is_bridge(frames[count - 1]):
        count -= 1
    return tuple(frames[:count])
