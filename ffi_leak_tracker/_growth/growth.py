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
from ffi_leak_tracker._tracking import sampling, type_names, unseen, view
from ffi_leak_tracker._tracking.scopes import add_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Awaitable, Callable
    from typing import Any, TypeAlias

    from ffi_leak_tracker._records.filters import FilterLike

    Raises: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


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
    raises: Raises | None = None,
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
        seconds: without ``rounds``, the time for all, warm-up and judging
            included. The calls end when it is nearly over (but not before 20
            calls), or when they have left 64 MiB or 100,000 blocks.
        confidence: needed to report a leak, between 0 and 1. For m leaks at
            regular intervals it is (m + 1) / (m + 2); for irregular ones 1
            minus the p-value of "the second half of the calls leaks half as
            often as the first half".
        gc: collect garbage before the first call and before judging.
        current_thread_only: ignore the blocks of other threads.
        filter: blocks to leave out, besides ``LeakTracker.global_filter``.
        raises: an exception class, or a tuple of classes. Each call must raise
            one of these. So leaks of an error path are found.

    Returns: a ``GrowthReport``, which is true if there are leaks;
        ``assert_none()`` raises for them. A cache that is not full after all
        calls, or a ring that is larger, looks like a leak.

    Raises: TypeError if function is a coroutine function (use
        ``find_growth_async``) or not callable, or if ``raises`` is no class of
        exceptions; ValueError for options out of range; AssertionError if a
        call raised nothing and ``raises`` is given. Other errors of the
        function are not caught.

    Cost: one microsecond for each call; once, a look at all live blocks if
        they are at most 50,000; 32 samples for the first 64 calls and 16 for
        each doubling after. A sample looks at the blocks that the calls left,
        and at older ones whose addresses are near.

    >>> from ffi_leak_tracker import find_growth, diagnostic_calloc
    >>> growth = find_growth(diagnostic_calloc, "int32_t", 4, rounds=100)
    >>> growth.leaks[0].pattern, growth.leaks[0].bytes_per_call
    ('every call', 16.0)

    An error path that leaks:

    >>> def parse(text):
    ...     diagnostic_calloc("char", 100)
    ...     return int(text)
    >>> growth = find_growth(parse, "x", raises=ValueError, rounds=100)
    >>> growth.leaks[0].bytes_per_call
    100.0
    """
    if is_coroutine_function(function):
        raise TypeError(
            "find_growth calls plain functions: await find_growth_async(...) "
            "for a coroutine function"
        )
    options = Options(
        warmup, rounds, seconds, confidence, gc, current_thread_only
    )
    run = _run(function, options, filter, raises)
    mark, edges = core.mark, run.edges
    result: object = None
    with run:
        try:
            for calls in run.segments():
                if raises is not None:
                    _failing(calls, edges, raises, function, args, kwargs)
                    continue
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
    raises: Raises | None = None,
    **kwargs: Any,
) -> GrowthReport:
    """Do as ``find_growth`` for a coroutine function, one call at a time.

    The options are those of ``find_growth``. Blocks that other tasks allocate
    meanwhile count, unless ``filter`` leaves them out.
    """
    options = Options(
        warmup, rounds, seconds, confidence, gc, current_thread_only
    )
    run = _run(function, options, filter, raises)
    mark, edges = core.mark, run.edges
    expected = () if raises is None else raises
    with run:
        try:
            for calls in run.segments():
                for i in calls:
                    edges[i] = mark()
                    try:
                        await function(*args, **kwargs)
                    except expected:
                        continue
                    if raises is not None:
                        raise _nothing_raised(raises)
        except BaseException as error:
            add_note(error, _where(run))
            raise
        return _report(run)


def _failing(
    calls: range,
    edges: array[int],
    raises: Raises,
    function: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Make calls each of which must raise."""
    mark = core.mark
    for i in calls:
        edges[i] = mark()
        try:
            result = function(*args, **kwargs)
        except raises:
            continue
        if hasattr(result, "__await__"):
            _refuse(result)
        raise _nothing_raised(raises)


def _nothing_raised(raises: Raises) -> AssertionError:
    classes = raises if isinstance(raises, tuple) else (raises,)
    names = " or ".join(one.__name__ for one in classes)
    return AssertionError(f"the call did not raise {names}")


def _check_raises(raises: object) -> None:
    classes = raises if isinstance(raises, tuple) else (raises,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(
                "raises must be a class of exceptions or a tuple of such "
                f"classes, not {one!r}"
            )
    if not classes:
        raise TypeError("raises must name at least one class of exceptions")


def _run(
    function: object,
    options: Options,
    filter: FilterLike,
    raises: object,
) -> Run:
    if not callable(function):
        raise TypeError(
            "find_growth takes a function and its arguments, not "
            f"{type(function).__name__}"
        )
    options.check()
    if raises is not None:
        _check_raises(raises)
    whole = view.global_filter() | LeakFilter.of(filter)
    ignore = None if whole == LeakFilter.ignore_none() else whole.ignore
    run = Run(options, ignore)
    run.filter_doubts = lambda: type_names.doubts_on(whole)
    return run


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
    found = [*unseen.doubts(), *run.filter_doubts()]
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
