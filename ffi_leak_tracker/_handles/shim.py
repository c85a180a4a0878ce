"""C text that makes a compiled module report the objects of its library.

Each function of a specification gets a C function around it, and a macro that
puts this one in its place in all text that follows.
"""

from __future__ import annotations

from ffi_leak_tracker._handles import functions
from ffi_leak_tracker._handles.spec import releases
from ffi_leak_tracker._handles.spec_files import as_spec
from ffi_leak_tracker._handles.vocabulary import (
    Borrowed,
    Chain,
    Consumes,
    Decref,
    Incref,
    Out,
    Owned,
    SpecError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._handles.spec import Spec
    from ffi_leak_tracker._handles.vocabulary import Word

_HEAD = """\
/* Made by ffi_leak_tracker.build.shim: what follows this text calls the
   functions below in place of those of the library. */
#include <ffi_leak_tracker.h>
"""
_FUNCTION_KINDS = ("FunctionPtrType", "RawFunctionType")


class _Type:
    """A C type of a cdef, as far as ``functions.check`` looks at it."""

    __slots__ = ("args", "model", "result")

    def __init__(self, model: Any) -> None:
        self.model = model
        if type(model).__name__ in _FUNCTION_KINDS:
            self.args = [_Type(one) for one in model.args]
            self.result = _Type(model.result)

    @property
    def kind(self) -> str:
        return "pointer" if hasattr(self.model, "totype") else "other"

    @property
    def item(self) -> _Type:
        return _Type(self.model.totype)

    @property
    def cname(self) -> str:
        """The name without ``const``, as that of a ctype."""
        if self.kind == "pointer":
            name = self.item.cname
            return f"{name}*" if name.endswith("*") else f"{name} *"
        return str(self.model.get_c_name()).strip()

    @property
    def fields(self) -> list[tuple[str, _Type]]:
        names = getattr(self.model, "fldnames", None) or ()
        types = getattr(self.model, "fldtypes", None) or ()
        return [
            (name, _Type(one)) for name, one in zip(names, types, strict=True)
        ]

    @property
    def is_void(self) -> bool:
        return type(self.model).__name__ == "VoidType"

    def declared(self, name: str) -> str:
        return str(self.model.get_c_name(f" {name}"))


def functions_of(ffi: Any) -> dict[str, _Type]:
    """Return the types of the functions that a cdef declares.

    Raises: TypeError if ``ffi`` is no ``cffi.FFI()``.
    """
    parser = getattr(ffi, "_parser", None)
    if parser is None:
        raise TypeError(
            f"expected the cffi.FFI() that set_source is called on, not {ffi!r}"
        )
    found = {}
    for key, (model, _) in parser._declarations.items():
        kind, _, name = key.partition(" ")
        if kind == "function" and not model.ellipsis:
            found[name] = _Type(model)
    return found


class _Writer:
    """The text for one specification."""

    def __init__(self, spec: Spec, ffi: Any) -> None:
        self.types = functions_of(ffi)
        if unknown := spec.unknown(self.types):
            raise SpecError("; ".join(unknown))
        self.spec = spec
        self.words = {
            name: self._fitting(name, words)
            for name, words in spec.for_functions(self.types).items()
        }
        #: What each function frees, by its name: types of its argument, and
        #: whether an object is inside what they point to.
        self.freed: dict[str, dict[str, str]] = {}
        for name, words in self.words.items():
            for word in words:
                self._add_freed(self.types[name], word)

    def _fitting(self, name: str, words: tuple[Word, ...]) -> tuple[Word, ...]:
        fitting = []
        for word in words:
            if isinstance(word, Borrowed):
                continue
            try:
                functions.check(name, word, self.types[name])
                _condition(name, word, self.types[name].result)
            except SpecError:
                if self.spec.is_exact(name):
                    raise
                continue
            fitting.append(word)
        return tuple(fitting)

    def _add_freed(self, ctype: _Type, word: Word) -> None:
        free = getattr(word, "free", ())
        if isinstance(word, Incref):
            made = {ctype.args[word.arg].cname: "{0}"}
        elif not isinstance(word, Out):
            made = {ctype.result.cname: "{0}"}
        else:
            target = ctype.args[word.arg]
            made = {target.cname: _inside(target)}
            if target.item.kind == "pointer":
                made[target.item.cname] = "{0}"
        for name in free:
            self.freed.setdefault(name, {}).update(made)

    # --- what a function does -------------------------------------------
    def text(self) -> str:
        """Return the whole text."""
        parts = [_HEAD]
        macros = []
        for name, ctype in self.types.items():
            body = self._body(name, ctype)
            if body:
                parts.append(body)
                macros.append(
                    f"#undef {name}\n#define {name} ffilt_shim_{name}\n"
                )
        return "\n".join([*parts, "".join(macros)])

    def _body(self, name: str, ctype: _Type) -> str:
        words = self.words.get(name, ())
        before, after = self._release(name, ctype, words)
        before += [
            _kept("old", one.arg) for one in words if isinstance(one, Chain)
        ]
        types = []
        for number, word in enumerate(words):
            lines, type_text = _made(name, number, word, ctype)
            after += lines
            types += [type_text] if type_text else []
        if not before and not after:
            return ""
        names = [f"x{i}" for i in range(len(ctype.args))]
        takes = [
            one.declared(x) for one, x in zip(ctype.args, names, strict=True)
        ]
        head = ctype.result.declared(
            f"ffilt_shim_{name}({', '.join(takes) or 'void'})"
        )
        call = f"{name}({', '.join(names)});"
        has_result = not ctype.result.is_void
        if has_result:
            call = f"{ctype.result.declared('result')} = {call}"
        lines = [*before, call, *after, *["return result;"] * has_result]
        inner = "".join(f"    {line}\n" for line in lines)
        return "".join([*types, f"static inline {head} {{\n{inner}}}\n"])

    def _release(
        self, name: str, ctype: _Type, words: tuple[Word, ...]
    ) -> tuple[list[str], list[str]]:
        """Return the lines that remove a record before and after the call."""
        found = releases(name, words)
        if found is not None:
            arg, _, _ = found
            ok = _condition_of_consumes(name, words, ctype.result)
            if not ok:
                return [f"ffilt_untrack(x{arg});"], []
            line = "    ffilt_untrack((const void *)taken);"
            return [_kept("taken", arg or 0)], [f"if ({ok})", line]
        freed = self.freed.get(name)
        if freed is None:
            return [], []
        pointers = [
            arg for arg, one in enumerate(ctype.args) if one.kind == "pointer"
        ]
        fitting = [arg for arg in pointers if ctype.args[arg].cname in freed]
        for arg in fitting or pointers:
            one = ctype.args[arg]
            object = freed.get(one.cname, "{0}").format(f"x{arg}")
            type_text = "NULL"
            if not one.item.is_void:
                made = one.item if object == f"x{arg}" else _made_inside(one)
                type_text = f'"{made.cname}"'
            line = f'ffilt_released_as({object}, "{name}", {type_text});'
            if object != f"x{arg}":
                return [f"if (x{arg})", f"    {line}"], []
            return [line], []
        return [], []


def _kept(name: str, arg: int) -> str:
    """Return a line that keeps an address.

    It is volatile, since compilers warn if the address is used after a free.
    """
    return f"volatile uintptr_t {name} = (uintptr_t)x{arg};"


# --- what a function makes --------------------------------------------------
def _inside(pointer: _Type) -> str:
    """Return an expression for the object that a call put behind a pointer.

    It is the target of ``T **``, or the first pointer in a structure that is
    not NULL, as for ``instrument``.
    """
    if pointer.item.kind == "pointer":
        return "*{0}"
    text = "(const void *){0}"
    for name, field in reversed(pointer.item.fields):
        if field.kind == "pointer":
            read = f"{{0}}->{name}"
            text = f"{read} ? (const void *){read} : {text}"
    return text


def _made_inside(pointer: _Type) -> _Type:
    item = pointer.item
    return item.item if item.kind == "pointer" else item


def _size(pointed: _Type, expression: str) -> str:
    """Return the size of a structure whose fields are known, or 0."""
    return f"sizeof *({expression})" if pointed.fields else "0"


def _made(
    name: str, number: int, word: Word, ctype: _Type
) -> tuple[list[str], str]:
    """Return the lines that record what a word makes, and its type."""
    type_name = f"ffilt_type_{name}_{number}"
    lines: list[str]
    if isinstance(word, (Owned, Chain)):
        made = ctype.result.item
        size = _size(made, "result")
        lines = [f"ffilt_track(result, {size}, &{type_name});"]
        if isinstance(word, Chain):
            lines = [
                "if (result && (uintptr_t)result != old) {",
                "    ffilt_untrack((const void *)old);",
                f"    {lines[0]}",
                "}",
            ]
    elif isinstance(word, Incref):
        made = ctype.args[word.arg].item
        size = _size(made, f"x{word.arg}")
        lines = [f"ffilt_refer(x{word.arg}, {size}, &{type_name});"]
    elif isinstance(word, Out):
        pointer, argument = ctype.args[word.arg], f"x{word.arg}"
        made = _made_inside(pointer)
        ok = _condition(name, word, ctype.result)
        object = _inside(pointer).format(argument)
        size = _size(made, object) if pointer.item.kind == "pointer" else "0"
        lines = [
            f"if ({argument}{f' && {ok}' if ok else ''})",
            f"    ffilt_track({object}, {size}, &{type_name});",
        ]
    else:
        return [], ""
    free = " or ".join(word.free) or "custom"
    texts = ", ".join(f'"{one}"' for one in (made.cname, name, free))
    return lines, f"static ffilt_type {type_name} = FFILT_TYPE({texts});\n"


def _condition(name: str, word: Word, result: _Type) -> str:
    """Return the condition of success in C; empty if there is none."""
    ok = getattr(word, "ok", None)
    if ok is None:
        is_number = type(result.model).__name__ == "PrimitiveType"
        wants = isinstance(word, Out) and is_number
        return "(long long)result >= 0" if wants else ""
    if not isinstance(ok, str):
        raise SpecError(
            f"{name}: {word!r}, but a shim is C text: write ok as '== 0'"
        )
    if result.is_void:
        raise SpecError(f"{name}: {word!r}, but it has no result")
    return f"result {ok}"


def _condition_of_consumes(
    name: str, words: tuple[Word, ...], result: _Type
) -> str:
    for word in words:
        if isinstance(word, Consumes):
            return _condition(name, word, result)
        if isinstance(word, Decref):
            break
    return ""


def shim(spec: Any, ffi: Any) -> str:
    """Return C text that reports the objects of a library when it is called.

    Put it behind the includes and the definitions of a module's C source:
    ``ffi.set_source(name, source + shim(spec, ffi),
    include_dirs=[get_include()])``. All calls that the compiler reads after
    it are seen: those of the module, so also through function pointers and
    ``ffi.addressof``, and those of C code that follows. Without the tracker a
    call costs one load and one branch more.

    Args:
        spec: as for ``instrument``; ``ok`` must be a text.
        ffi: the ``cffi.FFI()`` that declares the functions.

    Do not instrument the module as well: an object would be recorded twice.

    Raises: SpecError if the specification does not fit the declarations.

    >>> import cffi
    >>> from ffi_leak_tracker.build import shim
    >>> ffi = cffi.FFI()
    >>> ffi.cdef("void *pool_new(void); void pool_free(void *);")
    >>> text = shim({"pool_new": "pool_free"}, ffi)
    >>> "#define pool_free ffilt_shim_pool_free" in text
    True
    """
    return _Writer(as_spec(spec), ffi).text()
