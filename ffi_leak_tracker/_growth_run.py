"""Call a function many times and watch what its calls leave behind.

Each call begins with a mark in the sequence numbers, so a block tells by its
own number which call made it. ``segments`` says how many calls are due;
whoever makes them (a loop, or a loop that awaits) appends the marks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from time import perf_counter

from ffi_leak_tracker import _core_api as core
from ffi_leak_tracker import _core_hooks as hooks
from ffi_leak_tracker import _growth_patterns as patterns
from ffi_leak_tracker._growth_patterns import PARTS, Evidence, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import TypeAlias

    from ffi_leak_tracker._allocation import Allocation

    Key: TypeAlias = tuple[int, int]  # the core's numbers of path and type
    # After how many calls: blocks and bytes they left, bytes gained by realloc.
    Level: TypeAlias = tuple[int, Counter[Key], Counter[Key], Counter[Key]]

WARMUP = 10  # calls; psleak's default
WARMUP_PART = 0.1  # of the time there is
CALLS_FIRST = 64  # then twice as many, until it is clear
CALLS_FEW = 20  # are made however long they take: a confidence of 0.95
CALLS_CLEAN = 1024  # when nothing grows
CALLS_LEAK = 4096  # before it is called a leak: caches of 1,000 are common
CALLS_MAX = 16384
LEFT_BYTES = 64 << 20  # what the calls may leave behind
LEFT_BYTES_EVER = 1 << 30  # also before CALLS_FEW
OUTSIDE = -1  # between calls: our own bookkeeping, other threads

PATH, TYPE, SIZE, SEQUENCE, THREAD = 3, 6, 1, 2, 5  # of a row


class Found:
    """The survivors of one call path, and what became of their like."""

    __slots__ = ("blocks", "calls", "evidence", "keys", "verdict")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.blocks: list[Allocation] = []
        self.calls: list[int | None] = []  # None: not made by a call
        self.evidence = Evidence(0, ())
        self.verdict = Verdict(patterns.ONCE)

    def judge(self, evidence: Evidence, confidence: float) -> None:
        """Settle what it is."""
        self.evidence = evidence
        self.verdict = patterns.judge(evidence, confidence)


class Run:
    """A run of calls; a context manager that keeps tracking on.

    Args:
        warmup: calls to make first; None: up to 10.
        rounds: calls to make then; None: until it is clear, see above.
        seconds: for calls where their number is not given.
        confidence: that is wanted to call something a leak.
        gc: collect garbage before judging.
        own_thread: ignore what other threads allocate.
        ignore: is true for blocks to leave out; None for none.
    """

    def __init__(
        self,
        warmup: int | None,
        rounds: int | None,
        seconds: float,
        confidence: float,
        gc: bool,
        own_thread: bool,
        ignore: Callable[[Allocation], bool] | None,
    ) -> None:
        self._warmup, self._rounds = warmup, rounds
        self._seconds, self._confidence = seconds, confidence
        self._gc, self._own_thread, self._ignore = gc, own_thread, ignore
        self.edges: list[int] = []
        self._owners: list[int] = []
        self.made = 0  # calls, the warm-up among them
        self.warm = 0
        self.call_seconds = 0.0
        self.left_bytes = 0
        self.is_on = False
        self._live: dict[int, tuple[int, ...]] = {}
        self._sizes: dict[int, int] = {}
        self._levels: list[Level] = []
        self._deaths: dict[Key, int] = {}
        self._not_emptied: set[Key] = set()
        self._blocks = core.BlockList(b"", 0.0)

    def __enter__(self) -> Run:
        core.gate_scope(+1)
        self.is_on = bool(core.is_enabled())
        self._before = core.scope_figures(core.PROCESS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        core.gate_scope(-1)

    # --- how many calls -------------------------------------------------
    @property
    def calls(self) -> int:
        """Calls after the warm-up."""
        return self.made - self.warm

    @property
    def begun(self) -> int:
        """Calls that were begun, the warm-up among them."""
        return self.made + len(self.edges) - len(self._owners)

    @property
    def allocations(self) -> int:
        """Blocks allocated in the process meanwhile."""
        now = core.scope_figures(core.PROCESS)
        return now.allocations - self._before.allocations

    def segments(self) -> Iterator[int]:
        """How many calls to make next, each time; then the run is over."""
        yield from self._warm_up()
        self._collect()
        self._sample()
        target = CALLS_FIRST if self._rounds is None else self._rounds
        while True:
            yield from self._stage(target)
            if self._collect():
                self._sample(is_collected=True)
            if self._rounds is not None or self.stopped or self._is_clear():
                return
            target = 2 * self.calls

    def _warm_up(self) -> Iterator[int]:
        if self._warmup is not None:
            yield from self._calls(self._warmup)
        else:
            for _ in range(WARMUP):
                yield from self._calls(1)
                if self.call_seconds > WARMUP_PART * self._seconds:
                    break
        self.warm = self.made
        self.call_seconds = 0.0

    def _stage(self, target: int) -> Iterator[int]:
        step = max(1, target // PARTS)
        while self.calls < target and not self.stopped:
            yield from self._calls(min(step, target - self.calls))
            self._sample()

    def _calls(self, count: int) -> Iterator[int]:
        """A segment: its calls, then an edge that nothing below belongs to."""
        start = perf_counter()
        yield count
        self.call_seconds += perf_counter() - start
        self._owners.extend(range(self.made, self.made + count))
        self.made += count
        self.edges.append(core.mark())
        self._owners.append(OUTSIDE)
        assert len(self.edges) == len(self._owners)

    @property
    def stopped(self) -> str | None:
        """Why there are no more calls though more were wanted, or None."""
        if self._rounds is not None:
            return None
        if self.left_bytes > LEFT_BYTES_EVER:
            return "the calls left 1 GiB behind"
        if self.calls < CALLS_FEW:
            return None
        if self.left_bytes > LEFT_BYTES:
            return "the calls left 64 MiB behind"
        if self.call_seconds > self._seconds:
            return f"seconds={self._seconds:g} were over"
        return None

    def _is_clear(self) -> bool:
        if self.calls < CALLS_CLEAN:
            return False
        if self.calls >= CALLS_MAX:
            return True
        verdicts = [one.verdict for one in self.judge()]
        return all(
            one.is_settled and (self.calls >= CALLS_LEAK or not one.is_leak)
            for one in verdicts
        )

    # --- what is live ---------------------------------------------------
    def _collect(self) -> bool:
        """Collect garbage if calls left something; was it done?"""
        if not (self._gc and (self.left_bytes or not self._levels)):
            return False
        import gc

        gc.collect()
        gc.collect()  # PyPy runs finalizers after the first
        return True

    def _call_of(self, sequence: int) -> int | None:
        """The call that made a block; None if it was none."""
        at = bisect_right(self.edges, sequence) - 1
        if at < 0 or self._owners[at] == OUTSIDE:
            return None
        return self._owners[at]

    def _sample(self, is_collected: bool = False) -> None:
        core.hooks_refresh()
        self._blocks = core.blocks(core.PROCESS)
        rows = self._blocks.rows()
        if self._own_thread:
            own = hooks.thread_number()
            rows = [row for row in rows if row[THREAD] == own]
        now = {row[SEQUENCE]: row for row in rows}
        level: Counter[Key] = Counter()
        total: Counter[Key] = Counter()
        resized: Counter[Key] = Counter()
        for sequence, row in now.items():
            key = row[PATH], row[TYPE]
            gained = row[SIZE] - self._sizes.setdefault(sequence, row[SIZE])
            if gained:
                resized[key] += gained
            if self._call_of(sequence) is not None:
                level[key] += 1
                total[key] += row[SIZE]
        if not is_collected:  # what that freed was gone before
            self._note_deaths(now, level)
        self.left_bytes = sum(total.values()) + sum(resized.values())
        self._levels.append((self.calls, level, total, resized))
        self._live = now

    def _note_deaths(
        self, now: dict[int, tuple[int, ...]], level: Counter[Key]
    ) -> None:
        """Note how old they were, and whether others outlived a fall."""
        if not self._levels:
            return
        then, before, _, _ = self._levels[-1]
        survived: set[Key] = set()
        for sequence, row in self._live.items():
            call = self._call_of(sequence)
            if call is None:
                continue
            key = row[PATH], row[TYPE]
            if sequence in now:
                survived.add(key)
                continue
            age = then + self.warm - call
            self._deaths[key] = max(age, self._deaths.get(key, 0))
        fell = {key for key in before if level[key] < before[key]}
        self._not_emptied |= fell & survived

    # --- judging --------------------------------------------------------
    def judge(self) -> list[Found]:
        """Judge each call path that calls left blocks of, or enlarged."""
        found = list(self._by_path(self._survivors()).values())
        for one in found:
            self._judge(one)
        return self._joined(found)

    def _survivors(self) -> Iterator[tuple[Key, Allocation, int | None]]:
        resized = self._levels[-1][-1]
        for position, row in enumerate(self._blocks.rows()):
            if row[SEQUENCE] not in self._live:
                continue  # another thread's
            call = self._call_of(row[SEQUENCE])
            key = row[PATH], row[TYPE]
            if call is None and key not in resized:
                continue
            block = self._blocks[position]
            if self._ignore is None or not self._ignore(block):
                yield key, block, call

    @staticmethod
    def _by_path(
        survivors: Iterator[tuple[Key, Allocation, int | None]],
    ) -> dict[object, Found]:
        """Gather them by what a report shows, as ``Snapshot.groups`` does."""
        paths: dict[object, Found] = {}
        known: dict[Key, Found] = {}
        for key, block, call in survivors:
            found = known.get(key)
            if found is None:
                names = block.type, block.kind, block.release
                path = block.frames, block.native_frames, names
                found = known[key] = paths.setdefault(path, Found())
                found.keys.add(key)
            found.blocks.append(block)
            found.calls.append(call)
        return paths

    def _judge(self, found: Found) -> None:
        keys = found.keys
        events = {
            call - self.warm for call in found.calls if call is not None
        }
        ages = [self._deaths[key] for key in keys if key in self._deaths]
        evidence = Evidence(
            self.calls,
            sorted(events),
            max(ages, default=None),
            *self._grid(keys),
            not keys & self._not_emptied,
        )
        found.judge(evidence, self._confidence)

    def _grid(self, keys: set[Key]) -> Iterator[list[int]]:
        """Blocks, bytes and bytes gained after each of 32 equal parts."""
        after = [level[0] for level in self._levels]
        ends = [part * self.calls // PARTS for part in range(PARTS + 1)]
        chosen = [self._levels[bisect_right(after, end) - 1] for end in ends]
        for i in (1, 2, 3):
            yield [sum(level[i][key] for key in keys) for level in chosen]  # type: ignore[index]

    def _joined(self, found: list[Found]) -> list[Found]:
        """Join paths that are nothing each, but a leak of one line together.

        A leak that is reached by many ways leaves too little on each.
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
        self._judge(both)
        return [both] if both.verdict.is_leak else many

    def rates(self, found: Found) -> tuple[float, float]:
        """Blocks and bytes that a call leaves; 0 for what does not grow."""
        verdict, evidence = found.verdict, found.evidence
        if verdict.name == patterns.DRIFT:
            blocks, total = map(_slope, (evidence.levels, evidence.bytes))
            return blocks / self.calls, total / self.calls
        if verdict.name == patterns.GROWING:
            is_realloc = evidence.resized[-1] > evidence.resized[0]
            gained = evidence.resized if is_realloc else evidence.bytes
            return 0.0, _slope(gained) / self.calls
        if verdict.window is None or verdict.k is None:
            return 0.0, 0.0
        start, stop = (end + self.warm for end in verdict.window)
        sizes = [
            (call, block.size)
            for call, block in zip(found.calls, found.blocks, strict=True)
            if call is not None and start <= call < stop
        ]
        events = len({call for call, _ in sizes}) * verdict.k
        return len(sizes) / events, sum(size for _, size in sizes) / events


def _slope(levels: Sequence[int]) -> float:
    """Growth in all the calls, as the second half has it."""
    return 2.0 * (levels[-1] - levels[PARTS // 2])
