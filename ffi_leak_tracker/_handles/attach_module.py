"""``attach_module``: the objects of a package, without a change of it."""

from __future__ import annotations

import gc
import sys
import types

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._base.warn import warn
from ffi_leak_tracker._handles import rebinding
from ffi_leak_tracker._handles.functions import Switch
from ffi_leak_tracker._handles.import_hook import Hook
from ffi_leak_tracker._handles.instrument import (
    Plan,
    library_of_plan,
    proxies,
)
from ffi_leak_tracker._handles.library import Library
from ffi_leak_tracker._handles.spec import Spec
from ffi_leak_tracker._handles.spec_files import OURS, as_spec, of_module
from ffi_leak_tracker._handles.suggest import suggest
from ffi_leak_tracker._handles.vocabulary import SpecError
from ffi_leak_tracker._tracking import unseen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

_attached: dict[str, ModuleHandles] = {}


class ModuleHandles:
    """The handles of a module, recorded until ``close()``.

    Made by ``attach_module``. It is a context manager.
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {
        "_hook": "waits for the import",
        "_old": "what was replaced, and by what",
        "_source": "of the specification",
        "_spec": "None: what is suggested",
        "_switch": "of the wrappers",
        "_unfit": "a line for each name that no opened lib has; None: none is",
        "name": "the name of the module",
    }

    def __init__(self, name: str, spec: Spec | None, source: str) -> None:
        self.name = name
        self._spec = spec
        self._source = source
        self._switch = Switch()
        self._old: list[tuple[Any, Any]] = []
        self._hook: Hook | None = None
        self._unfit: dict[str, str] | None = None

    @property
    def source(self) -> str:
        """Where the specification is from, for messages."""
        return self._source

    @property
    def active(self) -> bool:
        """Whether it still records."""
        return self._switch.on

    @property
    def loaded(self) -> bool:
        """Whether the module was met: it is loaded, and its names replaced."""
        return bool(self._old)

    def _open(self) -> None:
        module = sys.modules.get(self.name)
        if module is None:
            self._hook = Hook(self.name, self._replace)
            return
        self._replace(module)
        rebinding.everywhere(self._old)

    def _replace(self, module: types.ModuleType) -> None:
        """Replace ffi and lib of the module itself, and libs it has opened."""
        ffi = getattr(module, "ffi", None)
        if ffi is None or not hasattr(ffi, "typeof"):
            raise SpecError(f"{self.name} is no module of cffi: it has no ffi")
        lib = getattr(module, "lib", None)
        plan = self._plan(ffi, _NoLib() if lib is None else lib)
        if self._spec is not None and lib is not None:
            self._warn_of_unfit(plan)
        new_ffi, new_lib = proxies(plan, lambda one: self._opened(ffi, one)[1])
        self._old = [(ffi, new_ffi)]
        if lib is not None:
            self._old += pairs_of(plan, new_lib)
        if opened := self._opened_before(ffi):
            self._old += opened
            rebinding.everywhere(self._old)
        names = vars(module)
        rebinding.in_names(names, rebinding.by_identity(self._old))
        below = sys.modules.get(f"{self.name}.lib")
        if below is not None and below is lib:
            sys.modules[f"{self.name}.lib"] = new_lib  # type: ignore[assignment]

    def _plan(self, ffi: Any, lib: Any) -> Plan:
        spec = self._spec
        if spec is None:
            spec = suggest(ffi, lib).spec("high")
        return Plan(ffi, lib, spec, False, self._switch)

    def _opened(self, ffi: Any, lib: Any) -> tuple[Plan, Library]:
        """Return what stands for a lib that the ffi of the module opened."""
        plan = self._plan(ffi, lib)
        lines = [*plan.spec.unknown(dir(lib)), *plan.unfit()]
        names = {line.partition(" ")[0]: line for line in lines}
        before = names if self._unfit is None else self._unfit
        self._unfit = {one: names[one] for one in before if one in names}
        return plan, library_of_plan(plan)

    def _opened_before(self, ffi: Any) -> list[tuple[Any, Any]]:
        """Return the pairs of the libs that the module's ffi has opened."""
        known = rebinding.by_identity(self._old)
        pairs: list[tuple[Any, Any]] = []
        for lib in libraries_opened_by(ffi):
            if id(lib) not in known:
                pairs += pairs_of(*self._opened(ffi, lib))
        return pairs

    @property
    def problem(self) -> str | None:
        """What is not recorded though it was asked for; None if nothing is."""
        if not self.loaded:
            return unmet_text(self.name)
        if len(self._old) == 1 and self._unfit is None:
            return (
                f"the ffi of {printable(self.name)} opened no library, so no "
                "handle of it was recorded"
            )
        if self._spec is None or self._source.endswith(OURS):
            return None
        if not self._unfit:
            return None
        lines = "; ".join(self._unfit.values())
        return f"handles of {printable(self.name)}: {lines}: not recorded"

    def _warn_of_unfit(self, plan: Plan) -> None:
        """Warn of functions of the specification that are not there.

        One that comes with this package is for several versions of the
        module: it is told only if nothing of it fits.
        """
        lines = [*plan.spec.unknown(dir(plan.lib)), *plan.unfit()]
        is_ours = self._source.endswith(OURS)
        if is_ours:
            lines = []
        if len(plan.spec) and not len(plan.fitted):
            lines.append("no function of the module is in the specification")
        if lines:
            where = "" if self._source == "given" else f" ({self._source})"
            warn(
                f"handles of {self.name}{where}: {'; '.join(lines)}: these "
                "are not recorded"
            )

    def close(self) -> None:
        """Give each module its own ffi and lib back. May be called twice.

        Handles that live stay recorded until their destructor is called
        through a reference that something kept.
        """
        if not self._switch.on:
            return
        self._switch.off()
        problem = self.problem
        if _attached.pop(self.name, None) is not None and problem:
            warn(problem)
        if self._hook is not None:
            self._hook.remove()
        if self._old:
            back = [(new, old) for old, new in self._old]
            rebinding.everywhere(back)
            for new, old in back:
                if isinstance(new, Library):
                    below = f"{self.name}.lib"
                    if sys.modules.get(below) is new:  # type: ignore[comparison-overlap]
                        sys.modules[below] = old

    def __enter__(self) -> ModuleHandles:
        return self

    def __exit__(
        self,
        kind: Any,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed"
        if self.active:
            state = "attached" if self.loaded else "waits for the import"
        return f"<ModuleHandles of {self.name}, {state}, {self._source}>"


class _NoLib:
    """The lib of a module in ABI mode, which opens libraries by its ffi."""

    def __dir__(self) -> list[str]:
        return []


def libraries_opened_by(ffi: Any) -> list[Any]:
    """Return the libs in ABI mode that an ffi has opened.

    One of ``cffi.FFI`` has a list of them. One of a compiled module is known
    by its libs, which refer to it, as far as modules or classes have a name
    for them: others could not be replaced.
    """
    known = getattr(ffi, "_libraries", None)
    if isinstance(known, list):
        return list(known)
    libs = {id(one): one for one in rebinding.values_of_type("Lib")}
    return [
        one
        for one in libs.values()
        if any(other is ffi for other in gc.get_referents(one))
    ]


def pairs_of(plan: Plan, lib: Library) -> list[tuple[Any, Any]]:
    """Return what to replace, and what by: a lib, and its wrapped functions."""
    pairs: list[tuple[Any, Any]] = [(plan.lib, lib)]
    for name, wrapper in plan.wrappers.items():
        pairs.append((getattr(plan.lib, name), wrapper))
    return pairs


def attach_module(name: str, spec: Any = None) -> ModuleHandles:
    """Record the objects of a package that uses cffi, without changing it.

    The ``ffi`` and ``lib`` of its extension module are replaced as by
    ``instrument``: at its import, or now, if it is loaded. Then each name in
    a loaded module that is bound to them, or to a function of the lib, is
    bound anew, also in classes and in default arguments. In ABI mode this is
    done with each lib that the ffi has opened, and that it opens later.

    Args:
        name: of the module that has ``ffi``, such as ``"cmarkgfm._cmark"``.
        spec: as for ``instrument``. None: the table for the module in
            ``pyproject.toml``; else the specification that comes with this
            package; else what ``suggest`` is sure of. For functions that the
            library does not have there is a RuntimeWarning, no error.

    Returns: a ``ModuleHandles``. It ends by ``close()`` or at the end of a
        ``with`` statement: all names are bound to what they were.

    Raises: SpecError for a wrong specification, or if the module has no ffi;
        ValueError if it is attached already. At an import, they are raised
        by it.

    Cost: that of ``instrument``. If the module is loaded, O(names in all
        modules), once.

    >>> from ffi_leak_tracker.handles import attach_module
    >>> with attach_module("pkg._native", {"foo_new": "foo_free"}) as attached:
    ...     attached
    <ModuleHandles of pkg._native, waits for the import, given>
    """
    if name in _attached:
        raise ValueError(f"the handles of {name} are attached already")
    chosen: Spec | None = None
    source = "given"
    if spec is not None:
        chosen = as_spec(spec)
    else:
        found = of_module(name)
        source = "suggested"
        if found is not None:
            chosen, source = found
    made = ModuleHandles(name, chosen, source)
    made._open()
    _attached[name] = made
    unseen.tell_also(unmet)
    return made


def attached_modules() -> tuple[ModuleHandles, ...]:
    """Return what is attached, oldest first."""
    return tuple(_attached.values())


def unmet() -> list[str]:
    """Return a line for each module with functions that are not recorded."""
    return [one.problem for one in attached_modules() if one.problem]


def unmet_text(name: str) -> str:
    """Return what to say of a module that was not imported."""
    return (
        f"{printable(name)} was not imported, so no handle of it was recorded"
    )
