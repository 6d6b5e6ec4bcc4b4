"""Children that hang, crash and shout; each is a process, so their time is kept short."""

from __future__ import annotations

import faulthandler
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from unit.patience import appears, ends
from vfio_preflight.errors import PreflightError
from vfio_preflight.hook import supervise
from vfio_preflight.hook.supervise import Outcome, _kill, _reap, _remove, supervised
from vfio_preflight.osutil import leftovers

LATE = 5.0


def hang() -> Outcome:
    time.sleep(30)
    return Outcome(0, b"too late")


def gone(pid: int) -> bool:
    """Whether a process has ended, or is about to, within a second."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("status", [0, 1])
def test_result_is_relayed(status: int) -> None:
    outcome = supervised(lambda: Outcome(status, b"<domain/>", b"why\n"), LATE)
    assert outcome == Outcome(status, b"<domain/>", b"why\n")


def test_large_result_is_relayed_whole() -> None:
    out = bytes(range(256)) * 20_000
    assert supervised(lambda: Outcome(0, out, b"e" * 200_000), LATE).out == out


def test_child_does_the_work_not_the_parent() -> None:
    outcome = supervised(lambda: Outcome(0, str(os.getpid()).encode()), LATE)
    assert int(outcome.out) != os.getpid()


def test_deadline(tmp_path: Path) -> None:
    def work() -> Outcome:
        (tmp_path / "pid").write_text(str(os.getpid()))
        return hang()

    started = time.monotonic()
    with ends():
        outcome = supervised(work, 0.2)
    assert time.monotonic() - started >= 0.2
    assert outcome == Outcome(70, failure="no result within the deadline")
    pid = (tmp_path / "pid").read_text()
    assert not os.path.exists(f"/proc/{pid}"), "not even a zombie"


@pytest.mark.parametrize(("starved", "counted"), [(0.2, 0.2), (100.0, 0.4)])
def test_deadline_does_not_count_what_others_took(
    monkeypatch: pytest.MonkeyPatch, starved: float, counted: float
) -> None:
    """The wait for a processor, up to a bound."""
    monkeypatch.setattr(supervise, "_starved", lambda _child: starved)
    monkeypatch.setattr(supervise, "STRETCH", 2.0)
    begun = time.monotonic()
    with ends():
        assert supervised(hang, 0.2).failure == "no result within the deadline"
    assert time.monotonic() - begun >= 0.2 + counted


def test_child_that_gets_a_processor_late_is_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_starved", lambda _child: 20.0)

    def work() -> Outcome:
        time.sleep(0.4)
        return Outcome(0, b"late")

    assert supervised(work, 0.3) == Outcome(0, b"late")


def test_starved() -> None:
    """A process that sleeps is not; of one that is gone nothing is known."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
    os.kill(child, signal.SIGSTOP)
    first = supervise._starved(child)
    time.sleep(0.05)
    assert 0.0 <= supervise._starved(child) - first < 0.05
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert supervise._starved(child) == 0.0


def test_deadline_kills_the_child_and_its_children(tmp_path: Path) -> None:
    def spawn() -> Outcome:
        process = subprocess.Popen(["sleep", "30"])
        (tmp_path / "pids").write_text(f"{os.getpid()} {process.pid}")
        return hang()

    assert supervised(spawn, 0.4).failure
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2 and all(map(gone, pids))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; what another test has looked up does not count."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.mark.parametrize("work", ["ends", "fails", "crashes", "hangs"])
def test_no_temporary_file_is_left(temporary: Path, work: str) -> None:
    made, write = os.pipe()

    def untidy() -> Outcome:
        directory = tempfile.mkdtemp(prefix="vfio-preflight-")
        Path(directory, "device").write_text("x")
        os.write(write, directory.encode())
        if work == "fails":
            raise KeyError
        if work == "crashes":
            os.kill(os.getpid(), signal.SIGKILL)
        return hang() if work == "hangs" else Outcome(0)

    supervised(untidy, 0.4 if work == "hangs" else LATE)
    directory = Path(os.read(made, 4096).decode())
    os.close(made)
    os.close(write)
    assert directory.parent.parent == temporary
    assert list(temporary.iterdir()) == []


def test_what_killed_hooks_have_left_is_swept(temporary: Path) -> None:
    for name, age in (("old", 2 * leftovers.AGE), ("new", 0.0)):
        directory = temporary / f"{leftovers.SCRATCH}{name}"
        (directory / "device").mkdir(parents=True)
        os.utime(directory, (time.time() - age,) * 2)
    supervised(lambda: Outcome(0), LATE)
    assert [path.name for path in temporary.iterdir()] == [f"{leftovers.SCRATCH}new"]


def test_remove_of_what_cannot_be_removed_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _remove(str(tmp_path / "file"))
    assert (tmp_path / "file").exists()


def test_nowhere_to_put_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    outcome = supervised(lambda: Outcome(0, os.environ["TMPDIR"].encode()), LATE)
    assert outcome == Outcome(0, b"/nonexistent")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_child_does_not_outlive_its_parent(temporary: Path, number: signal.Signals) -> None:
    """Whoever kills that, and whatever the child waits for."""
    path = temporary / "pid"

    def work() -> Outcome:
        (temporary / "new").write_text(str(os.getpid()))
        (temporary / "new").rename(path)
        return hang()

    parent = os.fork()
    if parent == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        supervised(work, 60.0)
        os._exit(0)
    assert appears(path)
    os.kill(parent, number)
    os.waitpid(parent, 0)
    assert gone(int(path.read_text()))


def test_child_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    def stubborn() -> Outcome:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        (tmp_path / "pid").write_text(str(os.getpid()))
        return hang()

    assert supervised(stubborn, 0.2).failure
    assert gone(int((tmp_path / "pid").read_text()))


def test_grandchild_that_holds_the_pipes_does_not_hold_the_parent() -> None:
    def leave_behind() -> Outcome:
        subprocess.Popen(["sleep", "30"])
        return Outcome(0, b"done")

    started = time.monotonic()
    outcome = supervised(leave_behind, 0.3)
    assert time.monotonic() - started < 1.5
    assert outcome.failure or outcome.out == b"done"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_crash(number: signal.Signals) -> None:
    def crash() -> Outcome:
        faulthandler.disable()  # pytest's, which would tell everybody
        os.kill(os.getpid(), number)
        return hang()

    assert supervised(crash, LATE) == Outcome(70, failure=f"ended by signal {number.value}")


def test_crash_takes_along_what_the_child_had_started(tmp_path: Path) -> None:
    def crash() -> Outcome:
        process = subprocess.Popen(
            ["sleep", "30"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        (tmp_path / "pid").write_text(str(process.pid))
        os.kill(os.getpid(), signal.SIGKILL)
        return hang()

    assert supervised(crash, LATE).failure == "ended by signal 9"
    assert gone(int((tmp_path / "pid").read_text()))


def test_exception_is_a_failure_without_traceback() -> None:
    def fail() -> Outcome:
        raise KeyError("x")

    outcome = supervised(fail, LATE)
    assert (outcome.status, outcome.out, outcome.err) == (70, b"", b"")
    assert outcome.failure == "KeyError: 'x'"


def test_error_of_ours_is_a_failure_in_its_own_words() -> None:
    def fail() -> Outcome:
        raise PreflightError("the XML is empty")

    assert supervised(fail, LATE) == Outcome(70, failure="the XML is empty")


def test_kill_of_what_is_gone_is_no_error() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    _kill(child)


def test_kill_reaches_a_child_without_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be killed before it has made one of its own."""

    def no_group(*_: object) -> None:
        raise ProcessLookupError

    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", no_group)
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    _kill(4242)
    assert killed == [(4242, signal.SIGKILL)]


def test_nothing_is_killed_after_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(supervise, "_kill", killed.append)
    assert supervised(lambda: Outcome(0, b"done"), LATE) == Outcome(0, b"done")
    assert killed == []


@pytest.mark.parametrize(
    ("answers", "times", "asked"),
    [
        ([0, 0, 7], [0.0, 0.1, 0.2], 3),  # gone before the time is up
        ([0, 0, 0, 7], [0.0, 0.1, 0.2, supervise.GRACE], 3),  # stuck in the kernel
        ([0, 7], [0.0, supervise.GRACE + 1], 1),
    ],
)
def test_reap_waits_for_a_while(
    answers: list[int], times: list[float], asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is made up: its first answer begins the time, each other follows a question."""
    clock, children, questions = iter(times), iter(answers), []

    def waitpid(child: int, options: int) -> tuple[int, int]:
        questions.append((child, options))
        return next(children), 9

    monkeypatch.setattr(os, "waitpid", waitpid)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    _reap(7)
    assert questions == [(7, os.WNOHANG)] * asked


def test_time_that_is_up_already() -> None:
    outcome = supervised(hang, -0.5)
    assert outcome.status == 70 and outcome.failure


def test_temporary_files_have_a_directory_that_others_pass_through(temporary: Path) -> None:
    def look() -> Outcome:
        place = os.environ["TMPDIR"]
        return Outcome(0, f"{os.path.dirname(place)} {os.stat(place).st_mode & 0o777:o}".encode())

    assert supervised(look, LATE).out == f"{temporary} 711".encode()


def test_directory_of_temporary_files_is_private_at_first(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its mode cannot be widened, nobody else has got into it meanwhile."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chmod", refuse)
    supervised(lambda: Outcome(0), LATE)
    assert [stat.S_IMODE(path.stat().st_mode) for path in temporary.iterdir()] == [0o700]


def test_exit_is_a_failure() -> None:
    def leave() -> Outcome:
        sys.exit(0)

    assert supervised(leave, LATE).failure == "SystemExit: 0"


def test_out_of_memory_is_a_failure() -> None:
    def devour() -> Outcome:
        raise MemoryError

    assert supervised(devour, LATE).failure.startswith("MemoryError")


def test_half_a_result_is_none() -> None:
    def half() -> Outcome:
        os.write(1, b"<domain>")
        raise RuntimeError("x")

    outcome = supervised(half, LATE)
    assert outcome.out == b"" and outcome.failure


@pytest.mark.parametrize("status", [2, 70, 255])
def test_other_status_is_a_failure(status: int) -> None:
    assert supervised(lambda: Outcome(status, b"", b"why"), LATE) == Outcome(status, failure="why")
    assert supervised(lambda: Outcome(status), LATE).failure == f"exit {status}"


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    for work in (lambda: Outcome(0), hang):
        supervised(work, 0.1)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_child_goes_on_after_its_answer(tmp_path: Path) -> None:
    """Nobody waits for that, nor for its hold on the pipes; the answer is what it was."""
    path = tmp_path / "after"

    def after() -> None:
        time.sleep(0.5)
        os.write(1, b"nobody")
        path.write_text("done")

    started = time.monotonic()
    outcome = supervised(lambda: Outcome(1, b"out", b"err", after=after), LATE)
    assert outcome == Outcome(1, b"out", b"err")
    assert not path.exists() or time.monotonic() - started >= 0.5
    with ends():
        while not path.exists():
            time.sleep(0.01)


def test_what_the_child_does_after_its_answer_changes_nothing() -> None:
    outcome = supervised(lambda: Outcome(0, b"out", after=lambda: 1 // 0), LATE)
    assert outcome == Outcome(0, b"out")


def test_child_does_not_go_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "AFTERWARDS", 1)

    def after() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    supervised(lambda: Outcome(0, after=after), LATE)
    with ends():
        while not (tmp_path / "pid").exists() or (tmp_path / "pid").read_text() == "":
            time.sleep(0.01)
        while not gone(int((tmp_path / "pid").read_text())):
            time.sleep(0.01)


def test_child_whose_end_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have to reset a device that it had open: its answer is whole by then."""
    monkeypatch.setattr(os, "waitpid", lambda *_: pytest.fail("it was waited for"))
    monkeypatch.setattr(os, "waitid", lambda *_: pytest.fail("it was waited for"))
    assert supervised(lambda: Outcome(1, b"", b"why"), LATE) == Outcome(1, b"", b"why")


def test_child_that_ends_without_an_answer_and_cannot_be_reaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(*_: object) -> tuple[int, int]:
        raise ChildProcessError

    monkeypatch.setattr(os, "waitpid", nobody)
    assert supervised(lambda: os._exit(0), LATE) == Outcome(70, failure="ended")


def test_line_for_the_log_comes_with_the_answer_or_not_at_all() -> None:
    told = Outcome(1, b"", b"why", log="g\u00e4st\ud800: fail", warning=True)
    assert supervised(lambda: told, LATE) == told._replace(log="g\u00e4st?: fail")
    assert supervised(lambda: Outcome(0, log="pass"), LATE) == Outcome(0, log="pass")
    assert supervised(lambda: Outcome(70, b"", b"why", log="x"), LATE).log == ""

    def late() -> Outcome:
        supervise._write(2, b"half")
        return hang()

    assert supervised(late, 0.2).log == ""
