"""Names of C types of which no block was ever recorded."""

from __future__ import annotations

from ffi_leak_tracker._base.ctype_names import spellings, suggestion
from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._records.filters import types_chosen
from ffi_leak_tracker._tracking import detached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_SHOWN = 3


def unknown(names: Iterable[str]) -> list[str]:
    """Return the names of which no block was recorded in this process.

    Cost: O(types x threads).
    """
    asked = sorted(names)
    if not asked:
        return []
    known = detached.type_figures()
    missing = [one for one in asked if one not in known]
    # An array of some length stands for "int[]" as well: one of both is enough.
    found = {name for one in asked if one in known for name in spellings(one)}
    pairs = {one for name in missing for one in spellings(name)[1:]}
    return [one for one in missing if not ({one} & (found | pairs))]


def doubts_on(filter: Any) -> list[str]:
    """Return what to say of a filter that leaves only some types.

    A verdict on types that were never recorded says nothing. Types that a
    filter leaves out are no such case: what it does not match is reported.
    """
    missing = unknown(types_chosen(filter))
    return [text_on(missing)] if missing else []


def text_on(names: list[str]) -> str:
    """Return the sentence about types that were never recorded."""
    shown = ", ".join(map(_with_suggestion, names[:_SHOWN]))
    if len(names) > _SHOWN:
        shown += f" and {len(names) - _SHOWN} more"
    return f"no block of type {shown} was ever recorded"


def _with_suggestion(name: str) -> str:
    found = suggestion(name, detached.type_figures())
    text = f'"{printable(name)}"'
    return f'{text} (did you mean "{printable(found)}"?)' if found else text
