"""Where a report is written: files of others, links, pipes, devices."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import Stream, rich, snapshot

from ffi_leak_tracker.emitters.console import ConsoleEmitter
from ffi_leak_tracker.emitters.json import JsonEmitter, load, loads
from ffi_leak_tracker.exceptions import ReportWriteError

if os.name != "posix":
    pytest.skip("needs POSIX files", allow_module_level=True)

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory in which every user may make files, as /tmp."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    for above in folder.parents:  # pytest closes them to others
        if above.stat().st_uid == os.getuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)
    return folder


def as_other_user(work: Callable[[], Any]) -> None:
    """Run a function in a child that is another user."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


# --- files of others ----------------------------------------------------
@as_root
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6777, 0o1777, 0o666])
def test_mode_of_another_user_is_not_kept(shared, umask, mode) -> None:
    """A file planted by another user lends the report no permission."""
    path = shared / "leaks.json"

    def plant() -> None:
        path.touch()
        path.chmod(mode)

    as_other_user(plant)
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (
        mode,
        NOBODY,
    )
    JsonEmitter(path).emit(snapshot())
    assert 0 == stat.S_IMODE(path.stat().st_mode) & ~0o644
    assert 0 == path.stat().st_uid
    assert snapshot() == load(path)


@as_root
def test_private_file_of_another_user_stays_private(shared, umask) -> None:
    """The report is open to no more users than the file that was there."""
    path = shared / "leaks.json"
    as_other_user(lambda: os.close(os.open(path, os.O_CREAT, 0o600)))
    JsonEmitter(path).emit(snapshot())
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("special", [0o4000, 0o2000, 0o1000])
def test_special_bits_are_never_kept(tmp_path, special) -> None:
    """Not even of a file of the same user; its other bits are."""
    path = tmp_path / "leaks.json"
    path.touch()
    path.chmod(0o705 | special)
    JsonEmitter(path).emit(snapshot())
    assert 0o705 == stat.S_IMODE(path.stat().st_mode)


@as_root
def test_group_is_kept(tmp_path) -> None:
    """A file that a group may read stays one of that group."""
    path = tmp_path / "leaks.json"
    path.touch()
    os.chown(path, -1, 4711)
    path.chmod(0o640)
    JsonEmitter(path).emit(snapshot())
    after = path.stat()
    assert (4711, 0o640) == (after.st_gid, stat.S_IMODE(after.st_mode))


def test_group_that_cannot_be_kept_gives_no_access(
    tmp_path, monkeypatch
) -> None:
    """Bits for one group are not given to another."""
    path = tmp_path / "leaks.json"
    path.touch()
    path.chmod(0o664)
    real = os.fstat

    def of_other_group(number: int) -> os.stat_result:
        fields = list(real(number))
        fields[5] += 1  # st_gid
        return os.stat_result(fields)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fstat", of_other_group)
    monkeypatch.setattr(os, "fchown", refuse)
    JsonEmitter(path).emit(snapshot())
    assert 0o644 == stat.S_IMODE(path.stat().st_mode)


# --- links --------------------------------------------------------------
@pytest.mark.parametrize("kind", ["file", "missing", "device", "pipe"])
def test_link_is_replaced(tmp_path, kind) -> None:
    """What a link points to is left alone, whatever it is."""
    target, link = tmp_path / "target", tmp_path / "leaks.json"
    if kind == "file":
        target.write_text("precious")
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "device":
        target = Path("/dev/full")
    link.symlink_to(target)
    JsonEmitter(link).emit(snapshot())
    assert not link.is_symlink()
    assert snapshot() == load(link)
    assert target.exists() == (kind != "missing")
    assert kind != "file" or target.read_text() == "precious"


def test_link_to_a_directory_is_refused(tmp_path) -> None:
    """A name that reads as a directory is no name for a report."""
    link = tmp_path / "latest"
    link.symlink_to(tmp_path)
    with pytest.raises(ReportWriteError, match="it is a directory"):
        JsonEmitter(link).emit(snapshot())
    assert link.is_symlink()


def test_hard_link_is_cut(tmp_path) -> None:
    """The other name of a file keeps what it had."""
    path, other = tmp_path / "leaks.json", tmp_path / "other"
    other.write_text("precious")
    os.link(other, path)
    JsonEmitter(path).emit(snapshot())
    assert "precious" == other.read_text()


def test_swapped_directory_gets_nothing(tmp_path, monkeypatch) -> None:
    """The report goes where the directory was when the write began."""
    folder, moved = tmp_path / "folder", tmp_path / "moved"
    folder.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = os.fsync

    def swap(number: int) -> None:
        real(number)
        folder.rename(moved)
        folder.symlink_to(elsewhere)

    monkeypatch.setattr(os, "fsync", swap)
    JsonEmitter(folder / "leaks.json").emit(snapshot())
    assert [] == list(elsewhere.iterdir())
    assert snapshot() == load(moved / "leaks.json")


# --- pipes, devices, descriptors ------------------------------------------
def test_fifo_gets_the_report(tmp_path) -> None:
    """It is written to, and stays."""
    path = tmp_path / "leaks.json"
    os.mkfifo(path)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    JsonEmitter(path).emit(rich())
    reader.join(60)
    assert rich() == loads(read[0])
    assert path.is_fifo()


@as_root
def test_fifo_of_another_user_is_refused(shared) -> None:
    """In a directory open to others; it would get what is not its owner's."""
    path = shared / "leaks.json"
    as_other_user(lambda: os.mkfifo(path))
    with pytest.raises(ReportWriteError, match="another user has put a pipe"):
        JsonEmitter(path).emit(snapshot())
    shared.chmod(0o755)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    JsonEmitter(path).emit(snapshot())
    assert snapshot() == loads(os.read(reader, 1 << 16))
    os.close(reader)


def test_swapped_fifo_is_not_written_to(tmp_path, monkeypatch) -> None:
    """A file that takes the place of a pipe meanwhile stays as it is."""
    path = tmp_path / "leaks.json"
    os.mkfifo(path)
    real = os.open

    def swap(name: Any, *rest: Any, **options: Any) -> int:
        if name == path.name:
            path.unlink()
            path.write_text("precious")
        return real(name, *rest, **options)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(ReportWriteError, match="swapped"):
        JsonEmitter(path).emit(snapshot())
    assert "precious" == path.read_text()


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_descriptor_is_written_to(tmp_path, folder) -> None:
    """Where it stands: what was written to it before stays."""
    if not os.path.isdir(folder):
        pytest.skip(f"no {folder} here")
    path = tmp_path / "out"
    with path.open("w+b", buffering=0) as file:
        file.write(b"before\n")
        JsonEmitter(f"{folder}/{file.fileno()}").emit(rich())
        ConsoleEmitter(f"{folder}/{file.fileno()}").emit(snapshot())
    before, _, rest = path.read_text().partition("\n")
    assert "before" == before
    assert rich() == loads(rest.partition("LEAKED")[0])


def test_full_pipe_is_waited_for() -> None:
    """A pipe that does not block gets all of a large report."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    shot = snapshot(*[rich()[0]] * 5000)
    read: list[bytes] = []

    def drain() -> None:
        with open(reader, "rb") as file:
            read.append(file.read())

    thread = threading.Thread(target=drain)
    thread.start()
    JsonEmitter(f"/dev/fd/{writer}").emit(shot)
    os.close(writer)
    thread.join(60)
    assert shot == loads(read[0])


@pytest.mark.parametrize("path", ["/dev/fd/9999", "/dev/full"])
def test_closed_or_full_target_raises(path) -> None:
    """The error says why, and names the path."""
    if not os.path.exists(os.path.dirname(path)):
        pytest.skip("no such directory here")
    with pytest.raises(ReportWriteError, match="cannot write the report") as at:
        JsonEmitter(path).emit(snapshot())
    assert path == at.value.filename


@pytest.mark.parametrize("path", ["", ".", "..", "a\0b.json"])
def test_impossible_names_raise(path, tmp_path, monkeypatch) -> None:
    """A directory, or a name that no file can have."""
    monkeypatch.chdir(tmp_path)
    for emitter in (JsonEmitter(path), ConsoleEmitter(path)):
        with pytest.raises(ReportWriteError, match="choose another path"):
            emitter.emit(snapshot())
    assert [] == list(tmp_path.iterdir())


# --- streams --------------------------------------------------------------
@pytest.mark.parametrize("emitter", [JsonEmitter, ConsoleEmitter])
def test_failing_stream_raises(emitter) -> None:
    """A full disk, a reader that is gone, a closed file: one error."""
    full = open("/dev/full", "w")  # noqa: SIM115
    with pytest.raises(ReportWriteError, match="No space left on device"):
        emitter(full).emit(snapshot())
    with suppress(OSError):
        full.close()
    with pytest.raises(ReportWriteError, match="closed file; use one that is"):
        emitter(full).emit(snapshot())


def test_json_stream_is_flushed(tmp_path) -> None:
    """The report is there at once, not when the stream is closed."""
    path = tmp_path / "leaks.json"
    with path.open("w") as file:
        JsonEmitter(file).emit(rich())
        assert rich() == load(path)


def test_other_errors_of_a_stream_pass() -> None:
    """A mistake in a stream that a user wrote is not hidden."""

    class Broken(Stream):
        def write(self, text: str) -> int:
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        JsonEmitter(Broken()).emit(snapshot())


# --- numbered reports -----------------------------------------------------
def test_pipes_get_no_number(tmp_path) -> None:
    """Reports of children and signals go to the pipe that was named."""
    from ffi_leak_tracker._tracking.signal_dump import numbered

    fifo = tmp_path / "leaks.json"
    assert str(tmp_path / "leaks.3.json") == numbered(str(fifo), 3)
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/null", "/dev/stdout", "/dev/fd/1"):
        assert path == numbered(path, 3)


def test_one_module_writes_files() -> None:
    """No other module of the package opens a file to write to it."""
    import ffi_leak_tracker

    package = Path(ffi_leak_tracker.__file__).parent
    writers = {
        path.name
        for path in package.rglob("*.py")
        if any(
            word in path.read_text("utf-8")
            for word in ("O_CREAT", '"w"', '"a"', '"wb"', '"xb"', "os.replace")
        )
    }
    # run gives a program that closed its standard error another stream.
    assert writers - {"run_output.py"} == {"report_file.py"}


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/stdout")
@pytest.mark.parametrize("options", [["--json"], ["--types", "--report"]])
def test_run_writes_to_stdout(tmp_path, options) -> None:
    """Into a pipe as into a file; /dev/stdout itself stays what it is."""
    from children import PACKAGE_PARENT, environment

    command = [sys.executable, "-m", "ffi_leak_tracker", "run", *options]
    command += ["/dev/stdout", "-c", "print('said')"]
    before = os.readlink("/dev/stdout")
    import subprocess

    out = tmp_path / "out"
    with out.open("w") as file:
        for target in (subprocess.PIPE, file):
            done = subprocess.run(
                command,
                stdout=target,
                env=environment(),
                cwd=PACKAGE_PARENT,
                check=True,
            )
            text = (done.stdout or b"").decode() or out.read_text()
            assert text.startswith("said\n")
            report = text.removeprefix("said\n")
            if "--json" in options:
                loads(report)
            else:
                assert report.startswith("No allocations were recorded.")
                assert "C type" in report
    assert before == os.readlink("/dev/stdout")
