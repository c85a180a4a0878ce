"""Reads sizes as people write them."""

from __future__ import annotations

from string import ascii_letters

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}


def size_of(value: object) -> int:
    """Return a number of bytes.

    Args:
        value: a number, or text such as "1 MB" (1,000,000) or "4 KiB" (4,096).

    Raises: TypeError for neither; ValueError for text that is no size and for
        negative numbers.

    >>> size_of("1.5 KiB"), size_of("2MB"), size_of(7)
    (1536, 2000000, 7)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str):
        size = _parsed(value)
    else:
        raise TypeError(
            'a size is a number of bytes or text as "1 MB", not '
            f"{type(value).__name__}"
        )
    if size < 0:
        raise ValueError(f"a size is not negative: {value!r}")
    return size


def _parsed(text: str) -> int:
    number = text.strip().rstrip(ascii_letters)
    unit = text.strip()[len(number) :].lower()
    try:
        return round(float(number.replace(",", "")) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        units = ", ".join(["B", "KB", "MB", "GB", "KiB", "MiB", "GiB"])
        raise ValueError(
            f"{text!r} is no size: write a number and one of {units}"
        ) from None
