"""The libraries that attachments name, and whether each was ever met."""

from __future__ import annotations

from ffi_leak_tracker._base.format import quoted
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_hooks as hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: What the attachments record: names of libraries, or "all libraries". Of the
#: last attachments if none is on.
recorded: tuple[str, ...] = ()
#: Whether an attachment is on.
is_attached = False
#: Names that match no library which was loaded so far, of the same.
_unmet: tuple[Name, ...] = ()


class Name:
    """A library as the user named it, and the patterns that stand for it."""

    __slots__ = ("is_met", "patterns", "text")

    def __init__(self, text: str, patterns: list[str]) -> None:
        self.text = text
        self.patterns = patterns
        self.is_met = False

    def look(self) -> bool:
        """Return whether a library that it names was loaded at any time."""
        if not self.is_met:
            self.is_met = any(map(hooks.has_met, self.patterns))
        return self.is_met


def watch(texts: Iterable[str], names: Iterable[Name]) -> None:
    """Remember what attachments record; ``names`` are to be looked for."""
    global is_attached, recorded, _unmet  # noqa: PLW0603
    is_attached = True
    recorded = tuple(dict.fromkeys(texts))
    _unmet = tuple(names)
    unmet()


def ended() -> None:
    """Remember it until ``forget``, since reports of what was are made yet."""
    global is_attached  # noqa: PLW0603
    unmet()
    is_attached = False


def forget() -> None:
    """Remember nothing, unless an attachment is on."""
    global recorded, _unmet  # noqa: PLW0603
    if not is_attached:
        recorded = _unmet = ()
        core.judge_in_python("names", False)


def unmet() -> tuple[str, ...]:
    """Return the names that match nothing still. O(1) if there are none."""
    global _unmet  # noqa: PLW0603
    if not _unmet:
        return ()
    _unmet = tuple([one for one in _unmet if not one.look()])
    core.judge_in_python("names", bool(_unmet))
    return tuple(dict.fromkeys([one.text for one in _unmet]))


def unmet_text(names: Iterable[str]) -> str:
    """Return what is to be said of names that match nothing."""
    return (
        f"no loaded library matches {quoted(names)}, so nothing was recorded "
        "for it: look for its name in /proc/self/maps"
    )
