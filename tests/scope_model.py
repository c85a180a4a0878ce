"""A model of scopes, contexts and threads, and a world that it is compared to.

A step is a tuple of four numbers: what to do, and with which thread, context
and scope of those that exist. So any tuples make a sensible run.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam.blocks import BlockList

THREADS = 3
Step = tuple[int, int, int, int]


@dataclass(eq=False)
class ModelScope:
    """What the model knows of a scope."""

    name: str
    real: Any
    is_process: bool
    parent: ModelScope | None
    isolated: bool = False
    opener: int = -1
    bare: bool = False
    home: ModelScope | None = None  # above which scope it was placed
    previous: ModelScope | None = None
    is_open: bool = True
    uncertain: int = 0


@dataclass(eq=False)
class ModelContext:
    """A context, or that of a thread."""

    real: contextvars.Context | None
    value: ModelScope | None = None


class Worker:
    """A thread that does what it is told, in a context if one is given."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for task in iter(self._tasks.get, None):
            try:
                self._done.put((task(), None))
            except BaseException as error:
                self._done.put((None, error))

    def do(self, function: Callable[[], Any]) -> Any:
        """Return what a function returns in the thread."""
        self._tasks.put(function)
        result, error = self._done.get()
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """End the thread."""
        self._tasks.put(None)
        self._thread.join()


def live(scope: ModelScope | None) -> ModelScope | None:
    """Return the scope, or the nearest one around it that is open."""
    while scope is not None and not scope.is_open:
        scope = scope.parent
    return scope


@dataclass
class World:
    """The real scopes beside their model."""

    takes: list[Callable[[int], Any]]
    in_c_thread: Callable[[int], Any]
    workers: list[Worker] = field(default_factory=list)
    contexts: list[ModelContext] = field(default_factory=list)
    scopes: list[ModelScope] = field(default_factory=list)
    roots: list[ModelScope] = field(default_factory=list)
    blocks: dict[int, str | None] = field(default_factory=dict)
    has_process_scopes: bool = False

    def __post_init__(self) -> None:
        self.workers = [Worker() for _ in range(THREADS)]
        self.contexts = [ModelContext(None) for _ in range(THREADS)]

    # --- the model ------------------------------------------------------
    def top(self) -> ModelScope | None:
        return self.roots[-1] if self.roots else None

    def below(self, scope: ModelScope | None) -> list[ModelScope]:
        return [
            one
            for one in self.scopes
            if one.is_open and not one.is_process and one.home is scope
        ]

    def root_of(self, scope: ModelScope) -> ModelScope | None:
        while not scope.is_process:
            if scope.home is None:
                return None
            scope = scope.home
        return scope

    def unclaimed(self) -> ModelScope | None:
        at = self.top()
        while len(below := self.below(at)) == 1:
            (at,) = below
        pending = below
        while pending:  # in doubt
            one = pending.pop()
            one.uncertain += 1
            pending += self.below(one)
        return at

    def expected(self, thread: int, context: ModelContext) -> ModelScope | None:
        if all(one.is_process or not one.is_open for one in self.scopes):
            return self.top()  # contexts are not read then
        if context.value is not None:
            found = live(context.value)
            return self.top() if found is None else found
        opened = [
            one
            for one in self.scopes
            if one.is_open and not one.is_process and one.opener == thread
        ]
        is_entered = context.real is not None
        if opened and (is_entered or not any(one.bare for one in opened)):
            return self.top()
        return self.unclaimed()

    # --- steps ----------------------------------------------------------
    def run_in(
        self, thread: int, context: ModelContext, function: Callable[[], Any]
    ) -> Any:
        def inside() -> Any:
            if context.real is None:
                return function()
            return context.real.run(function)

        return self.workers[thread].do(inside)

    def place(self, a: int, b: int) -> tuple[int, ModelContext]:
        """Return a thread, and one of the contexts that it may enter."""
        thread = a % THREADS
        usable = [self.contexts[thread], *self.contexts[THREADS:]]
        return thread, usable[b % len(usable)]

    def enter(self, a: int, b: int, c: int) -> None:
        thread, context = self.place(a, b)
        real = LeakTracker.scope(f"s{len(self.scopes)}", isolated=c % 5 == 0)
        around = live(context.value)
        near = around if around and not around.is_process else None
        made = ModelScope(
            real.name,
            real,
            False,
            self.top() if around is None else around,
            c % 5 == 0,
            thread,
            context.real is None,
            previous=near,
        )
        self.run_in(thread, context, real.__enter__)
        is_near = near is not None and self.root_of(near) is self.top()
        made.home = near if is_near else self.top()
        context.value = made
        self.scopes.append(made)

    def enter_process(self, a: int) -> None:
        real = LeakTracker.scope(f"p{len(self.scopes)}", where="process")
        made = ModelScope(real.name, real, True, self.top())
        made.home = self.top()
        self.workers[a % THREADS].do(real.__enter__)
        self.scopes.append(made)
        self.roots.append(made)
        self.has_process_scopes = True

    def leave(self, a: int, b: int, c: int) -> None:
        still = [one for one in self.scopes if one.is_open]
        if not still:
            return
        thread, context = self.place(a, b)
        self._leave(still[c % len(still)], thread, context)

    def _leave(
        self, scope: ModelScope, thread: int, context: ModelContext
    ) -> None:
        end = scope.real.__exit__
        self.run_in(thread, context, lambda: end(None, None, None))
        scope.is_open = False
        for one in self.scopes:
            if one.home is scope:
                one.home = scope.home
        if scope.is_process:
            self.roots.remove(scope)
        elif context.value is scope:
            context.value = scope.previous

    def new_context(self, a: int, b: int, c: int) -> None:
        if len(self.contexts) > THREADS + 6:
            return
        thread, context = self.place(a, b)
        if c % 3 == 0:
            made = ModelContext(contextvars.Context())
        else:
            real = self.run_in(thread, context, contextvars.copy_context)
            made = ModelContext(real, context.value)
        self.contexts.append(made)

    def take(self, a: int, b: int, c: int) -> None:
        thread, context = self.place(a, b)
        size = len(self.blocks) + 1
        found = self.expected(thread, context)
        self.blocks[size] = None if found is None else found.name
        take = self.takes[c % len(self.takes)]
        self.run_in(thread, context, lambda: take(size))

    def take_in_c_thread(self) -> None:
        size = len(self.blocks) + 1
        found = self.unclaimed()
        self.blocks[size] = None if found is None else found.name
        self.in_c_thread(size)

    def step(self, step: Step) -> None:
        """Do one of the above."""
        what, a, b, c = step
        what %= 16
        if what < 4:
            self.enter(a, b, c)
        elif what < 7:
            self.leave(a, b, c)
        elif what == 7 and len(self.roots) < 3:
            self.enter_process(a)
        elif what < 10:
            self.new_context(a, b, c)
        elif what < 15:
            self.take(a, b, c)
        else:
            self.take_in_c_thread()

    # --- the comparison ---------------------------------------------------
    def views_of(self, name: str | None) -> set[str]:
        by_name = {one.name: one for one in self.scopes}
        one, found = by_name.get(str(name)), set()
        while one is not None:
            found.add(one.name)
            one = None if one.isolated else one.parent
        return found

    def compare(self) -> None:
        """Compare the scope of each block, and what each scope shows."""
        found = {block.size: block.scope for block in all_blocks()}
        assert found == self.blocks
        for scope in self.scopes:
            shown = sorted(block.size for block in scope.real.snapshot())
            wanted = [
                size
                for size, name in self.blocks.items()
                if scope.name in self.views_of(name)
            ]
            assert shown == wanted, (scope.name, shown, wanted)
            told = scope.real.uncertain
            if self.has_process_scopes:
                assert told >= scope.uncertain, scope.name
            else:
                assert told == scope.uncertain, scope.name

    def end(self) -> None:
        """Leave all scopes, and end the threads."""
        for scope in self.scopes:
            if scope.is_open:
                self._leave(scope, 0, self.contexts[0])
        for worker in self.workers:
            worker.end()


def all_blocks() -> BlockList:
    """Return the live blocks, those of isolated scopes too."""
    return BlockList.take(core.CURRENT_SCOPE, 0)


def play(world: World, steps: Iterable[Step]) -> None:
    """Run all steps, then compare."""
    try:
        for step in steps:
            world.step(step)
        world.compare()
    finally:
        world.end()
