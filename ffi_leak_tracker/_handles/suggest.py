"""``suggest``: a specification from the C types and names of functions."""

from __future__ import annotations

import re

from ffi_leak_tracker._handles.interface import interface_of
from ffi_leak_tracker._handles.library import library_of
from ffi_leak_tracker._handles.spec import Spec
from ffi_leak_tracker._handles.spec_files import to_toml
from ffi_leak_tracker._handles.vocabulary import (
    Chain,
    Consumes,
    Incref,
    Out,
    Owned,
    Word,
)
from ffi_leak_tracker._seam.core_api import ffi as own_ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CONFIDENCES = ("high", "medium", "low")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MAKES = _set(
    "new create init open dup copy read parse load alloc clone make malloc "
    "calloc realloc fork start begin compile decode encode render build "
    "construct from convert generate to"
)
_FREES_TEXT = (
    "free destroy delete unref release deref close dispose finalize cleanup "
    "deinit uninit dealloc fini term finish quit end drop clear"
)
#: The best first.
_FREES = {word: rank for rank, word in enumerate(_FREES_TEXT.split())}
#: The first word that more often ends a step than an object.
_WEAK = _FREES["term"]
_GETS = _set(
    "get first next last prev previous parent child root find lookup peek at "
    "current owner data userdata name type string strerror error message "
    "version default front back head tail iter item index value self ptr "
    "begin addr nth query nearest is has"
)
_REFERENCES = _set("ref reference retain addref incref")
_APPENDS = _set("append prepend add insert concat push cons")
_TAKES = _set("take adopt steal consume")
#: Types of memory, not of objects.
_BUFFERS = _set(
    "char void int uint8_t float double short long size_t int32_t uint32_t "
    "int16_t uint16_t _Bool wchar_t int64_t uint64_t int8_t"
) | {"unsigned char", "signed char", "unsigned int", "long long"}
#: Names of libc are one word: opendir, fclose.
_GLUED = re.compile(
    "(open|close|free|create|new|dup|alloc|init)(.+)"
    "|(.+)(open|close|free|dup|alloc|init|new)"
)


def words_of_name(name: str) -> list[str]:
    """Return the words of a C name, in lower case.

    >>> words_of_name("cpBodyNewStatic")
    ['cp', 'body', 'new', 'static']
    >>> words_of_name("ZSTD_createCCtx_advanced")
    ['zstd', 'create', 'c', 'ctx', 'advanced']
    """
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    spaced = re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", spaced)
    words = [word.rstrip("0123456789") for word in spaced.lower().split("_")]
    if len(words) == 1 and (glued := _GLUED.fullmatch(words[0])):
        words = [part for part in glued.groups() if part]
    return ["dup" if word.startswith("dup") else word for word in words if word]


class Suggestion:
    """One function, what it probably does, how sure that is, and why."""

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {
        "confidence": "high, medium or low",
        "name": "the function",
        "reason": "why",
        "word": "what it does, as in a specification",
    }

    def __init__(
        self, name: str, word: Word, confidence: str, reason: str
    ) -> None:
        self.name = name
        self.word = word
        self.confidence = confidence
        self.reason = reason

    def __repr__(self) -> str:
        return (
            f"{self.name!r}: {self.word!r},  # {self.confidence}: {self.reason}"
        )


class Suggestions:
    """What ``suggest`` found, in the order of the names.

    ``str()`` of it can be pasted into a program.
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = {"found": "the suggestions"}

    def __init__(self, found: list[Suggestion]) -> None:
        self.found = found

    def __iter__(self) -> Iterator[Suggestion]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def at_least(self, confidence: str) -> Suggestions:
        """Return those that are as sure as this: high, medium or low."""
        kept = CONFIDENCES[: CONFIDENCES.index(confidence) + 1]
        return Suggestions([o for o in self.found if o.confidence in kept])

    def spec(self, confidence: str = "medium") -> Spec:
        """Return the specification of those that are as sure as this."""
        words: dict[str, list[Word]] = {}
        for one in self.at_least(confidence):
            words.setdefault(one.name, []).append(one.word)
        return Spec(words)

    def toml(self, confidence: str = "low") -> str:
        """Return a TOML file, with the reasons as comments."""
        reasons: dict[str, list[str]] = {}
        for one in self.found:
            reasons.setdefault(one.name, []).append(
                f"{one.confidence}: {one.reason}"
            )
        lines = []
        for line in to_toml(self.spec(confidence)).splitlines():
            name = line.partition(" =")[0]
            more = "; ".join(reasons.get(name, ()))
            lines.append(f"{line}  # {more}" if more else line)
        return "\n".join(lines)

    def __str__(self) -> str:
        names: dict[str, list[Suggestion]] = {}
        for one in self.found:
            names.setdefault(one.name, []).append(one)
        lines = []
        for name, several in names.items():
            words = [one.word for one in several]
            value = repr(words[0] if len(words) == 1 else words)
            reasons = dict.fromkeys(
                f"{one.confidence}: {one.reason}" for one in several
            )
            lines.append(f"    {name!r}: {value},  # {'; '.join(reasons)}")
        return "\n".join(["SPEC = {", *lines, "}"])

    def __repr__(self) -> str:
        return (
            f"<Suggestions for {len({o.name for o in self.found})} functions>"
        )


class _Function:
    """A function: name, words of the name, type."""

    def __init__(self, name: str, ctype: Any) -> None:
        self.name = name
        self.words = words_of_name(name)
        self.args = ctype.args
        self.result = ctype.result

    def has(self, words: Any) -> bool:
        return any(word in words for word in self.words)

    def pointers(self) -> list[int]:
        return [i for i, one in enumerate(self.args) if one.kind == "pointer"]


def suggest(ffi: Any, lib: Any) -> Suggestions:
    """Propose a specification from the types and names of all functions.

    A type whose pointer a function named *free*, *destroy*, *close* or
    similar takes is that of objects. A function which returns a pointer to it
    makes one, and so does one that takes ``T **``. The name decides how sure
    that is: *new* and *open* make, *get* and *next* do not. Read the result
    before you use it; no C type says who owns what.

    Args:
        ffi, lib: of a module that cffi compiled, or of ``ffi.dlopen``.

    Returns: ``Suggestions``. ``print()`` shows what can be pasted.

    Cost: some microseconds for each function of the library.

    >>> from cffi import FFI
    >>> from ffi_leak_tracker.handles import suggest
    >>> ffi = FFI()
    >>> ffi.cdef("typedef struct dir DIR; DIR *opendir(const char *);"
    ...          "int closedir(DIR *);")
    >>> for one in suggest(ffi, ffi.dlopen(None)):
    ...     print(one.name, one.word, one.confidence)
    opendir Owned(free='closedir') high
    """
    ffi, lib = interface_of(ffi), library_of(lib)
    functions = []
    for name in dir(lib):
        try:
            ctype = ffi.typeof(getattr(lib, name))
        except Exception:  # a constant, or a symbol that is missing
            continue
        if ctype.kind == "function":
            functions.append(_Function(name, ctype))
    return Suggestions(list(_Types(functions).suggestions()))


class _Types:
    """The types of objects, and what frees them."""

    def __init__(self, functions: list[_Function]) -> None:
        self.functions = functions
        #: By the name of a type: its destructors.
        self.frees: dict[str, list[_Function]] = {}
        for one in functions:
            type = _freed_type(one)
            if type is not None:
                self.frees.setdefault(type, []).append(one)

        #: Types that a function returns, or writes a pointer to.
        self.given: set[str] = set()
        for one in functions:
            if one.result.kind == "pointer":
                self.given.add(one.result.item.cname)
            self.given.update(
                one.args[arg].item.item.cname
                for arg in one.pointers()
                if one.args[arg].item.kind == "pointer"
            )

    def free_of(self, type: str, maker: _Function) -> _Function | None:
        """Return the destructor that fits the maker best, or None."""
        found = self.frees.get(type, [])
        if type in _BUFFERS:  # what a function of any subject can take
            found = [one for one in found if _is_general_or_of(one, maker)]
        if not found:
            return None
        return min(found, key=lambda one: _distance(one, maker))

    def suggestions(self) -> Iterator[Suggestion]:
        for one in self.functions:
            if self._is_destructor(one) or one.name.startswith("_"):
                continue
            for kind in (
                self._reference,
                self._chain,
                self._result,
                self._outs,
                self._filled,
                self._takes,
            ):
                found = list(kind(one))
                yield from found
                if found and kind in (self._reference, self._chain):
                    break

    def _is_destructor(self, one: _Function) -> bool:
        type = _freed_type(one)
        return type is not None and one in self.frees.get(type, ())

    def _reference(self, one: _Function) -> Iterator[Suggestion]:
        pointers = one.pointers()
        if len(pointers) != 1 or not _is_reference(one.words):
            return
        arg = pointers[0]
        free = self.free_of(one.args[arg].item.cname, one)
        if free is not None and len(one.args) == 1:
            yield Suggestion(
                one.name,
                Incref(arg, free.name),
                "high",
                f"adds a reference, which {free.name} drops",
            )

    def _chain(self, one: _Function) -> Iterator[Suggestion]:
        if one.result.kind != "pointer" or not one.has(_APPENDS):
            return
        free = self.free_of(one.result.item.cname, one)
        if free is not None and one.args and one.args[0] is one.result:
            yield Suggestion(
                one.name,
                Chain(0, free.name),
                "medium",
                f"takes and returns {one.result.cname}",
            )

    def _result(self, one: _Function) -> Iterator[Suggestion]:
        if one.result.kind != "pointer":
            return
        type = one.result.item.cname
        makes = one.has(_MAKES)
        free = self.free_of(type, one)
        if free is not None:
            yield self._object(one, free, makes)
        elif _is_text(one.result) and makes and not _is_getter(one.words):
            yield Suggestion(
                one.name, Owned(), "low", f"{one.result.cname} of {one.name}"
            )

    def _object(
        self, one: _Function, free: _Function, makes: bool
    ) -> Suggestion:
        reason = f"makes {one.result.cname}, which {free.name} takes"
        if "init" in one.words and (_takes_type(one) or "static" in one.words):
            confidence = "low"
            reason = f"returns {one.result.cname}, probably its argument"
        elif makes and not _is_getter_of_it(one):
            confidence = "high"
        elif _is_getter(one.words):
            confidence = "low"
            reason = f"returns {one.result.cname}, but its name says get"
        else:
            confidence = "medium" if not _takes_type(one) else "low"
            reason = f"returns {one.result.cname}, which {free.name} takes"
        return Suggestion(one.name, Owned(free.name), confidence, reason)

    def _outs(self, one: _Function) -> Iterator[Suggestion]:
        for arg in one.pointers():
            item = one.args[arg].item
            if item.kind == "pointer":
                type = item.item.cname
                free = self.free_of(type, one)
                if free is None or _is_freeing(one.words) is not None:
                    continue
                yield Suggestion(
                    one.name,
                    Out(arg, free.name),
                    _sureness_of_out(one, arg, type),
                    f"writes {item.cname}, which {free.name} takes",
                )

    def _filled(self, one: _Function) -> Iterator[Suggestion]:
        """Structures that the caller provides, such as ``git_buf``."""
        if not one.args or one.args[0].kind != "pointer":
            return
        type = one.args[0].item
        free = self.free_of(type.cname, one)
        if free is None or type.cname in self.given or not _has_members(type):
            return
        stem = [word for word in free.words if word not in _FREES]
        if one.words[: len(stem)] != stem:
            yield Suggestion(
                one.name,
                Out(0, free.name),
                "medium",
                f"fills {type.cname}, which {free.name} takes",
            )

    def _takes(self, one: _Function) -> Iterator[Suggestion]:
        if not one.has(_TAKES):
            return
        for arg in one.pointers()[1:]:
            if one.args[arg].item.cname in self.frees:
                yield Suggestion(
                    one.name, Consumes(arg), "low", "its name says take"
                )


# --- names and types ---------------------------------------------------
def _is_freeing(words: list[str]) -> int | None:
    """Return the rank of a word that frees, or None."""
    ranks = [_FREES[word] for word in words if word in _FREES]
    return min(ranks) if ranks else None


def _sureness_of_out(one: _Function, arg: int, type: str) -> str:
    """Return how sure it is that ``T **`` gets a new object.

    It is a list of objects, or a member that is read, more often if it is not
    the first argument.
    """
    if type in _BUFFERS:
        return "medium" if one.has(_MAKES) else "low"
    if arg == 0:
        return "high"
    is_made = one.has(_MAKES) and not _is_getter_of_it(one)
    return "high" if is_made else "low"


def _is_general_or_of(free: _Function, maker: _Function) -> bool:
    """Return whether it frees memory of any subject, or that of the maker."""
    stem = [word for word in free.words if word not in _FREES]
    if len(stem) <= 1:
        return True
    return maker.words[: len(stem)] == stem


def _freed_type(one: _Function) -> str | None:
    """Return the type of the object that a function frees, or None."""
    if _is_freeing(one.words) is None or one.has(("get", "error")):
        return None
    if one.name.startswith("_"):
        return None  # a function of Python that C calls
    pointers = one.pointers()
    if not pointers or pointers[0] != 0 or len(one.args) > 2:
        return None
    if one.result.kind == "pointer":
        return None
    item = one.args[0].item
    if item.kind == "pointer" and len(one.args) == 1:
        item = item.item
    if item.cname in _BUFFERS and item.cname != "void":
        return item.cname if item.cname in ("char", "unsigned char") else None
    return str(item.cname)


def _distance(free: _Function, maker: _Function) -> tuple[int, int, int]:
    """Return how badly a destructor fits a maker; the smallest is best."""
    common = 0
    for a, b in zip(free.words, maker.words, strict=False):
        if a != b:
            break
        common += 1
    rank = _is_freeing(free.words) or 0
    weak = 10 if rank >= _WEAK else rank // 4
    return len(free.words) - 2 * common + weak, rank, len(free.args)


def _is_getter(words: list[str]) -> bool:
    return any(word in _GETS for word in words)


def _is_getter_of_it(one: _Function) -> bool:
    """Return whether the name says get before it says make."""
    for word in one.words:
        if word in ("get", "peek", "find", "lookup", "current"):
            return True
        if word in _MAKES:
            return False
    return False


def _has_members(type: Any) -> bool:
    """Return whether it is a structure whose members are known."""
    if type.kind != "struct":
        return False
    try:
        return bool(own_ffi.sizeof(type))
    except (ValueError, TypeError, own_ffi.error):
        return False


def _takes_type(one: _Function) -> bool:
    """Return whether it takes an object of the type that it returns."""
    return any(arg is one.result for arg in one.args)


def _is_reference(words: list[str]) -> bool:
    return bool(words) and (
        words[-1] in _REFERENCES or words[-2:] == ["up", "ref"]
    )


def _is_text(ctype: Any) -> bool:
    """Return whether it is ``char *`` without const."""
    return bool(ctype.cname == "char *")
