"""The pytest plugin: a test that leaks native memory fails.

- ``--leaks`` (ini option ``leaks = true``) checks every test with all of its
  fixtures. It watches all libraries but the interpreter's, and the allocators
  of this package. ``--leaks-attach=LIB,...`` names the libraries to watch;
  ``--leaks-own`` watches none. ``--leaks=fast`` and ``--leaks=strict`` (ini
  option ``leaks_mode``) judge otherwise, see below. ``--no-leaks`` overrides
  the ini option. Each option has a second name, ``--ffi-leaks`` and so on. It
  is the only name where another plugin (pytest-leaks) has taken the first one.
- The fixture ``leak_tracker`` is an open ``Scope``, checked after the test.
- ``@pytest.mark.allow_leaks(reason=...)`` exempts tests from ``--leaks``, and
  so does ``no_leak_check``.
- ``@pytest.mark.leaks(max_blocks=, max_bytes=, ignore=, attach=, repeat=,
  held=)`` changes how ``--leaks`` checks the test.
- ``@pytest.mark.leak_filter(LeakFilter..., ...)`` leaves blocks out of both
  checks. A single function cannot be the only positional argument of a mark,
  so pass a predicate as ``leak_filter(filter=predicate)``.
- ``@pytest.mark.leak_budget(blocks=, bytes=, peak=)`` limits the allocations
  of the test and its fixtures, freed or not, as ``AllocationStats.assert_max``
  does. It needs no other option. None removes a limit.

Of several markers the closest one counts, for each argument.

The blocks of a test: with ``--leaks``, those that are allocated from before
the setup of its first fixture until after the teardown of its last one. With
the fixture alone, those from the setup of the fixture on; fixtures that were
set up before it are outside. All threads and tasks count, but a thread that an
earlier test started feeds that one (``--leaks-own-threads``: other threads do
not count). (If a fixture of a
wider scope keeps a context scope open, the blocks go to that scope, and the
scope of the test follows the context too.) Blocks that are allocated in the
setup or teardown of a fixture of a wider scope belong to that fixture. They
are judged when it has ended; its leaks are an error at that teardown.

The check runs after the teardown of the test, when pytest has dropped the
arguments of the test and garbage was collected. So it does not matter which
fixture frees a block, nor in which order fixtures are named. Blocks of this
package's allocators that are left are leaks. Blocks of a library are set aside
if an import or the loading of a library made them, or if they are tables that
known libraries make once (``--leaks-tables``), and are leaks if nothing in
memory points to them. For the others the test is called again, with fresh
fixtures: a place that leaves a block at each call is a leak, what does not
grow is held, and a line at the end of the run says so.
``--leaks=fast`` does not call tests again. With ``--leaks=strict`` every block
is a leak.

The result of a leak, of a misuse or of an exceeded budget: a test that passed
fails (it is not an error). An xfail test that would have passed is xfailed,
strict or not, if its ``raises`` matches. A test that failed or had an error
keeps its outcome, and its report gets a section with the leaks. Blocks that
Python objects own, and blocks that something points to, are left out there,
since the traceback keeps the objects alive. Skipped and xfailed tests are not
checked.

Plugins that run tests themselves, as pytest-rerunfailures and pytest-forked,
still run them. If such a plugin has reported the outcome before the teardown,
a leak is an error at teardown.

Cost: without options, one look at the fixture names and markers of each test;
neither the hooks nor the compiled core are loaded. With a check, a scope and
some hook calls for each test: below 0.2 ms. A test that leaves blocks costs
garbage collections, and some calls more.
"""

from ffi_leak_tracker._testing.plugin import (
    checker_of,
    leak_tracker,
    pytest_addoption,
    pytest_cmdline_main,
    pytest_collection_finish,
    pytest_configure,
    pytest_load_initial_conftests,
)

__all__ = ["leak_tracker"]
