"""The pytest plugin: tests that leak native blocks fail.

- ``leak_tracker``, a fixture: an open ``Scope``, checked after the test.
- ``--leaks`` (ini ``leaks = true``): every test is checked, its fixtures
  included. ``--no-leaks`` overrules the ini, ``--leaks-depth N`` (ini
  ``leaks_depth``) sets how many Python frames each block keeps. Each option
  has a second name, ``--ffi-leaks`` and so on. It is the only one where
  another plugin (pytest-leaks) has taken the first.
- ``@pytest.mark.no_leak_check(reason=...)`` exempts tests from ``--leaks``;
  ``@pytest.mark.leak_filter(LeakFilter..., ...)`` leaves blocks out of both.
  pytest takes a lone named function for the test to mark, so a predicate is
  passed as ``leak_filter(filter=predicate)``.
- ``@pytest.mark.leak_budget(blocks=, bytes=, peak=)`` limits what the test
  and its fixtures allocate, freed or not (``AllocationStats.assert_max``),
  whether leaks are checked or not. Of several markers the closest counts, for
  each limit; None lifts one.

What belongs to a test: under ``--leaks`` what is allocated from before the
setup of its first fixture to after the teardown of its last; with the fixture
alone, what is allocated while that is set up, so that fixtures it depends on
or comes after are outside. All threads and tasks count. (Only where a fixture
of a wider scope keeps a context scope open does the window follow the context
too, since the blocks go there.) What is allocated while a fixture of a wider
scope is set up or torn down belongs to that fixture, never to the test.

When it is judged: after everything of the test is torn down and pytest has
let go of its arguments, so that it does not matter who frees a block, nor in
which order the fixtures were named.

What a leak does: what a LeaksFoundError at the end of the test would, and a
BudgetError alike. A passed test is failed (not in error), an xfail that would
have passed is xfailed (if its ``raises`` allows), strict or not. A test that
failed or errored keeps its outcome and gets a section more; of leaks, blocks
owned by Python objects are left out there, because the traceback keeps those
alive. Skipped and xfailed tests are not judged.

A plugin that runs tests itself (pytest-rerunfailures, pytest-forked) goes on
doing so. If it has told the outcome of the test before the teardown, a leak
is an error at teardown.

Cost: off, one look at the names of the collected tests' fixtures; neither the
hooks nor the compiled core are loaded. On, a scope, a look at its counter and
some hook calls a test: below 0.2 ms.
"""

from ffi_leak_tracker._testing.plugin import (
    checker_of,
    leak_tracker,
    pytest_addoption,
    pytest_collection_finish,
    pytest_configure,
    pytest_load_initial_conftests,
)

__all__ = ["leak_tracker"]
