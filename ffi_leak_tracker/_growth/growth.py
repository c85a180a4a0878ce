"""``find_growth``: the call paths that leave blocks with each call."""

from __future__ import annotations

from ffi_leak_tracker._base.decorate import is_coroutine_function
from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._growth import patterns
from ffi_leak_tracker._growth.records import GrowthReport, PathGrowth
from ffi_leak_tracker._growth.run import Found, Options, Run
from ffi_leak_tracker._records.allocation import Frame
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._tracking import sampling, unseen, view
from ffi_leak_tracker._tracking.scopes import add_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ffi_leak_tracker._records.filters import FilterLike


def find_growth(
    function: Callable[..., object],
    *args: Any,
    warmup: int | None = None,
    rounds: int | None = None,
    seconds: float = 2.0,
    confidence: float = 0.95,
    gc: bool = True,
    current_thread_only: bool = False,
    filter: FilterLike = None,
    **kwargs: Any,
) -> GrowthReport:
    """Call a function many times; find the call paths that leak.

    Tracking is on during the calls. To see the allocations of native
    libraries, use ``LeakTracker.attach`` around it. The call that allocated
    each live block is known. Leaks are distinguished from caches and rings by
    the times at which the live blocks were allocated, and by the ages of the
    freed ones.

    Args:
        function: called with the other positional arguments, and with the
            keyword arguments that are not options. For a function with a
            keyword of the same name as an option, use ``functools.partial``.
        warmup: number of calls that are not judged; None: 10, or fewer if
            they are slow.
        rounds: number of calls that are judged. None: 1,024 if nothing grows;
            otherwise until it is clear, for a leak 4,096 to 16,384.
        seconds: without ``rounds``, the calls end after about this time (but
            not before 20 calls), or when they have left 64 MiB.
        confidence: needed to report a leak, between 0 and 1. For m leaks at
            regular intervals it is (m + 1) / (m + 2); for irregular ones 1
            minus the p-value of "the second half of the calls leaks half as
            often as the first half".
        gc: collect garbage before the first call and before judging.
        current_thread_only: ignore the blocks of other threads.
        filter: blocks to leave out, besides ``LeakTracker.global_filter``.

    Returns: a ``GrowthReport``, which is true if there are leaks;
        ``assert_none()`` raises for them. A cache that is not full after all
        calls, or a ring that is larger, looks like a leak.

    Raises: TypeError if function is a coroutine function (use
        ``find_growth_async``) or not callable; ValueError for options out of
        range. Errors of the function are not caught.

    Cost: one microsecond for each call, and about 32 snapshots of O(live
        blocks) for each doubling of the calls.

    >>> from ffi_leak_tracker import find_growth, diagnostic_calloc
    >>> growth = find_growth(diagnostic_calloc, "int32_t", 4, rounds=100)
    >>> growth.leaks[0].pattern, growth.leaks[0].bytes_per_call
    ('every call', 16.0)
    """
    if is_coroutine_function(function):
        raise TypeError(
            "find_growth calls plain functions: await find_growth_async(...) "
            "for a coroutine function"
        )
    options = Options(
        warmup, rounds, seconds, confidence, gc, current_thread_only
    )
    run = _run(function, options, filter)
    mark, edges = core.mark, run.edges
    result: object = None
    with run:
        try:
            for calls in run.segments():
                for i in calls:
                    edges[i] = mark()
                    result = function(*args, **kwargs)
                if hasattr(result, "__await__"):
                    _refuse(result)
        except BaseException as error:
            add_note(error, _where(run))
            raise
        return _report(run)


async def find_growth_async(
    function: Callable[..., Awaitable[object]],
    *args: Any,
    warmup: int | None = None,
    rounds: int | None = None,
    seconds: float = 2.0,
    confidence: float = 0.95,
    gc: bool = True,
    current_thread_only: bool = False,
    filter: FilterLike = None,
    **kwargs: Any,
) -> GrowthReport:
    """Do as ``find_growth`` for a coroutine function, one call at a time.

    The options are those of ``find_growth``. Blocks that other tasks allocate
    meanwhile count, unless ``filter`` leaves them out.
    """
    options = Options(
        warmup, rounds, seconds, confidence, gc, current_thread_only
    )
    run = _run(function, options, filter)
    mark, edges = core.mark, run.edges
    with run:
        try:
            for calls in run.segments():
                for i in calls:
                    edges[i] = mark()
                    await function(*args, **kwargs)
        except BaseException as error:
            add_note(error, _where(run))
            raise
        return _report(run)


def _run(function: object, options: Options, filter: FilterLike) -> Run:
    if not callable(function):
        raise TypeError(
            "find_growth takes a function and its arguments, not "
            f"{type(function).__name__}"
        )
    options.check()
    whole = view.global_filter() | LeakFilter.of(filter)
    ignore = None if whole == LeakFilter.ignore_none() else whole.ignore
    return Run(options, ignore)


def _refuse(result: Any) -> None:
    if hasattr(result, "close"):
        result.close()  # otherwise Python warns that it was not awaited
    raise TypeError(
        "the function returned something to await: await "
        "find_growth_async(...) instead"
    )


def _where(run: Run) -> str:
    return f"in call {run.watch.begun} of find_growth"


# --- the report -----------------------------------------------------------
def _report(run: Run) -> GrowthReport:
    found = run.judge()
    paths = sorted([_path(run, one) for one in found], key=_rank)
    shown = [one for one in found if one.verdict.is_leak] or [
        one for one in found if one.verdict.name == patterns.RARE
    ]
    blocks = [block for one in shown for block in one.blocks]
    blocks.sort(key=lambda block: block.sequence)
    return GrowthReport(
        tuple(paths),
        run.watch.calls,
        run.watch.warm,
        run.seconds,
        run.allocations,
        (*_notes(run), *_unseen(run)),
        Snapshot(tuple(blocks)),
        unseen.watched_now(),
        _unseen(run),
    )


def _rank(one: PathGrowth) -> tuple[bool, bool, float, int]:
    is_rare = one.pattern == patterns.RARE
    return not one.is_leak, not is_rare, -one.bytes_per_call, -one.bytes


def _unseen(run: Run) -> tuple[str, ...]:
    """Return why leaks of the calls may not have been seen."""
    found = unseen.doubts()
    if not run.is_on and not found:
        found.append("not all was recorded: tracking was switched off")
    if run.detaches:
        found.append(
            "an attachment ended during the calls: what lived then is not "
            "judged; call LeakTracker.attach() around find_growth"
        )
    nothing = unseen.NOTHING
    has_libraries = len(unseen.watched_now()) > 1
    if not (run.allocations or run.unseen or found or has_libraries):
        found.append(nothing)
    return tuple(found)


def _notes(run: Run) -> list[str]:
    notes = view.limits_of(core.self_figures())
    if run.cut:
        notes.append(f"not more calls: {run.cut}")
    if run.unseen:
        notes.append(
            f"{plural(run.unseen, 'block')} of isolated scopes not seen: use "
            "scope(), or run_scoped(isolated=False), in the function"
        )
    elif not run.allocations:
        notes.append("no call allocated anything that is recorded")
    if not run.watch.is_watched:
        notes.append(
            "so many blocks were live before that they were not watched for "
            "growth by realloc"
        )
    if sampling.mean_bytes:
        notes.append("sampled: rates are of recorded blocks, not of all")
    return notes


def _path(run: Run, found: Found) -> PathGrowth:
    verdict, first = found.verdict, found.blocks[0]
    calls = sorted({call for call in found.calls if call is not None})
    left = [
        block
        for block, call in zip(found.blocks, found.calls, strict=True)
        if call is not None
    ]
    gained = found.evidence.resized[-1]
    to_number = 1 - run.watch.warm
    return PathGrowth(
        verdict.name,
        verdict.confidence,
        verdict.k,
        *found.rates(run.watch.warm),
        len(left),
        sum(block.size for block in left) + gained,
        len(calls),
        calls[0] + to_number if calls else None,
        calls[-1] + to_number if calls else None,
        first.type,
        first.kind,
        first.release,
        _common([block.frames for block in found.blocks]),
        first.native_frames,
    )


def _common(paths: list[tuple[Frame, ...]]) -> tuple[Frame, ...]:
    """Return the innermost frames that all paths share."""
    longest = paths[0]
    for path in {id(path): path for path in paths}.values():
        same = 0
        while same < min(len(longest), len(path)) and (
            longest[same] == path[same]
        ):
            same += 1
        longest = longest[:same]
    return longest
