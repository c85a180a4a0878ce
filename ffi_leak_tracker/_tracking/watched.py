"""The libraries that attachments name, and whether each was ever met."""

from __future__ import annotations

import os

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_hooks as hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Whether an attachment is on.
is_attached = False
#: What the attachments record; of the last attachments if none is on.
_watches: tuple[Watch, ...] = ()
#: Names that match no library which was loaded so far, of the same.
_unmet: tuple[Name, ...] = ()
#: Libraries that were loaded at some time, for suggestions.
_seen: dict[str, None] = {}

#: "lib" STEM, and what build tools add: see csrc/hooks/library_names.h.
_FILE_NAME = (
    r"(?:lib)?(.+?)(?:-[0-9a-f]{8}|-[0-9.]+)*"
    r"(?:\.cpython-.*|\.abi3|\.pypy.*)?\.so(?:\.\d.*)?$"
)
_CLOSE = 0.7  # of names that are suggested, as difflib measures it


class Name:
    """A library as the user named it, and the rules that stand for it."""

    __slots__ = ("is_met", "rules", "text")

    def __init__(self, text: str, rules: list[str]) -> None:
        self.text = text
        self.rules = rules
        self.is_met = False

    def look(self) -> bool:
        """Return whether a library that it names was loaded at any time."""
        if not self.is_met:
            self.is_met = any(map(hooks.has_met, self.rules))
        return self.is_met

    def means(self, library: hooks.LoadedObject) -> bool:
        """Return whether it names a library."""
        return any(hooks.fits(rule, library) for rule in self.rules)


class Watch:
    """What one attachment records.

    Args:
        names: of libraries; None for all.
        excluded: texts of the libraries that it leaves out.
    """

    __slots__ = ("excluded", "names")

    def __init__(
        self, names: Sequence[Name] | None, excluded: Sequence[str]
    ) -> None:
        self.names = names
        self.excluded = excluded

    def texts(self) -> list[str]:
        """Return what it records, without names that match nothing so far."""
        but = f" but {', '.join(self.excluded)}" if self.excluded else ""
        if self.names is None:
            return [f"all libraries{but}"]
        return [f"{one.text}{but}" for one in self.names if one.look()]


def watch(watches: Iterable[Watch]) -> None:
    """Remember what attachments record."""
    global is_attached, _watches, _unmet  # noqa: PLW0603
    is_attached = True
    _watches = tuple(watches)
    _seen.clear()
    _unmet = tuple([one for w in _watches for one in w.names or ()])
    unmet()


def texts() -> tuple[str, ...]:
    """Return what is recorded, or was by the last attachments."""
    found = dict.fromkeys([text for one in _watches for text in one.texts()])
    return ("all libraries",) if "all libraries" in found else tuple(found)


def ended() -> None:
    """Remember it until ``forget``, since reports of what was are made yet."""
    global is_attached  # noqa: PLW0603
    unmet()
    is_attached = False


def forget() -> None:
    """Remember nothing, unless an attachment is on."""
    global _watches, _unmet  # noqa: PLW0603
    if not is_attached:
        _watches = _unmet = ()
        core.judge_in_python("names", False)


def unmet() -> tuple[str, ...]:
    """Return the names that match nothing still. O(1) if there are none."""
    global _unmet  # noqa: PLW0603
    if not _unmet:
        return ()
    _unmet = tuple([one for one in _unmet if not one.look()])
    if _unmet:
        _seen.update(dict.fromkeys([one.absolute for one in hooks.objects()]))
    core.judge_in_python("names", bool(_unmet))
    return tuple(dict.fromkeys([one.text for one in _unmet]))


def unmet_text(names: Iterable[str]) -> str:
    """Return what is to be said of names that match nothing."""
    texts = ", ".join(map(_with_suggestion, sorted(names)))
    return (
        f"no loaded library matches {texts}, so nothing was recorded for it: "
        "look for its name in /proc/self/maps"
    )


# --- suggestions ----------------------------------------------------------
def _with_suggestion(name: str) -> str:
    """Return a name in quotes, and a similar name that matches something."""
    found = suggestion(name, _seen)
    text = f'"{printable(name)}"'
    return f'{text} (did you mean "{printable(found)}"?)' if found else text


def suggestion(name: str, paths: Iterable[str]) -> str | None:
    """Return what the user may have meant, None if nothing is similar.

    >>> paths = ["/x/libshelf.so.1", "/y/libz.so.1"]
    >>> suggestion("shelff", paths), suggestion("libshelv.so", paths)
    ('shelf', 'libshelf.so.1')
    >>> suggestion("/y/libshelf.so", paths), suggestion("other", paths)
    ('/x/libshelf.so.1', None)
    """
    from difflib import get_close_matches

    wanted = _stem_of(os.path.basename(name.replace("*", "").replace("?", "")))
    by_stem = {_stem_of(os.path.basename(one)).lower(): one for one in paths}
    close = get_close_matches(wanted.lower(), by_stem, 1, _CLOSE)
    if not close:
        return None
    path = by_stem[close[0]]
    if "/" in name:
        return path
    if ".so" in name or name.startswith("lib"):
        return os.path.basename(path)
    return _stem_of(os.path.basename(path))


def _stem_of(file: str) -> str:
    import re

    found = re.match(_FILE_NAME, file)
    return found.group(1) if found else file.removeprefix("lib")
