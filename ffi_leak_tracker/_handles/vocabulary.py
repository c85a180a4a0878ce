"""The words that say which function gives and takes ownership of an object."""

from __future__ import annotations

from ffi_leak_tracker._records.exceptions import LeakTrackerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, TypeAlias

    Ok: TypeAlias = Callable[[Any], bool] | str | None
    Free: TypeAlias = str | tuple[str, ...] | list[str] | None


class SpecError(LeakTrackerError, ValueError):
    """A specification of handles is wrong; the message names the function."""

    __module__ = "ffi_leak_tracker.handles"


def _arg(word: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise SpecError(f"{word}: the argument must be 0, 1, ..., not {value!r}")


def _names(word: str, free: object) -> tuple[str, ...]:
    found = (free,) if isinstance(free, str) else free or ()
    if isinstance(found, (tuple, list)) and all(
        isinstance(one, str) and one for one in found
    ):
        return tuple(found)
    raise SpecError(
        f"{word}: free must be the name of a function, names or None, "
        f"not {free!r}"
    )


_OPERATORS: dict[str, Callable[[Any, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


def test_of(word: str, ok: Any) -> Callable[[Any], bool] | None:
    """Return the test of a result; it may be written as ``"== 0"``.

    Raises: SpecError for what is no test.
    """
    if ok is None or callable(ok):
        return ok  # type: ignore[no-any-return]
    if isinstance(ok, str):
        operator, _, number = ok.strip().partition(" ")
        compare = _OPERATORS.get(operator)
        try:
            value = int(number, 0)
        except ValueError:
            compare = None
        if compare is not None:
            return lambda result: compare(result, value)
    raise SpecError(
        f"{word}: ok must be a callable or a text such as '== 0', not {ok!r}"
    )


class Word:
    """What one function does with the ownership of an object."""

    __slots__ = ()
    #: The fields in their order, as arguments and as keys of a TOML file.
    fields: ClassVar[tuple[str, ...]] = ()

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.fields)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        parts = []
        for name, value in zip(self.fields, self._values(), strict=True):
            if name == "ok" and value is None:
                continue
            shown = value
            if name == "free":
                shown = value[0] if len(value) == 1 else value or None
            parts.append(repr(shown) if name == "arg" else f"{name}={shown!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


_ARG = "position of the argument, from 0"
_FREE = "names of the functions that release the object"
_OK = "the condition of success, as it was given, or None"
_TEST = "a callable for the condition, or None"


class Owned(Word):
    """The result is a new object, and the caller owns it.

    Args:
        free: the function that releases it, or a tuple of functions of which
            each may; None if the library has none.

    >>> from ffi_leak_tracker.handles import Owned
    >>> Owned("xmlFreeDoc")
    Owned(free='xmlFreeDoc')
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {"free": _FREE}
    fields = ("free",)

    def __init__(self, free: Free = None) -> None:
        self.free = _names("Owned", free)


class Out(Word):
    """A new object is written where an argument points to.

    For a parameter ``T **`` the object is the pointer that was written. For
    ``T *`` of a structure that the caller provides, the object is what the
    function put into the structure.

    Args:
        arg: position of the argument, from 0.
        free: as for ``Owned``.
        ok: whether the call succeeded, from its result: a callable, or a text
            such as ``"== 0"``. None: the result is no negative number.

    >>> from ffi_leak_tracker.handles import Out
    >>> Out(0, free="git_config_free", ok="== 0").free
    ('git_config_free',)
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {"arg": _ARG, "free": _FREE, "ok": _OK, "succeeded": _TEST}
    fields = ("arg", "free", "ok")

    def __init__(self, arg: int, free: Free = None, ok: Ok = None) -> None:
        self.arg = _arg("Out", arg)
        self.free = _names("Out", free)
        self.ok = ok
        self.succeeded = test_of("Out", ok)


class Chain(Word):
    """The result replaces an argument, as of ``realloc`` or of an append.

    NULL as the argument makes a new object. NULL as the result is a failure,
    and the argument stays.

    Args:
        arg: position of the argument, from 0.
        free: as for ``Owned``.

    >>> from ffi_leak_tracker.handles import Chain
    >>> Chain(0, free="curl_slist_free_all")
    Chain(0, free='curl_slist_free_all')
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {"arg": _ARG, "free": _FREE}
    fields = ("arg", "free")

    def __init__(self, arg: int, free: Free = None) -> None:
        self.arg = _arg("Chain", arg)
        self.free = _names("Chain", free)


class Consumes(Word):
    """The function takes over an argument; the caller owns it no longer.

    Args:
        arg: position of the argument, from 0.
        ok: None if it always takes it over; else as for ``Out``.

    >>> from ffi_leak_tracker.handles import Consumes
    >>> Consumes(1)
    Consumes(1)
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {"arg": _ARG, "ok": _OK, "succeeded": _TEST}
    fields = ("arg", "ok")

    def __init__(self, arg: int = 0, ok: Ok = None) -> None:
        self.arg = _arg("Consumes", arg)
        self.ok = ok
        self.succeeded = test_of("Consumes", ok)


class Borrowed(Word):
    """The function gives nothing away, although a wildcard matches it.

    >>> from ffi_leak_tracker.handles import Borrowed
    >>> Borrowed()
    Borrowed()
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = ()


class Incref(Word):
    """The function adds a reference to an argument.

    An object with references is live until each is dropped by ``Decref`` or
    by a function that frees it. An object that is not recorded is recorded
    with one reference, since the caller owns that from now on.

    Args:
        arg: position of the argument, from 0.
        free: what drops the reference, for reports.

    >>> from ffi_leak_tracker.handles import Incref
    >>> Incref(0, free="g_object_unref")
    Incref(0, free='g_object_unref')
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {"arg": _ARG, "free": _FREE}
    fields = ("arg", "free")

    def __init__(self, arg: int = 0, free: Free = None) -> None:
        self.arg = _arg("Incref", arg)
        self.free = _names("Incref", free)


class Decref(Word):
    """The function drops a reference to an argument.

    Args:
        arg: position of the argument, from 0.

    >>> from ffi_leak_tracker.handles import Decref
    >>> Decref(0)
    Decref(0)
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {"arg": _ARG}
    fields = ("arg",)

    def __init__(self, arg: int = 0) -> None:
        self.arg = _arg("Decref", arg)


_WORDS: dict[str, Callable[..., Word]] = {
    "out": Out,
    "chain": Chain,
    "consumes": Consumes,
    "incref": Incref,
    "decref": Decref,
}


def word_of(function: str, value: Any) -> Word:
    """Return the word for a value of a specification.

    A text is ``Owned`` of that function, None is ``Owned()``, False is
    ``Borrowed()``, and a dictionary is a table of a TOML file.

    Raises: SpecError, which names the function.
    """
    if isinstance(value, Word):
        return value
    if value is None or (isinstance(value, str) and value):
        return Owned(value)
    if value is False:
        return Borrowed()
    if isinstance(value, dict):
        try:
            return _word_of_table(dict(value))
        except (SpecError, TypeError) as error:
            raise SpecError(f"{function}: {error}") from None
    raise SpecError(
        f"{function}: expected the name of a function, None, False, a word "
        f"such as Owned(free=...), or a table, not {value!r}"
    )


def _word_of_table(table: dict[str, Any]) -> Word:
    """Return ``Out(0, ...)`` for ``{out = 0, ...}``, and so on."""
    named = [name for name in table if name in _WORDS]
    if len(named) > 1:
        raise SpecError(f"one of {' and '.join(named)} is too much")
    if named:
        return _WORDS[named[0]](table.pop(named[0]), **table)
    if table == {"borrowed": True}:
        return Borrowed()
    if table.keys() == {"free"}:
        free = table["free"]
        return Owned(None if free is False else free)
    raise SpecError(
        f"expected free, {', '.join(_WORDS)} or borrowed, not "
        f"{', '.join(table) or 'nothing'}"
    )
