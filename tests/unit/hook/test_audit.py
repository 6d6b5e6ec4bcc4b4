"""The audit log: whole lines, none lost, and nothing but a file of ours is written to."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from unit.hooked import PLUGIN, Host, domain, present
from unit.makers import HOST, PMC
from vfio_preflight.hook import audit, journal
from vfio_preflight.osutil.locks import is_taken, lock_file

FULL = Path("/dev/full")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "audit.jsonl"


def append(log: Path, text: str = "{}", patience: float = 1.0) -> None:
    audit.append(str(log), f"{text}\n".encode(), str(log.parent.parent / "run"), patience)


def lines(log: Path) -> list[str]:
    """All that is there, the oldest first."""
    places = [log.with_name(f"{log.name}.{n}") for n in range(audit.KEPT, 0, -1)] + [log]
    return [line for place in places if place.exists() for line in place.read_text().splitlines()]


def test_directory_and_file_are_made(log: Path) -> None:
    append(log, "one")
    append(log, "two")
    assert log.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(log.parent.stat().st_mode) & 0o027 == 0
    assert stat.S_IMODE(log.stat().st_mode) & 0o137 == 0


def test_line_is_json_with_time_and_duration() -> None:
    value = json.loads(audit.stamped('{"schema":1,"guest":"g"}', (0.0125, 2.0)))
    assert (value["guest"], value["seconds"], value["waited"]) == ("g", 0.0125, 2.0)
    parsed = time.strptime(value["time"][:19], "%Y-%m-%dT%H:%M:%S")
    assert value["time"][19] == "." and len(value["time"]) == 27 and value["time"].endswith("Z")
    assert abs(time.mktime(parsed) - time.mktime(time.gmtime())) < 60
    assert set(json.loads(audit.stamped('{"a":1}'))) == {"time", "a"}


def test_full_file_is_renamed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 30)
    for number in range(60):
        append(log, f"line {number:04}")
    names = sorted(path.name for path in log.parent.iterdir())
    assert names == sorted(["audit.jsonl", *(f"audit.jsonl.{n}" for n in range(1, 10))])
    # Three lines a file: what is kept is the latest, without a gap.
    assert lines(log) == [f"line {number:04}" for number in range(30, 60)]


def test_new_file_is_for_whoever_was_let_read_the_old_one(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 10)
    append(log, "line 1")
    log.chmod(0o600)
    append(log, "line 2")
    assert lines(log) == ["line 1", "line 2"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def write_many(log: str, number: int) -> None:
    for line in range(150):
        append(Path(log), f"{number} {line} {'x' * 40}")


def test_no_line_is_lost_while_files_are_renamed(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 8000)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(str(log), n)) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (log.with_name("audit.jsonl.5")).exists()
    found = [line.split()[:2] for line in lines(log)]
    wanted = [[str(n), str(line)] for n in range(8) for line in range(150)]
    assert sorted(found) == sorted(wanted)


def test_somebody_else_may_rename_it(log: Path) -> None:
    append(log, "one")
    log.rename(log.with_name("audit.jsonl.1"))
    append(log, "two")
    assert lines(log) == ["one", "two"]


def test_part_of_a_line_does_not_spoil_the_next(log: Path) -> None:
    append(log, "one")
    with log.open("a") as file:
        file.write("cut sho")
    append(log, "two")
    assert log.read_text() == "one\ncut sho\ntwo\n"


def test_lock_that_is_held_delays_for_a_moment_and_loses_nothing(log: Path) -> None:
    append(log, "one")
    held = lock_file(str(log.parent.parent / "run"), audit.LOCK)
    assert is_taken(held)
    begun = time.monotonic()
    append(log, "two", patience=0.1)
    assert 0.1 <= time.monotonic() - begun < 5.0
    os.close(held)
    assert lines(log) == ["one", "two"]


def test_without_a_lock_lines_are_appended_all_the_same(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 10)
    log.parent.parent.joinpath("run").write_text("no directory")
    for _ in range(3):
        append(log, "line")
    assert log.read_text() == "line\n" * 3


def test_renaming_that_fails_costs_no_line(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 10)
    append(log, "line 1")
    (log.parent / "audit.jsonl.8").write_text("old")
    (log.parent / "audit.jsonl.9" / "x").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        append(log, "line 2")
    assert log.read_text() == "line 1\nline 2\n"
    assert (log.parent / "audit.jsonl.8").read_text() == "old"


FILLS = """
import resource, signal, sys
from vfio_preflight.hook import audit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
audit.append(sys.argv[1], b"x" * 60 + b"\\n", sys.argv[2], 1.0)
"""


def test_part_of_a_line_that_fits_is_taken_back(log: Path) -> None:
    """As on a disk that becomes full in the middle of a line."""
    append(log, "y" * 60)
    command = [sys.executable, "-c", FILLS, str(log), str(log.parent.parent / "run")]
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "No space left on device" in done.stderr
    assert log.read_text() == "y" * 60 + "\n"


# --- what stands in its place --------------------------------------------------------------------


def a_link(log: Path) -> None:
    (log.parent / "target").write_text("")
    log.symlink_to("target")


def a_fifo(log: Path) -> None:
    os.mkfifo(log)


def a_directory(log: Path) -> None:
    log.mkdir()


def a_socket(log: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(log))


def a_full_disk(log: Path) -> None:
    log.symlink_to(FULL)


def others_write(log: Path) -> None:
    log.write_text("")
    log.chmod(0o666)


def another_owner(log: Path) -> None:
    log.write_text("")
    os.chown(log, 12345, -1)


def no_directory(log: Path) -> None:
    log.parent.rmdir()
    log.parent.write_text("")


PLACES = (a_link, a_fifo, a_directory, a_socket, others_write, another_owner, no_directory)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_of_ours_is_refused(place: Callable[[Path], None], log: Path) -> None:
    log.parent.mkdir()
    place(log)
    with pytest.raises(OSError):
        append(log, "line", patience=0.1)
    assert not log.is_symlink() or log.read_bytes() == b""
    assert audit.files(str(log), str(log.parent.parent / "run")) == []


@pytest.mark.parametrize("place", [*PLACES, a_full_disk])
def test_hook_decides_as_ever_and_says_what_is_missing(
    place: Callable[[Path], None], tmp_path: Path
) -> None:
    host = Host(tmp_path)
    host.configure(deadline=20.0)
    present(host, PMC)
    log = tmp_path / "audit" / "audit.jsonl"
    conf = tmp_path / "x.conf"
    conf.write_text(conf.read_text().replace(str(tmp_path / "audit.jsonl"), str(log)))
    log.parent.mkdir()
    place(log)
    result = host.run(domain())
    assert (result.status, result.out) == (1, b"")
    assert result.err.startswith("vfio-preflight: migration blocked: ")
    if place is not others_write:
        assert result.seconds < 15.0


HANGS = """
from vfio_preflight.hook import audit
def append(*_):
    import time
    time.sleep(60)
audit.append = append
"""


def test_audit_log_that_takes_for_ever_holds_no_hook(tmp_path: Path) -> None:
    """As on a disk that is frozen for a snapshot."""
    host = Host(tmp_path)
    host.configure(deadline=20.0)
    present(host, PMC)
    result = host.run(domain(), patch=HANGS)
    assert (result.status, result.out) == (1, b"")
    assert result.err.startswith("vfio-preflight: migration blocked: ")
    assert result.seconds < 15.0
    assert host.audit == []


def test_problem_is_told_once_beside_the_line(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        journal, "_wait_for_log", lambda line, warning, *_: told.append((line, warning))
    )
    log.parent.mkdir()
    log.mkdir()
    about = journal.Event(path=str(log), text="{}", locks=str(tmp_path / "run"))
    journal._deliver(str(tmp_path / "log"), "the line", False, about, False)
    assert (tmp_path / "log").read_text().endswith(": the line\n")
    ((line, warning),) = told
    assert warning and line == f"audit log {log} is not in order: Is a directory ({log})"


# --- what the hook writes ------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.configure(deadline=20.0)
    return made


def test_decision(host: Host) -> None:
    present(host, PMC)
    host.run(domain())
    (event,) = host.audit
    assert (event["event"], event["operation"], event["guest"]) == ("decision", "migrate", "g1")
    assert (event["verdict"], event["action"]) == ("fail", "block")
    (device,) = event["devices"]
    assert (device["host"], device["verdict"]) == (HOST, "fail")
    assert "config-differs" in device["codes"]
    assert (device["source"], device["destination"]) == ("sysfs", "file")
    assert 0.0 < event["seconds"] < 60.0 and event["waited"] >= 0.0
    assert event["host"] == os.uname().nodename


def test_check_that_fails(host: Host) -> None:
    host.configure(on_error="block")
    host.run(b"<domain type='kvm'><hostdev")
    host.configure(on_error="allow")
    host.run(b"<domain type='kvm'><hostdev")
    blocked, passed = host.audit
    assert (blocked["verdict"], blocked["action"], blocked["codes"]) == (
        "unknown", "block", ["not-checked"],
    )  # fmt: skip
    assert "not well-formed" in blocked["note"]
    assert passed["action"] == "allow"


def test_configuration_that_does_not_count(host: Host) -> None:
    host.configure(typo="x = y")
    host.run(domain())
    (event,) = host.audit
    assert (event["action"], event["codes"]) == ("annotate", ["not-checked"])


@pytest.mark.parametrize(
    ("operation", "sub"), [("migrate", "begin"), ("stopped", "end"), ("release", "end")]
)
def test_silence_about_guests_without_devices(operation: str, sub: str, host: Host) -> None:
    host.run(domain(hosts=()) if operation == "migrate" else domain(), operation, sub=sub)
    assert host.audit == []


def test_names_are_printable(host: Host) -> None:
    xml = domain().replace(b"<name>g1</name>", '<name>g\u202e\u2028"1</name>'.encode())
    host.run(xml, guest='g\u202e\u2028"1')
    (event,) = host.audit
    assert event["guest"] == 'g??"1'


def test_none(host: Host) -> None:
    conf = host.directory / "x.conf"
    text = conf.read_text().replace(str(host.directory / "audit.jsonl"), "none")
    conf.write_text(text)
    host.run(domain())
    assert host.audit == [] and "migrate guest 'g1'" in host.log
