"""Wrappers of single C functions, from the words of a specification."""

from __future__ import annotations

import types
from functools import partial

from ffi_leak_tracker._handles import ledger
from ffi_leak_tracker._handles.ledger import is_enabled, live
from ffi_leak_tracker._handles.vocabulary import (
    Chain,
    Incref,
    Out,
    Owned,
    SpecError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ffi_leak_tracker._handles.vocabulary import Word

    Function: TypeAlias = Callable[..., Any]
    After: TypeAlias = Callable[[tuple[Any, ...], Any, Any], None]

RAW = "_ffi_leak_tracker_raw"


class Switch:
    """Whether wrappers record: not any more after an attachment ended."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = True


# --- wrapped functions in the place of raw ones --------------------------
def unwrapped(value: Any) -> Any:
    """Return the raw function of a wrapper; other values are returned."""
    while type(value) is types.FunctionType and RAW in value.__dict__:
        value = value.__dict__[RAW]
    return value


def _deeply(value: Any) -> Any:
    kind = type(value)
    if kind is types.FunctionType:
        return unwrapped(value)
    if kind is list or kind is tuple:
        return kind([_deeply(one) for one in value])
    if kind is dict:
        return {name: _deeply(one) for name, one in value.items()}
    return value


def call_again(raw: Function, args: tuple[Any, ...], error: Exception) -> Any:
    """Call a function with raw functions in place of wrapped ones.

    cffi refused the arguments, so C was not called. Raises the error if no
    argument is a wrapper.
    """
    others = _deeply(args)
    if others == args:
        raise error
    return raw(*others)


def _freeing(
    raw: Function, args: tuple[Any, ...], dropped: ledger.Dropped | None
) -> Any:
    """Call a function that frees what was dropped.

    If the arguments are refused, C is not called, and the object lives.
    """
    __tracebackhide__ = True
    try:
        try:
            return raw(*args)
        except TypeError as error:
            return call_again(raw, args, error)
    except Exception as error:
        if dropped is not None and not _is_of_result(error):
            dropped.restore()
        raise


def _is_of_result(error: Exception) -> bool:
    """Return whether an error is about a result; others are about arguments.

    cffi refuses one result only: a ``_Bool`` that is neither 0 nor 1.
    """
    text = "got a _Bool of value "
    return isinstance(error, ValueError) and str(error).startswith(text)


def _do_all(steps: list[Callable[[], Any]]) -> None:
    """Take all steps; raise the first of their errors afterwards."""
    __tracebackhide__ = True
    first = None
    for step in steps:
        try:
            step()
        except Exception as error:
            first = first or error
    if first is not None:
        raise first


def adopt(wrapper: Function, raw: Function, name: str) -> Function:
    """Give a wrapper the name and the text of the raw function."""
    wrapper.__name__ = wrapper.__qualname__ = name
    wrapper.__doc__ = getattr(raw, "__doc__", None)
    wrapper.__dict__[RAW] = raw
    return wrapper


def late(lib: Any, name: str) -> Function:
    """Return a function that calls what a variable of a library points to."""

    def call(*args: Any) -> Any:
        return getattr(lib, name)(*args)

    return adopt(call, getattr(lib, name), name)


# --- before a call --------------------------------------------------------
class Release:
    """What a function does that releases the object of an argument."""

    __slots__ = ("any_type", "arg", "name", "ok")

    def __init__(
        self, name: str, arg: int, any_type: bool = False, ok: Any = None
    ) -> None:
        self.name = name
        self.arg = arg
        self.any_type = any_type  # it may take over objects of others
        self.ok = ok

    def released(self, args: tuple[Any, ...]) -> tuple[int, Any] | None:
        """Return the key and the pointer of a live handle, or None."""
        try:
            pointer = args[self.arg]
        except IndexError:
            return None
        key = ledger.key_of(pointer)
        if not key:
            return None
        handle = ledger.known(key)
        if handle is not None and not handle.is_owned_by_cdata:
            return key, pointer
        inside = ledger.inside(pointer)
        if inside is None:
            return None
        found = ledger.known(inside[0])
        if found is None or found.is_owned_by_cdata:
            return None
        if inside[1] is pointer and not ledger.is_of_type(found, pointer):
            return None  # a structure that only points to another handle
        return inside

    def check(self, args: tuple[Any, ...], in_gc: bool) -> int:
        """Tell of a wrong destructor; return the key, or 0."""
        __tracebackhide__ = True
        found = self.released(args)
        if found is None:
            return 0
        key, pointer = found
        handle = live.get(key)
        if (
            handle is not None
            and not self.any_type
            and ledger.is_wrong(handle, self.name, pointer)
        ):
            ledger.wrong_destructor(key, handle, self.name, in_gc)
        return key


# --- wrappers ---------------------------------------------------------------
def plain(raw: Function, name: str) -> Function:
    """Return a wrapper that only allows wrapped functions as arguments."""

    def call(*args: Any) -> Any:
        try:
            return raw(*args)
        except TypeError as error:
            return call_again(raw, args, error)

    return adopt(call, raw, name)


def owned(
    raw: Function, name: str, free: tuple[str, ...], switch: Switch
) -> Function:
    """Return a wrapper that records the result."""

    def call(*args: Any) -> Any:
        try:
            result = raw(*args)
        except TypeError as error:
            result = call_again(raw, args, error)
        if is_enabled() and switch.on:
            ledger.made(result, name, free)
        return result

    return adopt(call, raw, name)


def releasing(raw: Function, release: Release) -> Function:
    """Return a wrapper that removes the record of an argument."""
    name, check, ok = release.name, release.check, release.ok

    def call(*args: Any) -> Any:
        __tracebackhide__ = True
        if ledger.is_empty():
            try:
                return raw(*args)
            except TypeError as error:
                return call_again(raw, args, error)
        key = check(args, False)
        dropped = None
        if key and ok is None:  # before the key is used again
            dropped = ledger.drop(key)
        result = _freeing(raw, args, dropped)
        if key and ok is not None and ok(result):
            ledger.drop(key)
        return result

    return adopt(call, raw, name)


def destructor(raw: Function, release: Release) -> Function:
    """Return a wrapper for ``ffi.gc``, which raises nothing of its own."""
    check, ok = release.check, release.ok

    def call(*args: Any) -> Any:
        dropped, key = None, 0
        if not ledger.is_empty():
            try:
                key = check(args, True)
                if key and ok is None:
                    dropped = ledger.drop(key)
            except Exception:
                ledger.errors_in_destructors += 1
        result = _freeing(raw, args, dropped)
        if key and ok is not None:
            try:
                if ok(result):
                    ledger.drop(key)
            except Exception:
                ledger.errors_in_destructors += 1
        return result

    return adopt(call, raw, release.name)


def general(
    raw: Function,
    name: str,
    befores: list[Callable[[tuple[Any, ...]], Any]],
    afters: list[After],
    release: Release | None,
    switch: Switch,
) -> Function:
    """Return a wrapper of a function with several words."""

    def call(*args: Any) -> Any:
        __tracebackhide__ = True
        key = 0
        if release is not None and not ledger.is_empty():
            key = release.check(args, False)
        is_on = is_enabled() and switch.on
        noted = [before(args) for before in befores] if is_on else ()
        ok = release.ok if release is not None else None
        dropped = ledger.drop(key) if key and ok is None else None
        result = _freeing(raw, args, dropped)
        steps: list[Callable[[], Any]] = []
        if key and ok is not None:
            steps.append(lambda: ok(result) and ledger.drop(key))
        for after, before in zip(afters, noted, strict=False):
            steps.append(partial(after, args, result, before))
        _do_all(steps)
        return result

    return adopt(call, raw, name)


# --- the words with an argument ----------------------------------------------
def _nothing(args: tuple[Any, ...]) -> None:
    return None


def result_is_owned(name: str, word: Owned) -> tuple[Any, After]:
    """Return what to do before and after a call with ``Owned``."""

    def after(args: tuple[Any, ...], result: Any, before: Any) -> None:
        ledger.made(result, name, word.free)

    return _nothing, after


def argument_is_out(name: str, word: Out, ctype: Any) -> tuple[Any, After]:
    """Return what to do before and after a call with ``Out``."""
    arg, free, ok = word.arg, word.free, word.succeeded
    is_box = ctype.item.kind == "pointer"

    def before(args: tuple[Any, ...]) -> int:
        try:
            box = args[arg]
            return ledger.key_of(box[0]) if is_box and box else 0
        except (IndexError, TypeError, RuntimeError):
            return 0

    def after(args: tuple[Any, ...], result: Any, before: int) -> None:
        if ok is not None:
            if not ok(result):
                return
        elif isinstance(result, int) and result < 0:
            return
        box = args[arg]
        if not isinstance(box, ledger._CData) or not box:
            return
        if not is_box:
            ledger.made_inside(box, name, free)
            return
        found = box[0]
        key = ledger.key_of(found)
        if ok is None and key == before and key in live:
            return  # nothing was written
        ledger.made(found, name, free)

    return before, after


def argument_is_chained(name: str, word: Chain) -> tuple[Any, After]:
    """Return what to do before and after a call with ``Chain``."""
    arg, free = word.arg, word.free

    def after(args: tuple[Any, ...], result: Any, before: Any) -> None:
        old = ledger.key_of(args[arg])
        new = ledger.key_of(result)
        if not new or (new == old and old in live):
            return
        if old:
            ledger.forget(old)
        ledger.made(result, name, free)

    return _nothing, after


def argument_is_referenced(name: str, word: Incref) -> tuple[Any, After]:
    """Return what to do before and after a call with ``Incref``."""
    arg, free = word.arg, word.free

    def after(args: tuple[Any, ...], result: Any, before: Any) -> None:
        key = ledger.key_of(args[arg])
        handle = live.get(key)
        if handle is not None:
            handle.count += 1
        elif key:
            ledger.made(args[arg], name, free)

    return _nothing, after


# --- from the words to a wrapper ----------------------------------------------
def wrap(
    raw: Function,
    name: str,
    words: tuple[Word, ...],
    ctype: Any,
    release: Release | None,
    switch: Switch,
) -> Function:
    """Return the wrapper of a function.

    Args:
        words: what it gives; they fit ``ctype``.
        release: what it releases; None if nothing.

    Raises: SpecError if a word does not fit the type of the function.
    """
    befores: list[Any] = []
    afters: list[After] = []
    for word in words:
        pair = _pair(name, word, ctype)
        if pair is not None:
            befores.append(pair[0])
            afters.append(pair[1])
    if not afters:
        return plain(raw, name) if release is None else releasing(raw, release)
    if release is None and len(words) == 1 and isinstance(words[0], Owned):
        return owned(raw, name, words[0].free, switch)
    return general(raw, name, befores, afters, release, switch)


def _pair(name: str, word: Word, ctype: Any) -> tuple[Any, After] | None:
    check(name, word, ctype)
    if isinstance(word, Owned):
        return result_is_owned(name, word)
    if isinstance(word, Out):
        return argument_is_out(name, word, ctype.args[word.arg])
    if isinstance(word, Chain):
        return argument_is_chained(name, word)
    if isinstance(word, Incref):
        return argument_is_referenced(name, word)
    return None


def check(name: str, word: Word, ctype: Any) -> None:
    """Raise SpecError if a word does not fit the type of the function."""
    arg = getattr(word, "arg", None)
    if arg is not None:
        if arg >= len(ctype.args):
            raise SpecError(
                f"{name}: {word!r}, but it takes "
                f"{len(ctype.args)} arguments: {ctype.cname}"
            )
        if ctype.args[arg].kind != "pointer":
            raise SpecError(
                f"{name}: {word!r}, but argument {arg} is no pointer: "
                f"{ctype.args[arg].cname}"
            )
    is_result = isinstance(word, (Owned, Chain))
    if is_result and ctype.result.kind != "pointer":
        raise SpecError(
            f"{name}: {word!r}, but its result is no pointer: "
            f"{ctype.result.cname}"
        )
