"""What the hook does with whom, and that nothing of its own can stop a guest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unit.domains import KEY, make_domain, report_of
from unit.hooked import QUIET, Host, Result, assert_blocked, assert_let_pass, domain, present
from unit.makers import HOST, PMC, UUID
from unit.patience import appears
from vfio_preflight.hook import attempt, call, journal
from vfio_preflight.hook import entry as hook
from vfio_preflight.judge.checks.evidence import PROMPT


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.configure()
    return made


# --- what the hook has no business with ----------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["g1"],
        ["g1", "migrate"],
        ["g1", "migrate", "end", "-"],
        *(["g1", operation, "begin", "-"] for operation in ("start", "starting", "stopped")),
        *(["g1", operation, "begin", "-"] for operation in ("reconnect", "attach", "release")),
        ["g1", "prepare", "end", "-"],
        ["g1", "MIGRATE", "begin", "-"],
    ],
)
def test_ignored_operation(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "read_input", lambda: pytest.fail("it read its input"))
    assert hook.main(arguments) == 0


def test_guest_without_vfio_devices(host: Host) -> None:
    result = host.run(make_domain(hosts=()))
    assert_let_pass(result)
    unwanted = {"lxml", "lxml.etree", "argparse", "logging", "rich", "libvirt", "subprocess"}
    assert not result.modules & unwanted
    assert "vfio_preflight.hook.gate" not in result.modules
    assert host.log == ""


@pytest.mark.parametrize("operation", ["restore", "prepare"])
def test_guest_without_vfio_devices_restored(operation: str, host: Host) -> None:
    assert_let_pass(host.run(make_domain(hosts=()), operation))


# --- verdicts, through processes and pipes -------------------------------------------------------


def test_annotated(host: Host) -> None:
    present(host)
    result = host.run(domain())
    assert (result.status, result.err) == (0, "")
    report = report_of(result.out)
    assert (report.get("verdict"), report.get("action")) == ("unknown", "annotate")
    assert "migrate guest 'g1': unknown, annotate [emulator-unknown" in host.log


def test_blocked(host: Host) -> None:
    present(host, PMC)
    assert_blocked(host.run(domain()), "PM at 0x40, PMC")


def test_restore_is_refused_by_prepare(host: Host) -> None:
    present(host, PMC)
    restored = host.run(domain(), "restore")
    assert (restored.status, restored.err) == (0, "")
    prepared = host.run(restored.out, "prepare")
    assert (prepared.status, prepared.out) == (1, b"")
    assert prepared.err.startswith("vfio-preflight: restore blocked: ")
    assert_let_pass(host.run(restored.out, "prepare"))


# --- what became of it ---------------------------------------------------------------------------


def released(host: Host, patch: str = "", xml: bytes = b"") -> Result:
    return host.run(xml or domain(), "release", patch, sub="end", extra="failed")


def test_release_is_silent_whatever_happened(host: Host) -> None:
    present(host)
    assert_let_pass(released(host))
    assert host.run(domain()).status == 0
    path = host.directory / "run/expected/g1.json"
    # The hook leaves it when it has answered.
    assert appears(path)
    assert_let_pass(released(host))
    path.write_text("{")
    assert_let_pass(released(host, xml=b"<domain"))


@pytest.mark.parametrize(
    "patch",
    [
        "sys.modules['vfio_preflight.hook.supervise'] = None",
        "sys.modules['vfio_preflight.hook.outcome'] = None",
        "import os\ndef fork(): raise OSError('no more processes')\nos.fork = fork",
    ],
)
def test_release_passes_with_a_broken_installation(patch: str, host: Host) -> None:
    result = released(host, patch=f"{QUIET}{patch}\n")
    if "fork" not in patch:
        assert_let_pass(result)
    # The shell part of the hook logs it, if that can start a process, and ends with 0.
    else:
        assert (result.status, result.err) == (hook.NOT_JUDGED, "")
        assert result.out == b"release end: nothing learned: OSError: no more processes"


def test_release_never_takes_long(host: Host) -> None:
    hang = "from vfio_preflight.hook import outcome\nimport time\n"
    result = released(host, patch=f"{QUIET}{hang}outcome.released = lambda *_: time.sleep(60)\n")
    assert_let_pass(result)
    # Two seconds of its own, and what a loaded machine takes to start an interpreter.
    assert result.seconds < 10


# --- what libvirt waits for, and what not -------------------------------------------------------

SLOW = """
import time
from vfio_preflight.hook import started
from vfio_preflight.hook.supervise import Outcome
def slow(*_args):
    time.sleep(1)
    open(f"{directory}/done", "w").close()
    return Outcome(0)
started.started = slow
"""


@pytest.mark.parametrize("waiting", [False, True], ids=["cold", "second-gate"])
def test_only_the_second_gate_has_to_hurry(waiting: bool, host: Host) -> None:
    """A capture is made in the background, on a host that starts many guests at once."""
    path = host.directory / "x.conf"
    path.write_text(path.read_text().replace("[hook]", "[hook]\nsecond-gate-deadline = 0.2"))
    if waiting:
        attempt.leave(f"{host.directory}/run", "g1", UUID)
    xml = domain().replace(b"<name>", f"<uuid>{UUID}</uuid><name>".encode(), 1)
    assert_let_pass(host.run(xml, "started", SLOW))
    assert (host.directory / "done").exists() is not waiting
    assert call.CAPTURE_SECONDS == PROMPT


# --- records, states, configuration --------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        (b'schema="1"', b'schema="9"', "has schema '9'"),
        (b'size="256"', b'size="4096"', "256 bytes where its size says '4096'"),
        (b'evidence="sysfs"', b'evidence="hearsay"', "unknown evidence"),
        (b">eN", b">AA", "cannot be decoded"),
        (KEY.encode(), b"0000:09:00.0", "carries no record of this device"),
    ],
)
def test_damaged_record(old: bytes, new: bytes, part: str, host: Host) -> None:
    present(host)
    xml = domain()
    assert xml.count(old) == 1
    annotated = host.run(xml.replace(old, new))
    assert (annotated.status, annotated.err) == (0, "")
    assert report_of(annotated.out).get("verdict") == "unknown"
    host.configure(unknown="block")
    blocked = host.run(xml.replace(old, new))
    assert blocked.status == 1 and part in blocked.err


def test_unreadable_state(host: Host) -> None:
    (host.directory / "states" / HOST).mkdir(parents=True)
    host.configure(unknown="block")
    result = host.run(domain())
    assert result.status == 1 and "cannot be read: Is a directory" in result.err


@pytest.mark.parametrize("typo", ["fial = allow", "no equals sign", "[polcy]"])
def test_configuration_with_a_typo(typo: str, host: Host) -> None:
    present(host)
    host.configure(typo=typo)
    result = host.run(domain())
    assert (result.status, result.err) == (0, "")
    assert "migrate guest 'g1': unknown, annotate [not-checked]: the check could not" in host.log
    (finding,) = report_of(result.out).findall("finding")
    assert finding.get("code") == "not-checked"
    assert finding.text is not None and "x.conf" in finding.text


KEPT_SYSLOG = """
from vfio_preflight.hook import journal
def kept(line, warning):
    with open(f"{directory}/syslog", "a") as file:
        file.write(f"{warning} {line}\\n")
journal._syslog = kept
"""


@pytest.mark.parametrize("kind", ["fifo", "directory", "huge"])
@pytest.mark.parametrize("operation", ["migrate", "restore"])
def test_configuration_that_cannot_be_read_is_told(kind: str, operation: str, host: Host) -> None:
    """A certain failure then passes, by default: syslog has why, as no other log is known."""
    present(host, PMC)
    path = host.directory / "x.conf"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_text("[hook]\nlog = /nowhere\n" + "#\n" * (1 << 19))
    result = host.run(domain(), operation, patch=KEPT_SYSLOG)
    assert (result.status, result.err) == (0, "")
    (line,) = (host.directory / "syslog").read_text().splitlines()
    assert line.startswith(f"True {operation} guest 'g1': unknown, annotate [not-checked]: ")
    assert "x.conf: cannot be read: " in line


def test_configuration_with_a_typo_blocks_if_it_says_so(host: Host) -> None:
    host.configure(on_error="block", typo="fial = allow")
    blocked = host.run(domain(), patch=QUIET)
    assert_blocked(blocked, f"the check could not be made: {host.directory}"[:80])
    assert "[policy] fial: no such setting" in blocked.err


# --- main() never raises -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["read_input", "may_have_vfio", "call.judge"])
@pytest.mark.parametrize("operation", ["migrate", "restore", "prepare"])
def test_own_failure_is_logged_and_let_pass(
    name: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("broken installation")

    lines: list[str] = []

    def write(_log: str, line: str, **_options: object) -> bool:
        lines.append(line)
        return True

    monkeypatch.setattr(hook, "read_input", lambda: b"<hostdev/>")
    module, _, function = name.rpartition(".")
    monkeypatch.setattr(call if module else hook, function, fail)
    monkeypatch.setattr(journal, "write", write)
    assert hook.main(["g1", operation, "begin", "-"]) == 0
    assert lines == [f"{operation} begin: nothing checked: RuntimeError: broken installation"]


@pytest.mark.parametrize(
    "module", ["hook.supervise", "configuration", "hook.journal", "judge.verdicts"]
)
@pytest.mark.parametrize("operation", ["migrate", "restore"])
def test_broken_installation_lets_pass(module: str, operation: str, host: Host) -> None:
    """Above all it must not fail a restore: libvirt 11.3 would delete the saved state."""
    broken = f"sys.modules['vfio_preflight.{module}'] = None\n"
    broken = broken if module == "hook.journal" else QUIET + broken
    patch = broken + "from vfio_preflight.hook import supervise\nsupervise.supervised = None\n"
    if module == "hook.supervise":
        patch = broken
    result = host.run(domain(), operation, patch=patch)
    if module != "hook.journal":
        assert_let_pass(result)
        return
    # Nothing here can log it: the shell part of the hook does, and ends with 0 (test_launcher).
    assert (result.status, result.err) == (hook.NOT_JUDGED, "")
    assert result.out.startswith(f"{operation} begin: nothing checked: ".encode())
    assert b"(not logged: " in result.out


def test_no_process_can_be_started(host: Host) -> None:
    patch = "import os\ndef fork(): raise OSError('no more processes')\nos.fork = fork"
    assert_let_pass(host.run(domain(), patch=patch))
    assert "no process could be started: no more processes" in host.log
    host.configure(on_error="block")
    assert_blocked(host.run(domain(), patch=patch), "no process could be started")


@pytest.mark.parametrize(
    ("token", "incoming", "blocked"),
    [
        ("", None, True),
        ("", True, True),
        ("", False, False),
        ("of another attempt", None, False),
    ],
)
def test_only_the_start_that_an_attempt_waits_for_can_fail(
    token: str, incoming: bool | None, blocked: bool, host: Host
) -> None:
    """An offline migration leaves an attempt behind, and no cold start is failed for it."""
    host.configure("block")
    xml = domain().replace(b"<name>", f"<uuid>{UUID}</uuid><name>".encode(), 1)
    attempt.leave(str(host.directory / "run"), "g1", UUID, token)
    patch = (
        "from vfio_preflight.hook import started\nstarted.find_process = lambda *_: 1 // 0\n"
        "from vfio_preflight.host import processes\n"
        f"processes.is_incoming = lambda _: {incoming}"
    )
    result = host.run(xml, "started", patch)
    assert "the check of guest 'g1' at started begin could not be made" in host.log
    if blocked:
        assert_blocked(result, "ZeroDivisionError")
    else:
        assert_let_pass(result)
