"""The differences between two snapshots."""

from __future__ import annotations

from collections.abc import Sequence

from ffi_leak_tracker._base.format import format_change
from ffi_leak_tracker._base.record import Record, field, reader
from ffi_leak_tracker._records.allocation import Frame, NativeFrame
from ffi_leak_tracker._records.decode import Reader, fault, parse
from ffi_leak_tracker._records.totals import GROUPINGS, Total

#: Which snapshots may have recorded nothing.
UNRECORDED = ("earlier", "later", "both", "")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, overload

    from ffi_leak_tracker._records.analysis import CallTree
    from ffi_leak_tracker._records.decode import JsonText


class Change(Record):
    """Blocks that share a path, a type or a line: counts before and after."""

    __module__ = "ffi_leak_tracker"

    type: str | None = field("C type; None in groups by line.")
    kind: str | None = field("How allocated; None unless grouped by path.")
    release: str | None = field("What releases them; None as for kind.")
    frames: tuple[Frame, ...] = field("Python frames, innermost first.")
    native_frames: tuple[NativeFrame, ...] = field(
        "The C frames inside of these, innermost first."
    )
    old_blocks: int = field("Number of blocks before.")
    new_blocks: int = field("Number of blocks after.")
    old_bytes: int = field("Bytes before.")
    new_bytes: int = field("Bytes after.")

    @property
    def blocks(self) -> int:
        """Blocks after minus blocks before."""
        return self.new_blocks - self.old_blocks

    @property
    def bytes(self) -> int:
        """Bytes after minus bytes before."""
        return self.new_bytes - self.old_bytes

    @property
    def what(self) -> str:
        """``appeared``, ``grew``, ``shrank``, ``vanished`` or ``same``.

        Bytes decide between grew and shrank; blocks if the bytes are equal.
        """
        if not self.old_blocks or not self.new_blocks:
            return "appeared" if self.new_blocks else "vanished"
        moved = self.bytes or self.blocks
        return "grew" if moved > 0 else "shrank" if moved else "same"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and ``what`` as JSON has them."""
        return {"what": self.what, **super().to_dict()}

    @classmethod
    def from_dict(cls, data: object) -> Change:
        """Return the change that ``to_dict`` described.

        Raises: RecordFormatError with the name of a bad field.
        """
        return cls._read(Reader(data))

    @classmethod
    def _read(cls, data: Reader) -> Change:
        return cls(
            data.optional(data.text, "type"),
            data.optional(data.text, "kind"),
            data.optional(data.text, "release"),
            tuple(map(Frame._read, data.children("frames"))),
            tuple(map(NativeFrame._read, data.children("native_frames"))),
            data.natural("old_blocks"),
            data.natural("new_blocks"),
            data.natural("old_bytes"),
            data.natural("new_bytes"),
        )


class SnapshotDiff(Sequence[Change]):
    """The differences of two snapshots, as a sequence of ``Change``.

    Made by ``new - old`` or ``new.compare_to(old, group_by=...)``. Changes
    that grew most come first. Counts are compared, not single blocks: a call
    path that freed one block and allocated another of the same size did not
    change. Call paths are compared by their frames, so the snapshots may come
    from different processes.

    Args:
        changes: the changes, in any order.
        group_by: "path", "type" or "line".
        unchanged: number of groups that are equal in both snapshots.
        unrecorded: which snapshots recorded nothing at all: "earlier",
            "later", "both", or "" for none.
    """

    __module__ = "ffi_leak_tracker"

    __slots__ = ("_changes", "_group_by", "_unchanged", "_unrecorded")
    group_by: str = reader(
        "group_by", "How blocks were grouped: path, type or line."
    )
    unchanged: int = reader(
        "unchanged", "Number of groups that are equal in both."
    )
    unrecorded: str = reader(
        "unrecorded",
        'Which recorded nothing at all: "earlier", "later", "both" or "".',
    )

    def __init__(
        self,
        changes: Iterable[Change] = (),
        group_by: str = "path",
        unchanged: int = 0,
        unrecorded: str = "",
    ) -> None:
        self._changes = tuple(sorted(changes, key=_rank))
        self._group_by = group_by
        self._unchanged = unchanged
        self._unrecorded = unrecorded

    @classmethod
    def of(
        cls,
        new: Iterable[Total],
        old: Iterable[Total],
        group_by: str,
        unrecorded: str,
    ) -> SnapshotDiff:
        """Return the difference of totals that were grouped by ``group_by``."""
        before = {one.key: one for one in old}
        after = {one.key: one for one in new}
        changes = [
            _change(before.get(key), after.get(key))
            for key in {**before, **after}
        ]
        changed = [one for one in changes if one.what != "same"]
        unchanged = len(changes) - len(changed)
        return cls(changed, group_by, unchanged, unrecorded)

    def __len__(self) -> int:
        return len(self._changes)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Change: ...
        @overload
        def __getitem__(self, index: slice) -> tuple[Change, ...]: ...

    def __getitem__(self, index: int | slice) -> Change | tuple[Change, ...]:
        return self._changes[index]

    @property
    def blocks(self) -> int:
        """All blocks after minus all blocks before."""
        return sum([one.blocks for one in self._changes])

    @property
    def bytes(self) -> int:
        """All bytes after minus all bytes before."""
        return sum([one.bytes for one in self._changes])

    def _those(self, what: str) -> tuple[Change, ...]:
        return tuple([one for one in self._changes if one.what == what])

    @property
    def appeared(self) -> tuple[Change, ...]:
        """Groups that are only in the new snapshot."""
        return self._those("appeared")

    @property
    def grew(self) -> tuple[Change, ...]:
        """Groups that are in both, with more in the new one."""
        return self._those("grew")

    @property
    def shrank(self) -> tuple[Change, ...]:
        """Groups that are in both, with less in the new one."""
        return self._those("shrank")

    @property
    def vanished(self) -> tuple[Change, ...]:
        """Groups that are only in the old snapshot."""
        return self._those("vanished")

    def call_tree(self, *, outermost_first: bool = False) -> CallTree:
        """Return the changed call paths as a tree with signed counts.

        Args:
            outermost_first: begin with the outermost callers; else with the
                allocation sites.

        Raises: ValueError if the difference is not grouped by path.
        """
        from ffi_leak_tracker._records.analysis import CallTree

        if self._group_by != "path":
            raise ValueError(
                f"a difference by {self._group_by} has no call paths: make it "
                'with group_by="path"'
            )
        return CallTree.of_changes(self, outermost_first=outermost_first)

    def to_text(
        self,
        *,
        limit: int | None = 20,
        frames: int | None = 8,
        source: bool = True,
        color: bool = False,
        width: int | None = None,
    ) -> str:
        """Return the report of the changes; it ends with a newline.

        Args:
            limit: number of changes to show; None for all.
            frames: number of frames to show of each call path; None for all.
            source: show the source line of each frame.
            color: add escape sequences for colours.
            width: columns of a line, where possible, as for ``render``.
        """
        from ffi_leak_tracker._records.report_diff import render_diff

        return render_diff(
            self,
            limit=limit,
            frames=frames,
            source=source,
            color=color,
            width=width,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON has it."""
        return {
            "group_by": self._group_by,
            "blocks": self.blocks,
            "bytes": self.bytes,
            "unchanged": self._unchanged,
            "unrecorded": self._unrecorded,
            "changes": [one.to_dict() for one in self._changes],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return ``to_dict()`` as JSON text."""
        import json

        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: object) -> SnapshotDiff:
        """Return the difference that ``to_dict`` described.

        Raises: RecordFormatError with the name of a bad field.
        """
        fields = Reader(data)
        group_by = fields.text("group_by")
        if group_by not in GROUPINGS:
            raise fault("group_by", " or ".join(GROUPINGS), group_by)
        changes = map(Change._read, fields.children("changes"))
        # Older files do not have it.
        unrecorded = fields.optional(fields.text, "unrecorded") or ""
        if unrecorded not in UNRECORDED:
            raise fault("unrecorded", " or ".join(UNRECORDED), unrecorded)
        unchanged = fields.natural("unchanged")
        return cls(changes, group_by, unchanged, unrecorded)

    @classmethod
    def from_json(cls, text: JsonText) -> SnapshotDiff:
        """Return the difference of a JSON text.

        Raises: RecordFormatError as in ``from_dict``, and for text that is
            not JSON.
        """
        return cls.from_dict(parse(text))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SnapshotDiff):
            return NotImplemented
        return all(
            getattr(self, name) == getattr(other, name)
            for name in self.__slots__
        )

    def __hash__(self) -> int:
        return hash((self._changes, self._group_by))

    def __repr__(self) -> str:
        size = format_change(self.bytes)
        count = len(self)
        noun = "change" if count == 1 else "changes"
        return f"<SnapshotDiff of {count:,} {noun}, {size}>"


def _change(old: Total | None, new: Total | None) -> Change:
    """Return the change of one total; either may be missing."""
    shown = new or old
    assert shown is not None, "there is one before or after"
    return Change(
        shown.type,
        shown.kind,
        shown.release,
        shown.frames,
        shown.native_frames,
        old.blocks if old else 0,
        new.blocks if new else 0,
        old.bytes if old else 0,
        new.bytes if new else 0,
    )


def _rank(one: Change) -> tuple[int, int]:
    return -one.bytes, -one.blocks
