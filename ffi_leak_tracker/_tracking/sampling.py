"""Estimates of all blocks from the sampled ones."""

from __future__ import annotations

from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._base.record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ffi_leak_tracker._seam.blocks import BlockList

#: Mean number of bytes for each recorded block; 0: all are recorded.
mean_bytes = 0


class Estimate(Record):
    """An unbiased estimate of the number and bytes of all blocks.

    A block of s bytes is recorded with the probability p = 1 - exp(-s / mean),
    so each recorded block stands for 1 / p blocks (Horvitz and Thompson,
    1952). The errors are standard errors: the true value is within one of them
    with a probability of about two thirds.

    >>> Estimate.of([100, 100], 100).blocks
    3.16...
    >>> Estimate.of([100, 100], 0).blocks_error
    0.0
    """

    blocks: float = field("Estimated number of blocks.")
    bytes: float = field("Estimated bytes.")
    blocks_error: float = field("Standard error of blocks.")
    bytes_error: float = field("Standard error of bytes.")

    @classmethod
    def of(cls, sizes: Iterable[int], mean: int) -> Estimate:
        """Return the estimate for recorded blocks of these sizes.

        Args:
            mean: the mean number of bytes for each recorded block; 0 if all
                blocks are recorded.
        """
        from math import expm1, sqrt

        blocks = total = blocks_variance = bytes_variance = 0.0
        for size in sizes:
            chance = -expm1(-max(size, 1) / mean) if mean else 1.0
            blocks += 1 / chance
            total += size / chance
            blocks_variance += (1 - chance) / chance**2
            bytes_variance += size**2 * (1 - chance) / chance**2
        return cls(blocks, total, sqrt(blocks_variance), sqrt(bytes_variance))


def notes_on(found: BlockList, mean: int) -> list[str]:
    """Return what a report of these blocks must say of sampling.

    Args:
        mean: bytes for each recorded block, on average, when they were
            recorded.
    """
    if not mean:
        return []
    guess = Estimate.of(found.sizes_of("hook"), mean)
    return [
        f"sampled: of what hooks see, a block for each "
        f"{format_bytes(mean)} is recorded; estimated in all "
        f"{plural(round(guess.blocks), 'block')} (+- "
        f"{round(guess.blocks_error)}), {format_bytes(round(guess.bytes))} "
        f"(+- {format_bytes(round(guess.bytes_error))})"
    ]
