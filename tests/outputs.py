"""Compare what programs print, apart from what differs in each run."""

from __future__ import annotations

import doctest
import re

_CHANGES = (
    (r"0x[0-9a-f]{6,}", "0xADDRESS"),
    (r"\b\d+\.\d+ s\b", "TIME s"),
    (r"\bin \d+\.\d+s\b", "in TIMEs"),
    (r"#\d+", "#NUMBER"),
    (r"={5,}", "====="),  # of pytest, as wide as the terminal
    (r"_{5,}", "_____"),
    (r"(?m)[ \t]+$", ""),
    (r"(?<=\S)  +", "  "),
)


def normalised(text: str) -> str:
    """Return text without addresses, times, sequence numbers, alignment."""
    for pattern, replacement in _CHANGES:
        text = re.sub(pattern, replacement, text)
    return text.strip() + "\n"


def without_figures(text: str) -> str:
    """Return text with counts and sizes replaced."""
    text = re.sub(r"[\d.,]+ (B|[KMG]iB)\b", "SIZE", text)
    text = re.sub(r"SIZE\.\.SIZE", "SIZE", text)
    return re.sub(r"\b\d+ (blocks?|allocations?|frees?|x)\b", r"N \1", text)


def is_shown(expected: str, actual: str) -> bool:
    """Return whether a document shows an output; "..." stands for anything."""
    checker = doctest.OutputChecker()
    expected, actual = normalised(expected), normalised(actual)
    return checker.check_output(expected, actual, doctest.ELLIPSIS)
