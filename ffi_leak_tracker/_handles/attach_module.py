"""``attach_module``: the objects of a package, without a change of it."""

from __future__ import annotations

import sys
import types

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._base.warn import warn
from ffi_leak_tracker._handles import rebinding
from ffi_leak_tracker._handles.functions import Switch
from ffi_leak_tracker._handles.import_hook import Hook
from ffi_leak_tracker._handles.instrument import Plan, proxies
from ffi_leak_tracker._handles.interface import Interface
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
        "name": "the name of the module",
    }

    def __init__(self, name: str, spec: Spec | None, source: str) -> None:
        self.name = name
        self._spec = spec
        self._source = source
        self._switch = Switch()
        self._old: list[tuple[Any, Any]] = []
        self._hook: Hook | None = None

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
        """Replace ffi and lib of the module itself."""
        ffi = getattr(module, "ffi", None)
        if ffi is None or not hasattr(ffi, "typeof"):
            raise SpecError(f"{self.name} is no module of cffi: it has no ffi")
        lib = getattr(module, "lib", None)
        spec = self._spec
        if spec is None:
            spec = Spec({}) if lib is None else suggest(ffi, lib).spec("high")
        raw = _NoLib() if lib is None else lib
        plan = Plan(ffi, raw, spec, False, self._switch)
        if self._spec is not None and lib is not None:
            self._warn_of_unfit(plan)
        new_ffi, new_lib = proxies(plan)
        self._old = pairs_of(plan, new_ffi, None if lib is None else new_lib)
        names = vars(module)
        rebinding.in_names(names, rebinding.by_identity(self._old))
        below = sys.modules.get(f"{self.name}.lib")
        if below is not None and below is lib:
            sys.modules[f"{self.name}.lib"] = new_lib  # type: ignore[assignment]

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
        if _attached.pop(self.name, None) is not None and not self.loaded:
            warn(unmet_text(self.name))
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


def pairs_of(
    plan: Plan, ffi: Interface, lib: Library | None
) -> list[tuple[Any, Any]]:
    """Return what to replace, and what by.

    The raw ffi, the raw lib, its functions that have a wrapper, and the
    methods of the ffi that record.
    """
    pairs: list[tuple[Any, Any]] = [(plan.ffi, ffi)]
    if lib is not None:
        pairs.append((plan.lib, lib))
    for name, wrapper in plan.wrappers.items():
        pairs.append((getattr(plan.lib, name), wrapper))
    return pairs


def attach_module(name: str, spec: Any = None) -> ModuleHandles:
    """Record the objects of a package that uses cffi, without changing it.

    The ``ffi`` and ``lib`` of its extension module are replaced as by
    ``instrument``: at its import, or now, if it is loaded. Then each name in
    a loaded module that is bound to them, or to a function of the lib, is
    bound anew, also in classes and in default arguments.

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
    """Return a line for each attached module that was not imported."""
    return [
        unmet_text(one.name) for one in attached_modules() if not one.loaded
    ]


def unmet_text(name: str) -> str:
    """Return what to say of a module that was not imported."""
    return (
        f"{printable(name)} was not imported, so no handle of it was recorded"
    )
