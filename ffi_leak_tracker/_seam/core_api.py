"""The seam to the compiled core: C values in, plain values or records out.

This is the only module that imports ``_core``. The C functions are documented
in the headers in csrc/.
"""

from __future__ import annotations

import _frozen_importlib as _bootstrap  # importlib loads warnings
import _thread
import atexit
import os
import sys
from _thread import _local as thread_local  # threading takes 7 ms to load

from ffi_leak_tracker._base.environment import variable
from ffi_leak_tracker._base.package import (
    PACKAGE_FOLDER,
    lazy,
    load_all,
    provided,
)

_REFUSALS = {
    "subinterpreter": (
        "ffi_leak_tracker works in the main interpreter only, and this is a "
        "subinterpreter: import it in the main interpreter, where its hooks "
        "record the C code of all interpreters"
    ),
    "finalized": (
        "ffi_leak_tracker cannot be imported after Py_Finalize() and a second "
        "Py_Initialize(): an interpreter that is gone has used it in this "
        "process; start a new process"
    ),
}


def _missing(error: ImportError) -> ImportError:
    """Return the error for a compiled module that cannot be imported."""
    if "subinterpreter" in str(error):
        return ImportError(f"{_REFUSALS['subinterpreter']}. {error}")
    return ImportError(
        "the compiled core of ffi_leak_tracker is missing for this "
        f"interpreter ({sys.implementation.cache_tag}): install the package "
        "with this interpreter (python -m pip install ffi-leak-tracker, or "
        f"-e . in a checkout). The cause: {error}"
    )


try:
    import _cffi_backend

    from ffi_leak_tracker import _core
    from ffi_leak_tracker._core import ffi, lib
except ImportError as error:
    raise _missing(error) from error
if not hasattr(ffi, "sizeof"):  # CPython 3.15 empties the types of cffi
    raise ImportError(_REFUSALS["finalized"])

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from ffi_leak_tracker._base import source
    from ffi_leak_tracker._core import CData
    from ffi_leak_tracker._records import allocation, stats
    from ffi_leak_tracker._records.allocation import Frame, NativeFrame
    from ffi_leak_tracker._records.stats import AllocationStats, TypeStats
else:
    lazy(globals(), "_base", "source")
    lazy(globals(), "_records", "allocation", "stats")

HEAP = lib.FLK_LAYER_HEAP
HANDLE = lib.FLK_LAYER_HANDLE
MAPPING = lib.FLK_LAYER_MAPPING
CURRENT_SCOPE = lib.FLK_SCOPE_NONE
NOWHERE = lib.FLK_SCOPE_NOWHERE
PROCESS = 0
LAYERS: dict[str, int] = {"heap": HEAP, "handle": HANDLE, "mapping": MAPPING}
SIZE_MAX = 2 ** (8 * ffi.sizeof("size_t") - 1) - 1

NULL = ffi.NULL


def _module() -> CData:
    """Return the address of the compiled module."""
    return ffi.cast("void *", id(_core))


def _claim() -> None:
    """Refuse any interpreter but the first main one.

    The core has one state for the process. A second interpreter would replace
    the state of the first, so this comes before anything is changed.
    """
    if lib.flk_callables_add_claim(_module()):
        refusal = _core.claim()
        if refusal is not None:
            raise ImportError(_REFUSALS[refusal])


def _start() -> str | None:
    _claim()
    mismatch = lib.flk_pyframe_mismatch()
    if mismatch:
        raise ImportError(
            f"ffi_leak_tracker: {text(mismatch)}; install it with this "
            "interpreter"
        )
    problem = lib.flk_start(os.fsencode(PACKAGE_FOLDER))
    # Exit handlers run in reverse order: this one, registered at import, is
    # among the last. After it the interpreter deletes thread states, and
    # frames can no longer be read.
    atexit.register(lib.flk_codes_close)
    if not lib.flk_is_ready():
        raise ImportError("ffi_leak_tracker: no memory to start the tracker")
    return text(problem) if problem else None


def _finish_imports() -> None:
    """Before a fork: wait for modules that other threads are importing.

    The child could never import such a module: its lock would stay locked.
    What is imported when it is used is imported now, so that no other thread
    begins with it.
    """
    if _thread._count() > 0:  # threads of Python beside the main one
        load_all()
    for _ in range(_WAITS_MAX):
        ours = [n for n in list(_import_locks) if n.startswith(_OURS)]
        if not ours:
            return
        for name in ours:
            _wait_for_import(name)


_OURS = "ffi_leak_tracker."
#: A module that the forking thread itself imports stays in the list.
_WAITS_MAX = 10
# What the import statement itself uses; without a public name.
_import_locks: dict[str, Any] = getattr(_bootstrap, "_module_locks", {})
_wait_for_import = getattr(_bootstrap, "_lock_unlock_module", len)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_finish_imports)


def text(value: CData) -> str:
    raw: bytes = ffi.string(value)
    return raw.decode("utf-8", "surrogatepass")


#: Why the core cannot read Python frames; None if it can.
frames_problem = _start()
walks_frames = bool(lib.flk_pyframe_walks())
#: CPython has frames to be read; that PyPy has none is nothing new.
IS_CPYTHON = sys.implementation.name == "cpython"
lacks_frames = frames_problem is not None and IS_CPYTHON
if lacks_frames:
    import warnings

    warnings.warn(
        f"ffi_leak_tracker: {frames_problem}: allocators ask Python for "
        "their call path, and blocks of watched libraries and Python objects "
        "have none",
        RuntimeWarning,
        stacklevel=2,
    )


def _callables() -> Any:
    """Return the C callables of allocators and scopes; None without them.

    PyPy has none, and ``FFI_LEAK_TRACKER_FAST=0`` switches them off. They
    read frames in C; where that cannot be, their Python twins ask Python.
    """
    if variable("FFI_LEAK_TRACKER_FAST") == "0" or not walks_frames:
        return None
    lib.flk_bind_cffi()
    return _core.callables if lib.flk_callables_install(_module()) else None


callables = _callables()
#: Why the core cannot read contexts; None if it can.
contexts_problem: str | None = None


def read_contexts(scope_variable: object) -> None:
    """Let the core read a context variable; its values begin with a number."""
    global contexts_problem  # noqa: PLW0603
    address = ffi.cast("void *", id(scope_variable))
    problem = lib.flk_pycontext_install(address, 0)
    contexts_problem = text(problem) if problem else None


def objects_functions() -> Any:
    """Return the C functions for Python objects; None on PyPy."""
    return _core.objects if lib.flk_object_views_install(_module()) else None


backend_typeof = _cffi_backend.typeof
backend_gc = _cffi_backend.gcp  # ffi.gc

# --- C functions that need no conversion --------------------------------
enable = lib.flk_gate_set
gate_scope_begin = lib.flk_gate_scope_begin
gate_scope_end = lib.flk_gate_scope_end
gate_pause_begin = lib.flk_gate_pause_begin
gate_pause_end = lib.flk_gate_pause_end
pauses = lib.flk_gate_pauses
forbid = lib.flk_gate_forbid
hooks_refresh = lib.flk_attach_refresh
is_enabled = lib.flk_tracker_is_enabled
set_stack_depth = lib.flk_set_stack_depth
stack_depth = lib.flk_stack_depth
scope_new = lib.flk_scope_new
scope_left = lib.flk_scope_end
scope_gone = lib.flk_scope_gone
scope_is_clean = lib.flk_account_scope_is_empty
scope_is_within = lib.flk_scope_is_within
scope_serial = lib.flk_scope_serial
scope_here = lib.flk_context_here
scope_without = lib.flk_context_without_scope
scope_unread = lib.flk_context_unread
scope_unknown = lib.flk_context_unknown
scope_doubted = lib.flk_context_doubted
scope_doubted_live = lib.flk_context_doubted_live
context_count = lib.flk_context_count
context_open = lib.flk_context_open
context_close = lib.flk_context_close
context_set = lib.flk_context_set
nesting_open_root = lib.flk_nesting_open_root
nesting_close = lib.flk_nesting_end
set_process_scope = lib.flk_set_process_scope
mark = lib.flk_sequence_mark
reset = lib.flk_tracker_reset
reset_peak = lib.flk_tracker_reset_peak
clear_counts = lib.flk_clear_counts
drain_quarantine = lib.flk_quarantine_drain
check_damage = lib.flk_quarantine_check_all
STACK_DEPTH_MAX = lib.flk_stack_depth_max()


_reasons_for_python: set[str] = set()
#: Scopes that ``disable()`` switched off, each with its serial number.
silenced: set[tuple[int, int]] = set()


def judge_in_python(reason: str, is_needed: bool) -> None:
    """Let Python judge scopes at their end, as long as a reason is needed."""
    if is_needed:
        _reasons_for_python.add(reason)
    else:
        _reasons_for_python.discard(reason)
    if callables is not None:
        callables.judge_in_python(bool(_reasons_for_python))


def scope_chain(number: int) -> list[tuple[int, int]]:
    """Return a scope and those around it, each with its serial number."""
    chain = []
    while number != CURRENT_SCOPE:
        chain.append((number, scope_serial(number)))
        number = (
            CURRENT_SCOPE
            if number == PROCESS
            else (lib.flk_scope_above(number))
        )
    return chain


# --- configuration ------------------------------------------------------
def configuration() -> tuple[int, int, bool, int]:
    """Return quarantine blocks, quarantine bytes, poison and guard bytes."""
    blocks = ffi.new("uint32_t *")
    total = ffi.new("uint64_t *")
    poison = ffi.new("int *")
    guard = ffi.new("uint32_t *")
    lib.flk_configuration(blocks, total, poison, guard)
    return blocks[0], total[0], bool(poison[0]), guard[0]


def configure(blocks: int, total_bytes: int, poison: bool) -> None:
    """Set the limits of the quarantine, and whether freed blocks are filled."""
    lib.flk_configure(blocks, total_bytes, poison)


def configure_guard(guard_bytes: int) -> bool:
    """Set the guard of later blocks; return False if it is too large."""
    return bool(lib.flk_configure_guard(guard_bytes) == 0)


# --- types --------------------------------------------------------------
_type_ids: dict[tuple[str, str, str], int] = {}


def type_id(name: str, kind: str, release: str) -> int:
    """Return the number of (C type, kind, release).

    It is 0 if the core already has the maximum number of types.
    """
    key = (name, kind, release)
    known = _type_ids.get(key)
    if known is None:
        known = lib.flk_type_intern(*(_bytes(text) for text in key))
        if known:
            _type_ids[key] = known
    return known


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass").replace(b"\0", b"?")


type_count = lib.flk_names_count
_types: dict[int, tuple[str, str, str]] = {}


def type_of(number: int) -> tuple[str, str, str]:
    """Return the C type, kind and release of a number."""
    known = _types.get(number)
    if known is None:
        name = lib.flk_names_at(number)
        known = _types[number] = (
            text(name.type),
            text(name.kind),
            text(name.release),
        )
    return known


def type_figures() -> dict[str, TypeStats]:
    """Return the counts of each C type, summed over all kinds."""
    out = ffi.new("flk_figures *")
    found: dict[str, list[AllocationStats]] = {}
    for number in range(1, lib.flk_names_count() + 1):
        lib.flk_type_figures(number, out)
        if out.allocations:
            found.setdefault(type_of(number)[0], []).append(_stats(out))
    return {name: _sum_up(name, parts) for name, parts in found.items()}


def _sum_up(name: str, parts: list[AllocationStats]) -> TypeStats:
    sums = [
        sum([getattr(one, field) for one in parts])
        for field in stats.AllocationStats._fields[:-1]
    ]
    is_exact = len(parts) == 1 and parts[0].peak_exact
    return stats.TypeStats(name, *sums, is_exact)


# --- paths --------------------------------------------------------------
# Not by code object: equal code objects may have different files, and the
# dictionary would keep them alive.
_code_ids: dict[tuple[str, str], int] = {}


def path_here() -> int:
    """Return the path number of an allocation that happens now."""
    if walks_frames:
        return lib.FLK_PATH_WALK  # type: ignore[no-any-return]
    depth = stack_depth()
    return _walk(sys._getframe(1), depth) if depth else 0


def _walk(frame: FrameType | None, depth: int) -> int:
    codes: list[int] = []
    lines: list[int] = []
    while frame is not None and len(codes) < depth:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE_FOLDER):
            codes.append(_code_id(code))
            lines.append(frame.f_lineno or -1)
        frame = frame.f_back
    return int(lib.flk_path_of(codes, lines, len(codes)))


def _code_id(code: Any) -> int:
    key = getattr(code, "co_qualname", code.co_name), code.co_filename
    known = _code_ids.get(key)
    if known is None:
        known = _code_ids[key] = lib.flk_sites_named(*map(_bytes, key))
    return known


class _PathFrames:
    """The frames of one path, resolved on the first call."""

    __slots__ = ("frames", "path", "resolve")

    def __init__(
        self, path: int, resolve: Callable[[int], tuple[Any, ...]]
    ) -> None:
        self.path = path
        self.resolve = resolve
        self.frames: tuple[Any, ...] | None = None

    def __call__(self) -> tuple[Any, ...]:
        if self.frames is None:
            self.frames = self.resolve(self.path)
        return self.frames


_sites: dict[int, Frame] = {}
_frames: dict[Frame, Frame] = {}  # so that equal frames are one object
_paths: dict[int, _PathFrames] = {}


def _sites_of(path: int) -> list[int]:
    """Return the sites of a path: native sites first, then Python sites."""
    room = STACK_DEPTH_MAX * 2
    sites = ffi.new("uint32_t[]", room)
    count = min(lib.flk_callpath_sites(path, sites, room), room)
    return list(sites[0:count])


def path_frames(path: int) -> tuple[Frame, ...]:
    """Return the Python frames of a path, innermost first."""
    sites = _sites_of(path)
    if _is_mixed:
        sites = [site for site in sites if _native_site(site) is None]
    return _above_hidden(tuple(map(_frame, sites)))


_hidden: tuple[Frame, ...] = ()


def hide_callers() -> None:
    """Remove the frames of the current caller from all call paths.

    The command line calls this, so that reports do not show its frames.
    """
    global _hidden  # noqa: PLW0603
    _hidden = frames_here()


def frames_here() -> tuple[Frame, ...]:
    """Return the Python frames of the current caller, innermost first."""
    path = lib.flk_tracker_path() if walks_frames else path_here()
    return path_frames(path)


def _above_hidden(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    # A path may end before all hidden frames, since its depth is limited.
    for count in range(len(_hidden), 0, -1):
        if frames[-count:] == _hidden[:count]:
            return frames[:-count]
    return frames


def _frame(site: int) -> Frame:
    known = _sites.get(site)
    if known is None:
        place = ffi.new("flk_site_info *")
        if not lib.flk_codes_describe(site, place):
            return allocation.Frame("?", "?", None)
        filename = text(place.filename)
        source.allow([filename])
        made = allocation.Frame(
            text(place.function),
            filename,
            place.line if place.line > 0 else None,
            place.column if place.column >= 0 else None,
        )
        known = _sites[site] = _frames.setdefault(made, made)
    return known


def frames_of(path: int) -> _PathFrames:
    """Return a callable for the Python frames; equal frames are one object."""
    known = _paths.get(path)
    if known is None:
        known = _paths[path] = _PathFrames(path, path_frames)
    return known


# --- native frames ------------------------------------------------------
_has_native = False  # whether paths of blocks may have native frames
_is_mixed = False  # whether any path may; those of misuse do while attached
_native_sites: dict[int, tuple[str, int, int] | None] = {}


def note_native_paths() -> None:
    """Expect native frames in paths from now on."""
    global _is_mixed  # noqa: PLW0603
    _is_mixed = True


def set_native_depth(frames: int, *, lines: bool = False) -> None:
    """Set the number of native frames of hooked allocations; 0 for none.

    Args:
        lines: look up source lines when a report is made.
    """
    global _has_native  # noqa: PLW0603
    lib.flk_set_native_depth(frames)
    _has_native = _has_native or frames > 0
    if frames:
        note_native_paths()
        from ffi_leak_tracker._seam import symbols

        symbols.set_lines(lines)


def native_depth() -> int:
    """Return the number of native frames of hooked allocations."""
    return int(lib.flk_native_depth())


def _native_site(site: int) -> tuple[str, int, int] | None:
    if site not in _native_sites:
        place = ffi.new("flk_native_place *")
        found = None
        if lib.flk_modules_describe(site, place):
            path = os.fsdecode(ffi.string(place.path))
            found = (path, int(place.offset), int(place.fingerprint))
        _native_sites[site] = found
    return _native_sites[site]


def native_modules(path: int) -> list[str]:
    """Return the files of the native frames of a path, innermost first."""
    if not _has_native:
        return []
    known = map(_native_site, _sites_of(path))
    return [site[0] for site in known if site and site[0]]


def _demangle(name: str) -> str:
    if not name.startswith("_Z"):
        return name
    room = 4096
    out = ffi.new("char[]", room)
    return text(out) if lib.flk_demangle_name(_bytes(name), out, room) else name


_sites_seen = 0


def _new_native_sites() -> list[tuple[str, int, int]]:
    """Return the sites since the last call, of all paths.

    They are looked up together: one process for each module.
    """
    global _sites_seen
    first, _sites_seen = _sites_seen + 1, self_figures()["sites"]
    found = map(_native_site, range(first, _sites_seen + 1))
    return [site for site in found if site]


def native_frames(path: int) -> tuple[NativeFrame, ...]:
    """Return the native frames of a path, innermost first."""
    from ffi_leak_tracker._seam import symbols

    if symbols.with_lines:
        symbols.look_up(_new_native_sites())
    known = map(_native_site, _sites_of(path))
    frames = [symbols.frame_of(site, _demangle) for site in known if site]
    return symbols.folded(frames)


_native_paths: dict[int, _PathFrames] = {}


def native_of(path: int) -> tuple[()] | _PathFrames:
    """Return a callable for the native frames of a path; () without them."""
    if not _has_native:
        return ()
    known = _native_paths.get(path)
    if known is None:
        known = _native_paths[path] = _PathFrames(path, native_frames)
    return known


# --- counts of paths ----------------------------------------------------
count_paths = lib.flk_path_counts_request


def path_counts() -> dict[int, tuple[int, int]]:
    """Return the cumulative blocks and bytes of each path."""
    from _struct import Struct

    row = Struct("=QQII")
    room, count = 1024, 1025
    while count > room:
        room = count + count // 4
        out = ffi.new("flk_path_counts[]", room)
        count = lib.flk_path_counts_read(out, room)
    raw = ffi.buffer(out, count * row.size)
    rows = row.iter_unpack(bytes(raw))
    return {path: (blocks, size) for blocks, size, path, _ in rows}


# --- threads and scopes by number ---------------------------------------
_thread_names: dict[int, str] = {}
scope_names: dict[int, str] = {}


def thread_name(number: int) -> str:
    """Return the name of a thread, which may have ended, by its number."""
    known = _thread_names.get(number)
    if known is not None:
        return known
    try:
        import threading
    except ImportError:  # the interpreter is shutting down
        return f"thread {number}"
    ident = lib.flk_thread_ident_of(number)
    for thread in threading.enumerate():
        if thread.ident == ident:
            name = _thread_names[number] = thread.name
            return name
    return f"thread {number}" if number else "thread ?"


def _own_name(number: int) -> str:
    # If threading is not loaded, it did not start this thread.
    threading = sys.modules.get("threading")
    if threading is not None:
        return str(threading.current_thread().name)
    return "MainThread" if number == 1 else f"thread {number}"


def note_ending_threads() -> None:
    """Let each thread of ``threading`` note its name when it ends.

    For threads that only hooks see. ``note_thread`` is for the others. Before
    Python 3.11, threads that run already do not note their names.
    """
    import threading

    method = "_delete" if sys.version_info >= (3, 11) else "_bootstrap_inner"
    original = getattr(threading.Thread, method, None)
    if original is None or hasattr(original, "notes_name"):
        return

    def run_and_note(thread: threading.Thread) -> None:
        try:
            original(thread)
        finally:
            number = lib.flk_thread_number_if_any()
            # Green threads share one thread of the system, not this one.
            if number and lib.flk_thread_ident_of(number) == thread.ident:
                _thread_names[number] = thread.name

    run_and_note.notes_name = True  # type: ignore[attr-defined]
    setattr(threading.Thread, method, run_and_note)


_noted = thread_local()


def note_thread() -> None:
    """Remember the name of this thread, for reports after its end."""
    try:
        _noted.done  # noqa: B018
    except AttributeError:
        _noted.done = True
        number = lib.flk_thread_number()
        if number:
            _thread_names[number] = _own_name(number)


# --- figures ------------------------------------------------------------
def _stats(out: CData) -> AllocationStats:
    return stats.AllocationStats(
        out.allocations,
        out.frees,
        out.bytes_allocated,
        out.bytes_freed,
        max(0, out.peak_blocks),
        max(0, out.peak_bytes),
        bool(out.peak_exact),
    )


def scope_figures(scope: int) -> AllocationStats:
    """Return the counts of a scope and of the scopes inside it."""
    out = ffi.new("flk_figures *")
    lib.flk_scope_figures(scope, out)
    return _stats(out)


provided["figures"] = lambda: scope_figures(PROCESS)


def self_figures() -> dict[str, int]:
    """Return the counters of the tracker itself, by their names in C."""
    out = ffi.new("flk_self *")
    lib.flk_self_figures(out)
    hooks = ffi.new("flk_attach_figures *")
    lib.flk_attach_read(hooks)
    return {
        **{name: getattr(out, name) for name in _fields_of("flk_self")},
        **{
            f"hooks_{name}": getattr(hooks, name)
            for name in _fields_of("flk_attach_figures")
        },
        "frames_unread": int(not walks_frames),
    }


_fields: dict[str, list[str]] = {}  # of structs, once they are asked for


def _fields_of(struct: str) -> list[str]:
    if struct not in _fields:
        _fields[struct] = [name for name, _ in ffi.typeof(struct).fields]
    return _fields[struct]


def was_enabled() -> bool:
    """Return whether tracking was ever on."""
    out = ffi.new("flk_self *")
    lib.flk_self_figures(out)
    return bool(out.ever_enabled)


def opaque(type_number: int) -> CData:
    """Return the pointer that stands for a type in ``opaque_*`` functions."""
    return lib.flk_opaque(type_number)
