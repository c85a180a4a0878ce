"""Wrappers of single C functions, from the words of a specification."""

from __future__ import annotations

import weakref
from functools import partial

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._handles import ledger
from ffi_leak_tracker._handles.ledger import is_enabled, live
from ffi_leak_tracker._handles.vocabulary import (
    Chain,
    Incref,
    Out,
    Owned,
    SpecError,
)
from ffi_leak_tracker._handles.wrapper import (
    CHAINS,
    FREES,
    MAKES,
    OUT,
    REFERS,
    SLOW,
    Wrapper,
    deeply,
    has_wrapper,
)
from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ffi_leak_tracker._handles.vocabulary import Word

    Function: TypeAlias = Callable[..., Any]
    After: TypeAlias = Callable[[tuple[Any, ...], Any, Any], None]
    Keep: TypeAlias = Callable[[tuple[Any, ...], Any], None]


class Switch:
    """Whether wrappers record: not any more after an attachment ended."""

    __slots__ = ("_makers", "on")

    def __init__(self) -> None:
        self.on = True
        self._makers: dict[int, weakref.ref[Any]] = {}

    def add(self, maker: Any) -> None:
        """Switch off a wrapper with the others."""
        key = id(maker)

        def ended(reference: weakref.ref[Any]) -> None:
            if self._makers.get(key) is reference:
                del self._makers[key]

        self._makers[key] = weakref.ref(maker, ended)
        maker._ffi_leak_tracker_making = self.on

    def off(self) -> None:
        """End all records."""
        self.on = False
        for reference in list(self._makers.values()):
            maker = reference()
            if maker is not None:
                maker._ffi_leak_tracker_making = False


# --- wrapped functions in the place of raw ones --------------------------
def call_again(raw: Function, args: tuple[Any, ...], error: Exception) -> Any:
    """Call a function with raw functions in place of wrapped ones.

    cffi refused the arguments, so C was not called. Raises the error if no
    argument is a wrapper.
    """
    if not has_wrapper(args):
        raise error
    return raw(*deeply(args))


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
        if dropped is not None and not is_of_result(error):
            dropped.restore()
        raise


def unless(ok: Any, result: Any, dropped: ledger.Dropped | None) -> None:
    """Give an object back that the function did not take after all.

    It was removed before the call: afterwards another thread may have another
    object at its address.
    """
    is_good = False
    try:
        is_good = dropped is None or ok(result)
    finally:
        if dropped is not None and not is_good:
            dropped.restore()


def is_of_result(error: Exception) -> bool:
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


def _wrapper(
    raw: Function,
    slow: Function,
    name: str,
    *,
    learn: Any = None,
    mode: int = SLOW,
    making: bool = False,
    freeing: bool = False,
    arg: int = 0,
    ok: Any = None,
) -> Function:
    """Return a function for the lib, with the text of the raw function.

    Args:
        slow: does all of it. C callables call it for what is unusual.
        making, freeing: whether it may record or remove something.
    """
    doc = getattr(raw, "__doc__", None)
    made: Function = Wrapper(
        raw, slow, name, doc, learn, mode, making, freeing, arg, ok
    )
    return made


# --- before a call --------------------------------------------------------
class Release:
    """What a function does that releases the object of an argument."""

    __slots__ = ("any_type", "arg", "is_box", "name", "ok")

    def __init__(
        self,
        name: str,
        arg: int,
        any_type: bool = False,
        ok: Any = None,
        is_box: bool = False,
    ) -> None:
        self.name = name
        self.arg = arg
        self.any_type = any_type  # it may take over objects of others
        self.ok = ok
        self.is_box = is_box  # for T **: the object is behind it

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

    def may_free(self, handle: ledger.Handle) -> bool:
        """Return whether each such handle may be released without a word."""
        if handle.is_owned_by_cdata or handle.layer != core.HANDLE:
            return False
        is_named = not handle.free or self.name in handle.free
        return self.any_type or is_named

    def is_wrong_for(self, pointer: Any) -> bool:
        """Return whether the object of a pointer needs another function."""
        handle = live.get(ledger.key_of(pointer))
        return (
            handle is not None
            and not handle.is_owned_by_cdata
            and not self.any_type
            and ledger.is_wrong(handle, self.name, pointer)
        )

    def check(
        self, args: tuple[Any, ...], in_gc: bool, given_at: str = ""
    ) -> int:
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
            ledger.wrong_destructor(key, handle, self.name, in_gc, given_at)
        return key


if core.callables is not None:
    core.callables.set_up_wrappers(ledger.live, ledger.counts, is_of_result)


def caller() -> str:
    """Return file and line of the code that called the package, or ""."""
    frames = core.frames_here()
    if not frames:
        return ""
    return printable(f"{frames[0].filename}:{frames[0].lineno}")


# --- wrappers ---------------------------------------------------------------
def plain(raw: Function, name: str) -> Function:
    """Return a wrapper that only allows wrapped functions as arguments."""

    def call(*args: Any) -> Any:
        try:
            return raw(*args)
        except TypeError as error:
            return call_again(raw, args, error)

    return _wrapper(raw, call, name)


def owned(
    raw: Function, name: str, free: tuple[str, ...], ctype: Any, switch: Switch
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

    learn = _learner(name, free, ctype.result)
    made = _wrapper(raw, call, name, learn=learn, mode=MAKES, making=True)
    switch.add(made)
    return made


def _learner(
    name: str, free: tuple[str, ...], pointer: Any
) -> Callable[[], tuple[ledger.Handle, int, int]]:
    """Return what tells C callables how objects are recorded."""

    def learn() -> tuple[ledger.Handle, int, int]:
        type, size = ledger.target_of_type(pointer)
        number = ledger.number_of(type, name, free)
        return ledger.handle_of(type, name, free), number, size

    return learn


def releasing(raw: Function, release: Release) -> Function:
    """Return a wrapper that removes the record of an argument."""
    check, ok = release.check, release.ok

    def call(*args: Any) -> Any:
        __tracebackhide__ = True
        if ledger.is_empty():
            try:
                return raw(*args)
            except TypeError as error:
                return call_again(raw, args, error)
        key = check(args, False)
        dropped = ledger.drop(key) if key else None
        result = _freeing(raw, args, dropped)
        if ok is not None:
            unless(ok, result, dropped)
        return result

    return _freer(raw, call, release)


def destructor(raw: Function, release: Release, given_at: str = "") -> Function:
    """Return a wrapper for ``ffi.gc``, which raises nothing of its own.

    Args:
        given_at: where ``ffi.gc`` was called, for a destructor that is wrong.
    """
    check, ok = release.check, release.ok

    def call(*args: Any) -> Any:
        dropped = None
        if not ledger.is_empty():
            try:
                key = check(args, True, given_at)
                dropped = ledger.drop(key) if key else None
            except Exception:
                ledger.errors_in_destructors += 1
        result = _freeing(raw, args, dropped)
        if ok is not None:
            try:
                unless(ok, result, dropped)
            except Exception:
                ledger.errors_in_destructors += 1
        return result

    return _freer(raw, call, release)


def _freer(raw: Function, call: Function, release: Release) -> Function:
    return _wrapper(
        raw,
        call,
        release.name,
        learn=release.may_free,
        mode=FREES if release.ok is None else SLOW,
        freeing=True,
        arg=release.arg,
        ok=release.is_box,
    )


def general(
    raw: Function,
    name: str,
    steps_of: list[Steps],
    release: Release | None,
    switch: Switch,
    **fast: Any,
) -> Function:
    """Return a wrapper of a function with several words.

    Args:
        fast: ``mode``, ``learn``, ``arg`` and ``ok`` for C callables.
    """
    keeps = [one.keep for one in steps_of if one.keep is not None]

    def call(*args: Any) -> Any:
        __tracebackhide__ = True
        key = 0
        if release is not None and not ledger.is_empty():
            key = release.check(args, False)
        is_on = is_enabled() and switch.on
        noted = [one.before(args) for one in steps_of] if is_on else ()
        ok = release.ok if release is not None else None
        dropped = ledger.drop(key) if key else None
        result = _freeing(raw, args, dropped)
        todo: list[Callable[[], Any]] = []
        if ok is not None:
            todo.append(partial(unless, ok, result, dropped))
        for one, before in zip(steps_of, noted, strict=False):
            todo.append(partial(one.after, args, result, before))
        if not is_on:
            todo.extend(partial(keep, args, result) for keep in keeps)
        _do_all(todo)
        return result

    frees = release is not None or bool(keeps)
    made = _wrapper(raw, call, name, making=True, freeing=frees, **fast)
    switch.add(made)
    return made


# --- the words with an argument ----------------------------------------------
class Steps:
    """What is done before and after a call, for one word.

    Args:
        keep: what is done after a call while nothing new is recorded, for
            objects that are recorded already; None for nothing.
    """

    __slots__ = ("after", "before", "keep")

    def __init__(
        self,
        before: Callable[[tuple[Any, ...]], Any],
        after: After,
        keep: Keep | None = None,
    ) -> None:
        self.before = before
        self.after = after
        self.keep = keep


def _nothing(args: tuple[Any, ...]) -> None:
    return None


def result_is_owned(name: str, word: Owned) -> Steps:
    """Return what to do for ``Owned``."""

    def after(args: tuple[Any, ...], result: Any, before: Any) -> None:
        ledger.made(result, name, word.free)

    return Steps(_nothing, after)


def _is_pointer(cdata: Any) -> bool:
    return ledger._typeof(cdata).kind in ("pointer", "array")


def argument_is_out(name: str, word: Out, ctype: Any) -> Steps:
    """Return what to do for ``Out``."""
    arg, free, ok = word.arg, word.free, word.succeeded
    is_box = ctype.item.kind == "pointer"
    cast = ledger._cast

    def before(args: tuple[Any, ...]) -> int:
        try:
            box = args[arg]
            is_there = isinstance(box, ledger._CData) and bool(box)
            if is_box and is_there and _is_pointer(box):
                return ledger.key_of(cast(ctype, box)[0])
            return 0
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
        if not _is_pointer(box):
            return
        if not is_box:
            ledger.made_inside(box, name, free)
            return
        found = cast(ctype, box)[0]  # cffi takes void * as well
        key = ledger.key_of(found)
        if ok is None and key == before and ledger.sequence_at(key):
            return  # nothing was written
        ledger.made(found, name, free)

    return Steps(before, after)


def argument_is_chained(name: str, word: Chain) -> Steps:
    """Return what to do for ``Chain``."""
    arg, free = word.arg, word.free

    def before(args: tuple[Any, ...]) -> int:
        try:
            return ledger.sequence_at(ledger.key_of(args[arg]))
        except IndexError:  # cffi refuses the call
            return 0

    def after(args: tuple[Any, ...], result: Any, before: int) -> None:
        old = ledger.key_of(args[arg])
        new = ledger.key_of(result)
        if not new or (new == old and ledger.sequence_at(old)):
            return
        if before and ledger.sequence_at(old) == before:
            ledger.forget(old)  # not the object of another thread
        ledger.made(result, name, free)

    def keep(args: tuple[Any, ...], result: Any) -> None:
        old = ledger.key_of(args[arg])
        new = ledger.key_of(result)
        if new and new != old:
            ledger.move(old, new)

    return Steps(before, after, keep)


def referred(name: str, free: tuple[str, ...]) -> Callable[[Any], None]:
    """Return what adds a reference to the object of a pointer."""

    def refer(pointer: Any) -> None:
        key = ledger.key_of(pointer)
        if ledger.known(key) is not None:
            ledger.refer(key)
        elif key:
            ledger.made(pointer, name, free)

    return refer


def argument_is_referenced(name: str, word: Incref) -> Steps:
    """Return what to do for ``Incref``."""
    arg, refer = word.arg, referred(name, word.free)

    def after(args: tuple[Any, ...], result: Any, before: Any) -> None:
        refer(args[arg])

    def keep(args: tuple[Any, ...], result: Any) -> None:
        key = ledger.key_of(args[arg])
        if ledger.known(key) is not None:
            ledger.refer(key)

    return Steps(_nothing, after, keep)


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
    found = [_steps(name, word, ctype) for word in words]
    steps = [one for one in found if one is not None]
    if not steps:
        return plain(raw, name) if release is None else releasing(raw, release)
    if release is None and len(words) == 1 and isinstance(words[0], Owned):
        return owned(raw, name, words[0].free, ctype, switch)
    if release is None and len(words) == 1:
        fast = _fast(name, words[0], ctype)
        return general(raw, name, steps, release, switch, **fast)
    return general(raw, name, steps, release, switch)


def _fast(name: str, word: Word, ctype: Any) -> dict[str, Any]:
    """Return what C callables are told of a word."""
    if isinstance(word, Out) and ctype.args[word.arg].item.kind == "pointer":
        learn = _learner(name, word.free, ctype.args[word.arg].item)
        ok = word.succeeded
        return {"mode": OUT, "learn": learn, "arg": word.arg, "ok": ok}
    if isinstance(word, Chain):
        learn = _learner(name, word.free, ctype.result)
        return {"mode": CHAINS, "learn": learn, "arg": word.arg}
    if isinstance(word, Incref):
        refer = referred(name, word.free)
        return {"mode": REFERS, "learn": refer, "arg": word.arg}
    return {}


def _steps(name: str, word: Word, ctype: Any) -> Steps | None:
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
