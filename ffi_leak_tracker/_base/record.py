"""Records: immutable values with named fields, declared by annotations.

    class Size(Record):
        width: int = field("Columns.")
        height: int = field("Rows.", default=1)

The declaration makes ``__slots__``, ``__init__``, read-only properties with
docstrings, ``to_dict``, equality, hash, repr and pickling. It does what a
frozen, slotted dataclass does, without the import of ``dataclasses`` (8 ms),
and its ``__init__`` assigns to slots, which is twice as fast as the
``object.__setattr__`` of a frozen dataclass.
"""

from __future__ import annotations

from _operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_options: Any) -> Any:
        """Stand in for the decorator, which only type checkers read."""
        return lambda cls: cls


REQUIRED: Any = object()


class _Field:
    """The declaration of one field."""

    __slots__ = ("convert", "default", "doc", "init")

    def __init__(self, doc: str, default: Any, init: bool, convert: Any):
        self.doc = doc
        self.default = default
        self.init = init
        self.convert = convert


def field(
    doc: str,
    *,
    default: Any = REQUIRED,
    init: bool = True,
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare a field of a record.

    Args:
        doc: the docstring of its property.
        default: value where the caller gives none.
        init: False for a field that is derived from the others. It is no
            argument of ``__init__`` and takes no part in equality or
            ``to_dict``; the class must assign it in an ``__init__`` of its own.
        convert: applied to the argument before it is stored.
    """
    return _Field(doc, default, init, convert)


def reader(name: str, doc: str) -> Any:
    """Return a read-only property over the slot ``_name``."""
    return property(attrgetter("_" + name), doc=doc)


def _make_init(fields: dict[str, _Field]) -> Any:
    """Compile an ``__init__`` that assigns each argument to its slot."""
    names: dict[str, Any] = {}
    arguments, lines = ["self"], []
    for name, one in fields.items():
        names[f"default_{name}"] = one.default
        names[f"convert_{name}"] = one.convert
        has_default = one.default is not REQUIRED
        arguments.append(name + f"=default_{name}" * has_default)
        value = f"convert_{name}({name})" if one.convert else name
        lines.append(f"    self._{name} = {value}\n")
    text = f"def __init__({', '.join(arguments)}):\n{''.join(lines)}"
    exec(text, names)
    return names["__init__"]


def plain(value: Any) -> Any:
    """Return a value as JSON has it: records as dicts, tuples as lists."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    to_dict = getattr(value, "to_dict", None)
    return value if to_dict is None else to_dict()


class _Init:
    """Stands for an ``__init__`` until it is first used, then compiles it.

    Most classes are not used by most programs, and compiling takes 0.2 ms.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, _Field]) -> None:
        self.fields = fields

    def __get__(self, instance: object, owner: Any) -> Any:
        cls = next(one for one in owner.__mro__ if "__init__" in vars(one))
        if vars(cls)["__init__"] is self:
            made = _make_init(self.fields)
            made.__qualname__ = f"{cls.__qualname__}.__init__"
            made.__module__ = cls.__module__
            types = cls.__annotations__
            made.__annotations__ = {
                key: one for key, one in types.items() if key in self.fields
            }
            cls.__init__ = made
        init = vars(cls)["__init__"]
        return init if instance is None else init.__get__(instance, owner)


class _RecordType(type):
    """Turns the fields of a class body into slots, properties, __init__.

    A class may define ``__init__`` itself, and ``_fields`` if their order is
    not that of the declarations.
    """

    def __new__(
        meta, name: str, bases: tuple[type, ...], body: dict[str, Any]
    ) -> Any:
        fields = {k: v for k, v in body.items() if isinstance(v, _Field)}
        for key, one in fields.items():
            body[key] = reader(key, one.doc)
        slots = [*body.get("__slots__", ()), *["_" + key for key in fields]]
        body["__slots__"] = tuple(slots)
        given = {key: one for key, one in fields.items() if one.init}
        if given:
            body.setdefault("_fields", tuple(given))
            if "__init__" not in body:
                body["__init__"] = _Init(given)
        return super().__new__(meta, name, bases, body)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Record(metaclass=_RecordType):
    """An immutable value: equal, hashed, shown and pickled by its fields."""

    _fields: ClassVar[tuple[str, ...]] = ()

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._fields])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON has them."""
        return {name: plain(getattr(self, name)) for name in self._fields}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        pairs = zip(self._fields, self._values(), strict=True)
        shown = ", ".join(f"{name}={value!r}" for name, value in pairs)
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()
