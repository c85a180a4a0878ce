"""Sums of blocks and bytes by call path, type or line."""

from __future__ import annotations

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._records.allocation import Frame
from ffi_leak_tracker._records.group import HOOK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ffi_leak_tracker._records.allocation import NativeFrame
    from ffi_leak_tracker._records.group import Group

GROUPINGS = ("path", "type", "line")
MEASURES = ("blocks", "bytes")


class Total(Record):
    """Number and bytes of blocks that share a call path, a type or a line.

    Fields in which the blocks may differ are None, or no frames. So the total
    of a type has no frames; that of a line has one frame and no type.
    """

    __module__ = "ffi_leak_tracker"

    type: str | None = field("Name of the C type.")
    kind: str | None = field("How the blocks were allocated.")
    release: str | None = field("What must release them.")
    frames: tuple[Frame, ...] = field("Python frames, innermost first.")
    native_frames: tuple[NativeFrame, ...] = field(
        "The C frames inside of these, innermost first."
    )
    blocks: int = field("Number of blocks.")
    bytes: int = field("Bytes of the blocks.")

    @property
    def key(self) -> tuple[Any, ...]:
        """The shared fields. Keys of different processes can be compared.

        Blocks of native code with a Python call path have that in common.
        """
        if self.kind == HOOK and self.frames:
            return None, HOOK, None, self.frames, ()
        return self._values()[:5]


def totals_of(groups: Iterable[Group], group_by: str) -> tuple[Total, ...]:
    """Return the totals of groups, most bytes first.

    Raises: ValueError if ``group_by`` is not path, type or line.
    """
    check_choice("group_by", group_by, GROUPINGS)
    if group_by == "path":  # a group has one path already
        return tuple([_of_group(one) for one in groups])
    groups = [part for one in groups for part in one.parts]
    key_of = _KEYS[group_by]
    sums: dict[tuple[Any, ...], list[int]] = {}
    for one in groups:
        both = sums.setdefault(key_of(one), [0, 0])
        both[0] += one.count
        both[1] += one.total_bytes
    found = [Total(*key, *both) for key, both in sums.items()]
    return tuple(sorted(found, key=_rank))


def exact_totals(groups: Iterable[Group]) -> tuple[Total, ...]:
    """Return the totals of all parts of groups, with all of their C frames."""
    return tuple([_of_group(part) for one in groups for part in one.parts])


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError if the value is not one of the choices."""
    if value not in choices:
        known = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {known}, not {value!r}")


def _of_group(one: Group) -> Total:
    return Total(
        one.type,
        one.kind,
        one.release,
        one.frames,
        one.native_frames,
        one.count,
        one.total_bytes,
    )


def _by_type(one: Group) -> tuple[Any, ...]:
    return one.type, None, None, (), ()


def _by_line(one: Group) -> tuple[Any, ...]:
    site = [Frame(f.function, f.filename, f.lineno) for f in one.frames[:1]]
    return None, None, None, tuple(site), ()


_KEYS = {"type": _by_type, "line": _by_line}


def _rank(one: Total) -> tuple[int, int]:
    return -one.bytes, -one.blocks
