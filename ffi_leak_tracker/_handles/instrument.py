"""``instrument``: an ffi and a lib that record the objects of a library."""

from __future__ import annotations

from ffi_leak_tracker._handles import functions, ledger
from ffi_leak_tracker._handles.functions import Release, Switch
from ffi_leak_tracker._handles.interface import Interface, interface_of
from ffi_leak_tracker._handles.library import Library, library_of
from ffi_leak_tracker._handles.spec import Spec, releases
from ffi_leak_tracker._handles.spec_files import as_spec
from ffi_leak_tracker._handles.vocabulary import (
    Borrowed,
    Incref,
    Out,
    SpecError,
)
from ffi_leak_tracker._handles.wrapper import Late, Wrapper, unwrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ffi_leak_tracker._handles.functions import Function
    from ffi_leak_tracker._handles.vocabulary import Word


_RAW = "_ffi_leak_tracker_raw"


class Plan:
    """The wrappers of one library, and what they stand for.

    Args:
        strict: raise SpecError for names that the library does not have.
    """

    def __init__(
        self, ffi: Any, lib: Any, spec: Spec, strict: bool, switch: Switch
    ) -> None:
        self.ffi, self.lib, self.spec = ffi, lib, spec
        self.switch = switch
        names = dir(lib)
        if strict and (unknown := spec.unknown(names)):
            raise SpecError("; ".join(unknown))
        #: Names and wrappers.
        self.wrappers: dict[str, Function] = {}
        #: What each function releases, by its name.
        self.releases: dict[str, Release] = {}
        #: Functions that need no wrapper, and constants: looked up once.
        self.others: dict[str, Any] = {}
        self._names_of_raw: dict[int, str] = {}
        self._destructors: dict[str, Function] = {}
        #: The destructors for wrappers of functions that never change.
        self.fast_destructors: dict[Any, Function] = {}
        self._addresses: dict[int, str] | None = None
        words = spec.for_functions(names)
        #: Variables of the library that point to functions which free objects.
        self._variables = {
            name for name in _named(words) if self._is_variable(name)
        }
        self._wrap(words, names)
        if strict and (lines := self.unfit()):
            raise SpecError("; ".join(lines))

    def unfit(self) -> list[str]:
        """Return a line for each name that can do nothing as a function.

        Exact names, and what must free the results of those that fit. A symbol
        that the loaded library lacks is none: a specification may be for
        several versions.
        """
        lines = [
            f"{name} is no function, but {what}"
            for name in self.spec.exact_names()
            if (what := self._what_else(name)) is not None
        ]
        for at, words in self.fitted.items():
            for free in dict.fromkeys(
                name for word in words for name in getattr(word, "free", ())
            ):
                what = self._what_else(free)
                _, ctype = self._function(free)
                if what is not None:
                    lines.append(
                        f"{free} (free of {at}) is no function, but {what}"
                    )
                elif ctype is not None and not _takes_pointer(ctype):
                    lines.append(
                        f"{free} (free of {at}) takes no pointer: {ctype.cname}"
                    )
        return lines

    def _what_else(self, name: str) -> str | None:
        """Return what a name of the library is that is no function."""
        try:
            value = getattr(self.lib, name)
        except Exception:  # not in the library, or not in this version of it
            return None
        if self._function(name)[1] is not None:
            return None
        if isinstance(value, ledger._CData):
            return f"of type {self.ffi.typeof(value).cname}"
        return f"the number {value!r}" if isinstance(value, int) else "a value"

    def _wrap(
        self, words: dict[str, tuple[Word, ...]], names: list[str]
    ) -> None:
        freeing: dict[str, set[str]] = {}
        fitted: dict[str, list[Word]] = {}
        for name, several in words.items():
            _, ctype = self._function(name)
            if ctype is not None:
                mine = self._fitting(name, several, ctype)
                fitted.update({name: list(mine)} if mine else {})
                for word in mine:
                    functions.check(name, word, ctype)
                _add_types(freeing, mine, ctype)
        #: What the words say about functions that there are.
        self.fitted = Spec(
            {name: mine for name, mine in fitted.items() if mine}
        )
        for name in names:
            raw, ctype = self._function(name)
            if ctype is None:
                continue
            mine = self._fitting(name, words.get(name, ()), ctype)
            release = self._release(name, mine, ctype, freeing.get(name))
            self._names_of_raw[id(raw)] = name
            if release is not None:
                self.releases[name] = release
            if mine or release or _takes_functions(ctype):
                self.wrappers[name] = functions.wrap(
                    raw, name, mine, ctype, release, self.switch
                )
            else:
                self.others[name] = raw

    def _function(self, name: str) -> tuple[Any, Any]:
        """Return a function and its type; None twice for what is none."""
        try:
            raw = getattr(self.lib, name)
            ctype = self.ffi.typeof(raw)
        except Exception:  # a constant, or a symbol that is missing
            return None, None
        if ctype.kind != "function":
            return None, None
        if name in self._variables:
            return Late(self.lib, name), ctype
        if isinstance(raw, ledger._CData) and not self._is_constant(name):
            return None, None
        return raw, ctype

    def _is_variable(self, name: str) -> bool:
        """Return whether it is a variable that points to a function."""
        try:
            value = getattr(self.lib, name)
            is_function = self.ffi.typeof(value).kind == "function"
        except Exception:
            return False
        return (
            is_function
            and isinstance(value, ledger._CData)
            and not self._is_constant(name)
        )

    def _is_constant(self, name: str) -> bool:
        """Return whether a function pointer is a function, no variable."""
        try:
            there = self.ffi.typeof(self.ffi.addressof(self.lib, name))
        except Exception:
            return True
        return bool(there.kind == "function")

    def _fitting(
        self, name: str, words: tuple[Word, ...], ctype: Any
    ) -> tuple[Word, ...]:
        """Return the words that say something; a wildcard may not fit."""
        kept = [one for one in words if not isinstance(one, Borrowed)]
        if self.spec.is_exact(name):
            return tuple(kept)
        fitting = []
        for word in kept:
            try:
                functions.check(name, word, ctype)
            except SpecError:
                continue
            fitting.append(word)
        return tuple(fitting)

    def _release(
        self,
        name: str,
        words: tuple[Word, ...],
        ctype: Any,
        freed: set[str] | None,
    ) -> Release | None:
        found = releases(name, words)
        if found is not None:
            arg, any_type, ok = found
            arg = arg or 0
            return Release(name, arg, any_type, ok, _is_box(ctype, arg))
        if freed is None:
            return None
        pointers = [
            arg for arg, one in enumerate(ctype.args) if one.kind == "pointer"
        ]
        fitting = [arg for arg in pointers if ctype.args[arg].cname in freed]
        for arg in fitting or pointers:
            return Release(name, arg, is_box=_is_box(ctype, arg))
        return None

    # --- for ffi ---------------------------------------------------------
    def name_of(self, function: Any) -> str | None:
        """Return the name of a function of the library, if it is one.

        Args:
            function: a wrapper, a raw function or a pointer to a function.
        """
        name = getattr(function, "__name__", "")
        if type(function) is Wrapper and self.wrappers.get(name) is function:
            return str(name)
        raw = unwrapped(function)
        found = self._names_of_raw.get(id(raw))
        if found is not None or not isinstance(raw, ledger._CData):
            return found
        key = ledger.key_of(raw)
        for name in self._variables:  # they may point elsewhere now
            if key and ledger.key_of(getattr(self.lib, name)) == key:
                return name
        if self._addresses is None:
            self._addresses = self._read_addresses()
        return self._addresses.get(key)

    def _read_addresses(self) -> dict[int, str]:
        found = {}
        for name in self.wrappers.keys() - self._variables:
            try:
                pointer = self.ffi.addressof(self.lib, name)
            except Exception:  # some functions have no address
                continue
            found[ledger.key_of(pointer)] = name
        return found

    def destructor(
        self, function: Any, pointer: Any = None
    ) -> tuple[str, Function] | None:
        """Return the name and the destructor for ``ffi.gc`` of a function.

        None if it is no function of the library. One that is wrong for the
        pointer tells at its call where it was given.
        """
        name = self.name_of(function)
        if name is None:
            return None
        raw = unwrapped(function)
        release = self.release_of(name)
        if pointer is not None and release.is_wrong_for(pointer):
            at = functions.caller()
            return name, functions.destructor(raw, release, at)
        made = self._destructors.get(name)
        if made is None or unwrapped(made) is not raw:
            made = functions.destructor(raw, release)
            self._destructors[name] = made
        return name, made

    def note_destructor(
        self, function: Any, name: str, destroy: Function
    ) -> None:
        """Let C callables find the destructor for a wrapper."""
        is_late = type(getattr(function, _RAW, None)) is Late
        is_shared = self._destructors.get(name) is destroy
        if type(function) is Wrapper and is_shared and not is_late:
            self.fast_destructors[function] = destroy

    def release_of(self, name: str) -> Release:
        """Return what a function releases that is used as a destructor."""
        return self.releases.get(name) or Release(name, 0)


def _named(words: dict[str, tuple[Word, ...]]) -> set[str]:
    """Return the functions with a word, and those that words name."""
    found = set(words)
    for several in words.values():
        for word in several:
            found.update(getattr(word, "free", ()))
    return found


def _add_types(
    freeing: dict[str, set[str]], words: tuple[Word, ...], ctype: Any
) -> None:
    """Add the types of what the words make to each function that frees it."""
    for word in words:
        made = ctype.result
        if isinstance(word, (Out, Incref)):
            made = ctype.args[word.arg]
        types = {made.cname}
        if isinstance(word, Out) and made.item.kind == "pointer":
            types.add(made.item.cname)
        for free in getattr(word, "free", ()):
            freeing.setdefault(free, set()).update(types)


def _is_box(ctype: Any, arg: int) -> bool:
    """Return whether an argument is a pointer to a pointer."""
    if arg >= len(ctype.args) or ctype.args[arg].kind != "pointer":
        return False
    return bool(ctype.args[arg].item.kind == "pointer")


def _takes_pointer(ctype: Any) -> bool:
    return any(one.kind == "pointer" for one in ctype.args)


def _takes_functions(ctype: Any) -> bool:
    return any(one.kind == "function" for one in ctype.args)


def instrument(
    ffi: Any, lib: Any, spec: Any, *, strict: bool = True
) -> tuple[Any, Any]:
    """Return an ffi and a lib that record the objects of a library.

    They are used in place of the given ones. While tracking is on, what the
    functions give and take is recorded, as are ``ffi.new``,
    ``ffi.new_allocator``, ``ffi.gc`` and ``ffi.new_handle``: with C type,
    Python line, and what must release it. Everything else works as before.

    Args:
        ffi, lib: of a module that cffi compiled, or of ``ffi.dlopen``.
        spec: a ``Spec``, a mapping for one, or the path of a TOML file.
        strict: raise SpecError for a function that the library does not have.

    A function that is called as the destructor of a type which needs another
    one is a misuse: MismatchedFreeError, as ``enable(misuse=...)`` says. In
    ``ffi.gc`` it is counted, and shown by ``LeakTracker.misuses()``.

    Returns: the ffi and the lib. Calls from C are not seen, and calls
        through function pointers are not.

    Raises: SpecError if the specification does not fit the library.

    Cost: functions without a word cost what they cost before. For the others
        see ``benchmarks/handles_cost.py``.

    >>> from cffi import FFI
    >>> from ffi_leak_tracker import LeakTracker
    >>> from ffi_leak_tracker.handles import instrument
    >>> ffi = FFI()
    >>> ffi.cdef("void *malloc(size_t); void free(void *);")
    >>> ffi, lib = instrument(ffi, ffi.dlopen(None), {"malloc": "free"})
    >>> with LeakTracker.scope() as scope:
    ...     memory = lib.malloc(10)
    >>> [(one.type, one.kind, one.release) for one in scope.snapshot()]
    [('void', 'malloc', 'free')]
    >>> lib.free(memory)
    >>> scope.has_leaks
    False
    """
    ffi, lib = interface_of(ffi), library_of(lib)
    plan = Plan(ffi, lib, as_spec(spec), strict, Switch())
    return proxies(plan)


def library_of_plan(plan: Plan) -> Library:
    """Return the lib with the wrappers of a plan."""
    return Library(plan.lib, {**plan.others, **plan.wrappers})


def proxies(
    plan: Plan, opened: Callable[[Any], Library] | None = None
) -> tuple[Interface, Library]:
    """Return the ffi and the lib of a plan.

    Args:
        opened: returns the lib for one that the ffi opens. None: it has the
            specification of the plan.
    """

    def open_alike(lib: Any) -> Library:
        other = Plan(plan.ffi, lib, plan.spec, False, plan.switch)
        return library_of_plan(other)

    return Interface(plan, opened or open_alike), library_of_plan(plan)
