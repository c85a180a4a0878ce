"""Blocks and bytes of what has a call path, a type or a line in common."""

from __future__ import annotations

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._records.allocation import Frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ffi_leak_tracker._records.allocation import NativeFrame
    from ffi_leak_tracker._records.group import Group

GROUPINGS = ("path", "type", "line")
MEASURES = ("blocks", "bytes")


class Total(Record):
    """Blocks and bytes that have something in common.

    What they need not have in common is None, or no frames: the total of a
    type has no frames, that of a line one frame and no type.
    """

    __module__ = "ffi_leak_tracker"

    _fields = (
        "type",
        "kind",
        "release",
        "frames",
        "native_frames",
        "blocks",
        "bytes",
    )
    __slots__ = tuple(["_" + name for name in _fields])
    type: str | None = field("type", "Name of the C type.")
    kind: str | None = field("kind", "How the blocks were made.")
    release: str | None = field("release", "What must release them.")
    frames: tuple[Frame, ...] = field("frames", "Python, innermost first.")
    native_frames: tuple[NativeFrame, ...] = field(
        "native_frames", "C frames above them, innermost first."
    )
    blocks: int = field("blocks", "Number of blocks.")
    bytes: int = field("bytes", "Bytes of the blocks.")

    def __init__(
        self,
        type: str | None,
        kind: str | None,
        release: str | None,
        frames: tuple[Frame, ...],
        native_frames: tuple[NativeFrame, ...],
        blocks: int,
        bytes: int,
    ) -> None:
        self._type = type
        self._kind = kind
        self._release = release
        self._frames = frames
        self._native_frames = native_frames
        self._blocks = blocks
        self._bytes = bytes

    @property
    def key(self) -> tuple[Any, ...]:
        """What the blocks have in common; the same in every process."""
        return self._values()[:5]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        data = super().to_dict()
        data["frames"] = [frame.to_dict() for frame in self.frames]
        data["native_frames"] = [f.to_dict() for f in self.native_frames]
        return data


def totals_of(groups: Iterable[Group], group_by: str) -> tuple[Total, ...]:
    """Return the totals of groups in their order, those of most bytes first.

    Raises: ValueError for another ``group_by`` than path, type or line.
    """
    check_choice("group_by", group_by, GROUPINGS)
    if group_by == "path":  # what groups differ in
        return tuple([_of_group(one) for one in groups])
    key_of = _KEYS[group_by]
    sums: dict[tuple[Any, ...], list[int]] = {}
    for one in groups:
        both = sums.setdefault(key_of(one), [0, 0])
        both[0] += one.count
        both[1] += one.total_bytes
    found = [Total(*key, *both) for key, both in sums.items()]
    return tuple(sorted(found, key=_rank))


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError for a value that is none of the choices."""
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
