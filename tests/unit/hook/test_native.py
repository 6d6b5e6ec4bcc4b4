"""systemd's journal by its own protocol: fields of a line, and that a stuck one holds nobody."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.hooked import Host, domain, present
from unit.makers import HOST, PMC
from vfio_preflight.hook import journal, native
from vfio_preflight.report.events import MESSAGE_IDS


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A journal of the test's own."""
    monkeypatch.setattr(native, "SOCKET", str(tmp_path / "journal"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "journal"))
        made.settimeout(10.0)
        yield made


def fields(datagram: bytes) -> dict[str, list[str]]:
    assert datagram.endswith(b"\n")
    found: dict[str, list[str]] = {}
    for line in datagram.decode().splitlines():
        name, equals, value = line.partition("=")
        assert equals and name.replace("_", "").isalnum() and name.isupper()
        found.setdefault(name, []).append(value)
    return found


def fill(path: Path) -> None:
    """Leave no room in the queue of a journal that nobody reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(str(path))
        with pytest.raises(BlockingIOError):
            while True:
                client.send(b"x")


def test_entry(reader: socket.socket) -> None:
    data = native.entry("ident", "a line", warning=True, fields="X_Y=1\nX_Y=2\n")
    assert native.send(data)
    assert fields(reader.recv(4096)) == {
        "MESSAGE": ["a line"],
        "PRIORITY": ["4"],
        "SYSLOG_FACILITY": ["3"],
        "SYSLOG_IDENTIFIER": ["ident"],
        "X_Y": ["1", "2"],
    }


def test_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "SOCKET", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError):
        native.send(b"MESSAGE=x\n")


def test_full_journal_is_waited_for_only_where_that_is_said(
    reader: socket.socket, tmp_path: Path
) -> None:
    fill(tmp_path / "journal")
    begun = time.monotonic()
    assert not native.send(b"MESSAGE=x\n")
    assert time.monotonic() - begun < 0.15
    assert not native.send(b"MESSAGE=x\n", 0.2)
    assert 0.2 <= time.monotonic() - begun < 5.0


def test_journal_that_is_busy_gets_the_line_when_it_has_room(
    reader: socket.socket, tmp_path: Path
) -> None:
    fill(tmp_path / "journal")
    journal.write("syslog", "one", patience=0.0)
    end = time.monotonic() + 10.0
    found = b""
    while b"MESSAGE=one\n" not in found and time.monotonic() < end:
        found = reader.recv(4096)
    assert b"MESSAGE=one\n" in found


def test_full_journal_holds_no_hook(
    reader: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "journal")
    begun = time.monotonic()
    journal.write("syslog", "one", patience=0.2)
    assert 0.2 <= time.monotonic() - begun < 1.5


# --- the hook's lines ----------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.configure(log="syslog", deadline=20.0)
    return made


def test_decision(reader: socket.socket, host: Host) -> None:
    present(host, PMC)
    host.run(domain())
    found = fields(reader.recv(65536))
    single = {name: values[0] for name, values in found.items() if len(values) == 1}
    assert single["MESSAGE"].startswith("migrate guest 'g1': fail, blocked [")
    assert (single["PRIORITY"], single["SYSLOG_IDENTIFIER"]) == ("4", "vfio-preflight")
    assert single["MESSAGE_ID"] == MESSAGE_IDS["decision"]
    ours = {name: found[f"VFIO_PREFLIGHT_{name}"] for name in (
        "EVENT", "GUEST", "OPERATION", "VERDICT", "ACTION", "DEVICE", "SOURCE_EVIDENCE",
        "DESTINATION_EVIDENCE",
    )}  # fmt: skip
    assert ours == {
        "EVENT": ["decision"],
        "GUEST": ["g1"],
        "OPERATION": ["migrate"],
        "VERDICT": ["fail"],
        "ACTION": ["block"],
        "DEVICE": [HOST],
        "SOURCE_EVIDENCE": ["sysfs"],
        "DESTINATION_EVIDENCE": ["file"],
    }
    assert "config-differs" in found["VFIO_PREFLIGHT_CODE"]
    assert 0 < int(single["VFIO_PREFLIGHT_DURATION_USEC"]) < 60_000_000
    assert int(single["VFIO_PREFLIGHT_WAITED_USEC"]) >= 0


def test_name_of_a_guest_makes_no_field(reader: socket.socket, host: Host) -> None:
    name = "g\nVFIO_PREFLIGHT_VERDICT=pass\n\u2028"
    host.run(b"<domain type='kvm'><hostdev", guest=name)
    found = fields(reader.recv(65536))
    assert found["VFIO_PREFLIGHT_VERDICT"] == ["unknown"]
    assert found["VFIO_PREFLIGHT_GUEST"] == ["g?VFIO_PREFLIGHT_VERDICT=pass??"]


def test_line_without_an_event_is_a_line_all_the_same(reader: socket.socket) -> None:
    journal.write("syslog", "plain")
    assert "MESSAGE_ID" not in fields(reader.recv(65536))
