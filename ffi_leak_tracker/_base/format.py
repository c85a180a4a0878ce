"""Bytes, counts, ages, addresses and paths as text."""

from __future__ import annotations

import os

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_LONGER = ((86400.0, "days", 1), (3600.0, "h", 1), (60.0, "min", 0))


def format_bytes(size: int) -> str:
    """Return a size in bytes with a unit of base 1024.

    >>> format_bytes(864), format_bytes(537_703), format_bytes(1_048_575)
    ('864 B', '525.1 KiB', '1.0 MiB')
    """
    if abs(size) < 1024:
        return f"{size} B"
    value, unit = size / 1024, 1
    while abs(value) >= 1023.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def format_change(size: int) -> str:
    """Return a number of bytes with its sign.

    >>> format_change(2048), format_change(-5), format_change(0)
    ('+2.0 KiB', '-5 B', '+0 B')
    """
    return ("+" if size >= 0 else "") + format_bytes(size)


def format_amount_change(blocks: int, size: int) -> str:
    """Return blocks and bytes with their signs.

    >>> format_amount_change(-1, -64)
    '-1 block, -64 B'
    """
    noun = "block" if abs(blocks) == 1 else "blocks"
    return f"{blocks:+,} {noun}, {format_change(size)}"


def format_age(seconds: float) -> str:
    """Return a span of time, given in seconds; a negative one reads as zero.

    >>> format_age(1.19), format_age(59.99), format_age(200)
    ('1.19 s', '1 min', '3 min')
    >>> format_age(7600), format_age(400_000)
    ('2.1 h', '4.6 days')
    """
    seconds = max(seconds, 0.0)
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    for unit_seconds, unit, digits in _LONGER:
        value = round(seconds / unit_seconds, digits)
        if value >= (2 if unit == "days" else 1):
            break
    return f"{value:.{digits}f} {unit}"


def format_address(address: int) -> str:
    """Return an address in hexadecimal, of at least eight digits.

    >>> format_address(0xABCD)
    '0x0000abcd'
    """
    return f"0x{address:08x}"


def format_path(filename: str) -> str:
    """Return a path in a short form.

    It is relative if it lies below the working directory. Otherwise a home
    directory at its start becomes ``~``.
    """
    if not os.path.isabs(filename):
        return filename
    try:
        below = _below(filename, os.getcwd())
    except OSError:
        below = None
    if below is not None:
        return below
    below = _below(filename, os.path.expanduser("~"))
    return filename if below is None else os.path.join("~", below)


def _below(filename: str, folder: str) -> str | None:
    """Return the path from folder to filename; None if it is not inside."""
    start = os.path.join(folder, "")
    if os.path.dirname(start) == os.path.dirname(os.path.dirname(start)):
        return None
    return filename[len(start) :] if filename.startswith(start) else None


def plural(count: int, word: str, many: str | None = None) -> str:
    """Return a count with its noun in the singular or plural.

    >>> plural(1, "block"), plural(1200, "block")
    ('1 block', '1,200 blocks')
    """
    return f"{count:,} {word if count == 1 else many or word + 's'}"


def shorten(text: str, width: int) -> str:
    """Return text of at most width columns; its end may become dots.

    >>> shorten("stream = start(level=6)", 12)
    'stream = ...'
    """
    if len(text) <= width:
        return text
    return text[: max(width - 3, 0)] + "..."


def shorten_head(text: str, width: int) -> str:
    """Return text of at most width columns; its start may become dots.

    >>> shorten_head("/usr/lib/python/json/decoder.py", 18)
    '...json/decoder.py'
    """
    if len(text) <= width:
        return text
    return "..." + text[len(text) - max(width - 3, 0) :]


def printable(text: str) -> str:
    r"""Return text with control characters and surrogates escaped.

    >>> printable("a\x1b[0m\udc80")
    'a\\x1b[0m\\udc80'
    """
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    """Return the character, or its escape if it is not printable."""
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def quoted(words: object) -> str:
    """Return texts sorted, in double quotes, separated by commas.

    >>> quoted({"B", "A"})
    '"A", "B"'
    """
    texts = sorted(map(str, words))  # type: ignore[call-overload]
    return ", ".join(f'"{printable(text)}"' for text in texts)
