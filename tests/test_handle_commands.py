"""Handles on the command line: ``run --handles``, ``pairs``, and pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import children
import pytest
from c_library import COMPILER
from handle_library import SPEC, module_file

from ffi_leak_tracker._handles import spec_files
from ffi_leak_tracker.handles import Spec

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(not spec_files._has_toml(), reason="no tomllib"),
]
USER = """
from forest._trees import ffi, lib

def plant():
    return int(ffi.cast("uintptr_t", lib.tree_new()))

def sow():
    lib.tree_free(lib.tree_new())
"""


@pytest.fixture
def forest(tmp_path: Path) -> Path:
    """Return a folder with a package, a specification and programs."""
    folder = tmp_path / "forest"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "user.py").write_text(USER)
    compiled = module_file("forest._trees")
    (folder / compiled.name).symlink_to(compiled)
    (tmp_path / "spec.toml").write_text(spec_files.to_toml(Spec(SPEC)))
    (tmp_path / "leaks.py").write_text(
        "from forest import user\nuser.plant()\nuser.sow()\n"
    )
    (tmp_path / "clean.py").write_text("from forest import user\nuser.sow()\n")
    (tmp_path / "other.py").write_text("print('other')\n")
    return tmp_path


def command(folder: Path, *words: str) -> Any:
    """Run the command line in a folder."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=children.environment(
            PYTHONPATH=str(children.PACKAGE_PARENT), COLUMNS="200"
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(folder: Path, *words: str) -> Any:
    """Run ``ffi-leak-tracker run``."""
    return command(folder, "ffi_leak_tracker", "run", *words)


def test_run_names_the_handle_and_its_destructor(forest) -> None:
    """With the specification of the file."""
    done = run(forest, "--handles", "forest._trees:spec.toml", "leaks.py")
    assert done.returncode == 1, done.stderr
    assert "LEAKED  1 block" in done.stderr
    assert "struct tree   tree_new, freed by tree_free" in done.stderr
    assert "user.py:5" in done.stderr
    done = run(forest, "--handles", "forest._trees:spec.toml", "clean.py")
    assert done.returncode == 0, done.stderr


def test_run_suggests_a_specification_without_one(forest) -> None:
    """As ``attach_module`` does."""
    done = run(forest, "--handles", "forest._trees", "leaks.py")
    assert done.returncode == 1, done.stderr
    assert "struct tree   tree_new, freed by" in done.stderr


def test_run_says_what_is_wrong(forest) -> None:
    """A missing file, a module that is not imported."""
    done = run(forest, "--handles", "forest._trees:missing.toml", "leaks.py")
    assert done.returncode == 2
    assert "--handles forest._trees:missing.toml: " in done.stderr
    done = run(forest, "--handles", "forest._trees", "other.py")
    assert "note: forest._trees was not imported" in done.stderr
    assert run(forest, "--handles", ":x", "other.py").returncode == 2
    (forest / "wrong.toml").write_text('[functions]\ntree_nwe = "tree_free"\n')
    done = run(forest, "--handles", "forest._trees:wrong.toml", "leaks.py")
    assert "tree_nwe is not in the library" in done.stderr


def test_pairs_prints_what_can_be_pasted(forest) -> None:
    """As Python and as TOML; other modules are refused."""
    done = command(forest, "ffi_leak_tracker", "pairs", "forest._trees")
    assert done.returncode == 0, done.stderr
    assert "    'tree_new': Owned(free='tree_free'),  # high: " in done.stdout
    names: dict[str, Any] = {}
    exec("from ffi_leak_tracker.handles import *\n" + done.stdout, names)
    assert names["SPEC"]["tree_open"].arg == 0
    words = ("ffi_leak_tracker", "pairs", "--toml", "forest._trees")
    done = command(forest, *words)
    path = forest / "pasted.toml"
    path.write_text(done.stdout)
    assert spec_files.read(path).words("tree_new") == (
        names["SPEC"]["tree_new"],
    )
    for wrong, text in {"json": "no module of cffi", "none": "cannot"}.items():
        done = command(forest, "ffi_leak_tracker", "pairs", wrong)
        assert (done.returncode, text in done.stderr) == (2, True)


@pytest.mark.slow
def test_pytest_fails_a_test_that_leaves_a_handle(forest) -> None:
    """With ``--leaks-handles`` or the ini setting."""
    (forest / "test_it.py").write_text(
        "from forest import user\n"
        "def test_leaks(): user.plant()\n"
        "def test_clean(): user.sow()\n"
    )
    plugin = ("-p", "ffi_leak_tracker.pytest_plugin", "-p", "no:cacheprovider")
    words = ("pytest", *plugin, "--leaks", "--leaks-own")
    option = "--leaks-handles=forest._trees:spec.toml"
    done = command(forest, *words, option)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "struct tree   tree_new, freed by tree_free" in done.stdout
    (forest / "pytest.ini").write_text(
        "[pytest]\nleaks_handles = forest._trees:spec.toml\n"
    )
    done = command(forest, *words)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    (forest / "wrong.toml").write_text('[functions]\ntree_nwe = "tree_free"\n')
    done = command(forest, *words, "--leaks-handles=forest._trees:wrong.toml")
    assert "tree_nwe is not in the library" in done.stdout
    done = command(forest, *words, "--leaks-handles=forest._nothing")
    assert "forest._nothing was not imported" in done.stdout, done.stdout
    done = command(forest, *words, "--leaks-handles=forest._trees:missing")
    assert done.returncode == 4
    assert "--leaks-handles: forest._trees:missing: " in done.stderr
