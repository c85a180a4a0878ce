"""A run of ``find_growth``: the number of calls, and the verdicts.

``Run.segments`` yields which calls to make. The caller makes them, in a plain
loop or in one that awaits, and stores a sequence number in ``edges`` at the
start of each call.
"""

from __future__ import annotations

import sys
from time import perf_counter

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._growth import patterns
from ffi_leak_tracker._growth.patterns import PARTS, Evidence, Verdict
from ffi_leak_tracker._growth.watch import Watch
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_hooks as hooks
from ffi_leak_tracker._tracking import detached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from ffi_leak_tracker._growth.watch import Key
    from ffi_leak_tracker._records.allocation import Allocation

WARMUP = 10  # calls
WARMUP_PART = 0.1  # fraction of ``seconds``
CALLS_FIRST = 64  # then twice as many, until the verdicts are clear
CALLS_FEW = 20  # at least, however long they take; confidence 0.95
CALLS_CLEAN = 1024  # at least, if nothing grows
CALLS_LEAK = 4096  # at least, for a leak: caches of 1,000 are common
CALLS_MAX = 16384
LEFT_BYTES = 64 << 20  # the calls end when they left so many
LEFT_BYTES_EVER = 1 << 30  # even before CALLS_FEW
LEFT_BLOCKS = 100_000  # likewise; each costs time and memory at a sample
LEFT_BLOCKS_EVER = 500_000
JUDGING = 2e-5  # seconds to judge a block, before it was measured


class Found:
    """The live blocks that calls left on one path, and the verdict."""

    __slots__ = ("blocks", "calls", "evidence", "keys", "verdict")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.blocks: list[Allocation] = []
        self.calls: list[int | None] = []  # None: not allocated by a call
        self.evidence = Evidence(0, ())
        self.verdict = Verdict(patterns.ONCE)

    def judge(self, watch: Watch, confidence: float) -> None:
        """Set ``evidence`` and ``verdict``."""
        events = {call for call in self.calls if call is not None}
        self.evidence = watch.evidence(self.keys, events)
        self.verdict = patterns.judge(self.evidence, confidence)

    def rates(self, warm: int) -> tuple[float, float]:
        """Return blocks and bytes that a call leaves; 0 without growth."""
        verdict, evidence = self.verdict, self.evidence
        if verdict.name == patterns.DRIFT:
            return _slope(evidence, evidence.levels), _slope(
                evidence, evidence.bytes
            )
        if verdict.name == patterns.GROWING:
            is_realloc = evidence.resized[-1] > evidence.resized[0]
            return 0.0, _slope(
                evidence, evidence.resized if is_realloc else evidence.bytes
            )
        if verdict.window is None or verdict.k is None:
            return 0.0, 0.0
        start, stop = (end + warm for end in verdict.window)
        left = [
            (call, block.size)
            for call, block in zip(self.calls, self.blocks, strict=True)
            if call is not None and start <= call < stop
        ]
        calls = len({call for call, _ in left}) * verdict.k
        return len(left) / calls, sum(size for _, size in left) / calls


def _slope(evidence: Evidence, levels: Sequence[int]) -> float:
    """Return the growth for each call, in the second half of the calls."""
    half = evidence.calls - evidence.calls // 2
    return (levels[-1] - levels[PARTS // 2]) / half


class Options(Record):
    """The options of ``find_growth``, which documents them."""

    warmup: int | None = field("Calls to make first; None: up to 10.")
    rounds: int | None = field("Calls that count; None: until it is clear.")
    seconds: float = field("Time for calls whose number is not given.")
    confidence: float = field("Needed to call something a leak.")
    gc: bool = field("Collect garbage before judging.")
    current_thread_only: bool = field("Ignore blocks of other threads.")

    def check(self) -> None:
        """Raise TypeError or ValueError for an option out of range."""
        check_range("warmup", self.warmup, 10**6)
        check_range("rounds", self.rounds, 10**6)
        if self.rounds == 0:
            raise ValueError("rounds must be 1 or more; None chooses")
        if not 0 < self.confidence < 1:
            raise ValueError(
                f"confidence must lie in 0 to 1, not {self.confidence!r}"
            )
        if not self.seconds > 0:
            raise ValueError(f"seconds must be above 0, not {self.seconds!r}")


class Run:
    """A run of calls; a context manager that keeps tracking on.

    Args:
        options: how many calls to make, and what to judge.
        ignore: returns true for blocks to leave out; None for none.
    """

    def __init__(
        self,
        options: Options,
        ignore: Callable[[Allocation], bool] | None,
    ) -> None:
        self._options, self._ignore = options, ignore
        #: Returns why what the filter leaves is no proof.
        self.filter_doubts: Callable[[], list[str]] = list
        self.watch = Watch(options.current_thread_only)
        self.edges = self.watch.edges
        self.seconds = 0.0  # duration of the calls
        self.cut: str | None = None  # reason for an end before it was clear
        self._deadline = 0.0
        self._a_call = 0.0  # durations when last measured: of a call,
        self._a_sample = self._a_collection = 0.0  # of these,
        self._a_judgement = JUDGING  # and to judge one block
        self._judged: list[Found] | None = None  # since the last sample

    def __enter__(self) -> Run:
        self._deadline = perf_counter() + self._options.seconds
        self._holder = core.gate_scope_begin(False)
        self._before = core.scope_figures(core.PROCESS).allocations
        self._before_in_all = _allocations_in_all()
        self._was_on = core.is_enabled()
        self._detaches = detached.count
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        core.gate_scope_end(self._holder)
        self.watch.end()

    @property
    def allocations(self) -> int:
        """Blocks that the process allocated during the run."""
        now = core.scope_figures(core.PROCESS)
        return now.allocations - self._before

    @property
    def unseen(self) -> int:
        """Blocks that were allocated in isolated scopes during the run."""
        in_all = _allocations_in_all() - self._before_in_all
        return max(0, in_all - self.allocations)

    @property
    def detaches(self) -> int:
        """How often a last attachment ended during the run."""
        return detached.count - self._detaches

    @property
    def is_on(self) -> bool:
        """Whether tracking was on at the start and is on now."""
        return bool(self._was_on and core.is_enabled())

    # --- how many calls -------------------------------------------------
    def segments(self) -> Iterator[range]:
        """Yield the indices in ``edges`` of the next calls, until the end."""
        yield from self._warm_up()
        if self._options.gc:
            self._collect()
        self._sample()
        target = (
            CALLS_FIRST
            if self._options.rounds is None
            else self._options.rounds
        )
        while True:
            yield from self._stage(target)
            has_garbage = self._options.gc and self.watch.has_left()
            if has_garbage and self._may_end():
                self._collect()
                self._sample(is_collected=True)
                has_garbage = False
            if self._options.rounds is not None or self._is_clear():
                return
            self.cut = self._bound()
            if self.cut and not has_garbage:
                return
            target = 2 * self.watch.calls

    def _may_end(self) -> bool:
        """Return whether the calls may end here, if garbage is collected.

        A collection takes half a second where there are many objects. From
        CALLS_CLEAN to CALLS_LEAK the calls end early only if nothing grows,
        and then no garbage is left.
        """
        if self._options.rounds is not None or self._bound():
            return True
        calls = self.watch.calls
        return calls == CALLS_CLEAN or calls >= CALLS_LEAK

    def _warm_up(self) -> Iterator[range]:
        if self._options.warmup is not None:
            yield from self._calls(self._options.warmup)
        else:
            for _ in range(WARMUP):
                yield from self._calls(1)
                if self.seconds > WARMUP_PART * self._options.seconds:
                    break
        self.watch.warm = self.watch.made
        self.seconds = 0.0

    def _stage(self, target: int) -> Iterator[range]:
        step = max(1, target // PARTS)
        watch = self.watch
        while watch.calls < target and not self._bound():
            count = min(step, target - watch.calls, self._affordable())
            yield from self._calls(count)
            self._sample()

    def _calls(self, count: int) -> Iterator[range]:
        marks = self.watch.open(count)
        start = perf_counter()
        yield marks
        duration = perf_counter() - start
        self.watch.close()
        self.seconds += duration
        self._a_call = duration / max(1, count)

    def _sample(self, *, is_collected: bool = False) -> None:
        start = perf_counter()
        self.watch.sample(is_collected=is_collected)
        self._a_sample = perf_counter() - start
        self._judged = None

    def _collect(self) -> None:
        start = perf_counter()
        _collect()
        self._a_collection = perf_counter() - start

    def _time_left(self) -> float:
        """Return the seconds for more calls: without those for the end."""
        end = self._a_sample + self.watch.left_blocks * self._a_judgement
        if self._options.gc and self.watch.has_left():
            end += self._a_collection + self._a_sample
        return self._deadline - perf_counter() - end

    def _affordable(self) -> int:
        """Return the number of calls that there is time for, at least 1."""
        if self._options.rounds is not None or not self._a_call:
            return CALLS_MAX
        return max(1, int(self._time_left() / self._a_call))

    def _bound(self) -> str | None:
        """Return the reason to make no more calls, or None."""
        if self._options.rounds is not None:
            return None
        if self.watch.left_bytes > LEFT_BYTES_EVER:
            return "the calls left 1 GiB behind"
        if self.watch.left_blocks > LEFT_BLOCKS_EVER:
            return f"the calls left {LEFT_BLOCKS_EVER:,} blocks behind"
        if self.watch.calls < CALLS_FEW:
            return None
        if self.watch.left_bytes > LEFT_BYTES:
            return "the calls left 64 MiB behind"
        if self.watch.left_blocks > LEFT_BLOCKS:
            return f"the calls left {LEFT_BLOCKS:,} blocks behind"
        if self._time_left() <= 0:
            return f"seconds={self._options.seconds:g} were over"
        return None

    def _is_clear(self) -> bool:
        calls = self.watch.calls
        if not CALLS_CLEAN <= calls < CALLS_MAX:
            return calls >= CALLS_MAX
        verdicts = [one.verdict for one in self.judge()]
        return all(
            one.is_settled and (calls >= CALLS_LEAK or not one.is_leak)
            for one in verdicts
        )

    # --- verdicts -------------------------------------------------------
    def judge(self) -> list[Found]:
        """Return a verdict for each call path with live or enlarged blocks."""
        if self._judged is None:
            start = perf_counter()
            found = self._by_path()
            for one in found:
                one.judge(self.watch, self._options.confidence)
            self._judged = self._joined(found)
            blocks = max(100, self.watch.left_blocks)
            self._a_judgement = (perf_counter() - start) / blocks
        return self._judged

    def _by_path(self) -> list[Found]:
        """Group live blocks by call path, type, kind and release."""
        paths: dict[object, Found] = {}
        known: dict[Key, Found] = {}
        for key, block, call in self.watch.survivors():
            if self._ignore is not None and self._ignore(block):
                continue
            found = known.get(key)
            if found is None:
                names = block.type, block.kind, block.release
                path = block.frames, block.native_frames, names
                found = known[key] = paths.setdefault(path, Found())
                found.keys.add(key)
            found.blocks.append(block)
            found.calls.append(call)
        return list(paths.values())

    def _joined(self, found: list[Found]) -> list[Found]:
        """Join paths that are a leak of one line only when taken together.

        A leak that is reached by many call paths leaves few blocks on each.
        """
        lines: dict[object, list[Found]] = {}
        kept: list[Found] = []
        for one in found:
            first = one.blocks[0]
            if one.verdict.is_leak or first.site is None:
                kept.append(one)
                continue
            line = first.site, first.type, first.kind, first.release
            lines.setdefault(line, []).append(one)
        for many in lines.values():
            kept += self._join(many) if len(many) > 1 else many
        return kept

    def _join(self, many: list[Found]) -> list[Found]:
        both = Found()
        for one in many:
            both.keys |= one.keys
            both.blocks += one.blocks
            both.calls += one.calls
        both.judge(self.watch, self._options.confidence)
        return [both] if both.verdict.is_leak else many


def _allocations_in_all() -> int:
    return sum(counts[0] for *_, counts in hooks.thread_figures())


def _collect() -> None:
    import gc

    gc.collect()
    if sys.implementation.name == "pypy":
        gc.collect()  # finalizers run after the first collection
