"""Input that is no domain, that never ends, or takes too long to judge."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unit.hooked import (
    HANG,
    PLUGIN,
    PROGRAM,
    QUIET,
    Host,
    assert_blocked,
    assert_let_pass,
    domain,
    present,
)
from unit.makers import PMC
from unit.patience import PATIENCE


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.configure()
    return made


# --- XML that is none ----------------------------------------------------------------------------

BOMB = (
    b"<!DOCTYPE domain [<!ENTITY a 'hostdev'>"
    + b"".join(b"<!ENTITY %c '%s'>" % (c, b"&%c;" % (c - 1) * 10) for c in range(98, 110))
    + b"]><domain type='kvm'><name>&m;</name></domain>"
)
BAD_XML = {
    "empty": (
        b"",
        "could not be made: the domain XML is empty; ",
    ),
    "blank": (b" \n", "the domain XML is empty"),
    "cut short": (b"<domain type='kvm'><name>g1</name>", "not well-formed"),
    "malformed": (b"<domain type='kvm'><hostdev", "not well-formed"),
    "not text": (b"\xff\xfe\x00hostdev", "not well-formed"),
    "entity bomb": (BOMB, "the domain XML "),
    "wrong namespace": (b"<domain xmlns='urn:x' type='kvm'><hostdev/></domain>", "not a libvirt"),
    "another hypervisor": (b"<domain type='xen'><hostdev/></domain>", "type 'xen'"),
    "another document": (b"<network><forward mode='hostdev'/></network>", "<network>"),
    "no name": (b"<domain type='kvm'><hostdev/></domain>", "no"),
}


@pytest.mark.parametrize("case", ["empty", "cut short", "malformed", "entity bomb"])
def test_bad_xml_passes_by_default(case: str, host: Host) -> None:
    xml, part = BAD_XML[case]
    assert_let_pass(host.run(xml))
    assert part in host.log and "let pass" in host.log
    assert host.log.count("\n") == 1


@pytest.mark.parametrize("case", BAD_XML)
def test_bad_xml_is_blocked_if_so_configured(case: str, host: Host) -> None:
    host.configure(on_error="block")
    xml, part = BAD_XML[case]
    result = host.run(xml)
    assert_blocked(result, part)
    assert result.seconds < PATIENCE


@pytest.mark.parametrize("on_error", ["allow", "block"])
def test_bad_xml_never_fails_a_restore(on_error: str, host: Host) -> None:
    host.configure(on_error=on_error)
    for operation in ("restore", "prepare"):
        for case in ("malformed", "empty"):
            assert_let_pass(host.run(BAD_XML[case][0], operation))


def test_message_is_for_an_operator(host: Host) -> None:
    host.configure(on_error="block")
    err = host.run(BAD_XML["malformed"][0]).err
    first, *below = err.splitlines()
    assert first.endswith("; to do: correct that, or set on-error = allow on the destination")
    assert len(below) == 2 and "to do: correct that; or set on-error = allow in /etc/" in err
    assert "GuestError" not in err and "<string>" not in err


# --- XML that is too large -----------------------------------------------------------------------

KVM = b"<domain type='kvm'>"
HOSTDEVS = b"<devices>" + b"<hostdev mode='subsystem' type='usb'/>" * 1025 + b"</devices>"
TOO_LARGE = {
    "bytes": (KVM + b" " * (60 << 20) + b"</domain>", "more than 16777216 bytes", False),
    "depth": (KVM + b"<hostdev>" * 100_000, "Excessive depth", False),
    "attributes": (
        KVM + b"<hostdev " + b" ".join(b"a%d='>'" % n for n in range(50_000)) + b"/></domain>",
        "over 512 attributes",
        False,
    ),
    # Parsed, so that it can be annotated, and a restore of it be refused.
    "devices": (
        domain().replace(b"<devices>", HOSTDEVS[:-10]),
        "more than 1024 host devices",
        True,
    ),
}


@pytest.mark.parametrize("on_error", ["allow", "block"])
@pytest.mark.parametrize("case", TOO_LARGE)
def test_xml_that_is_too_large_is_unknown(case: str, on_error: str, host: Host) -> None:
    """Whoever can make a guest's XML large does not switch the check off with that."""
    xml, part, parsed = TOO_LARGE[case]
    host.configure(on_error=on_error)
    result = host.run(xml)
    assert (result.status, result.err, bool(result.out)) == (0, "", parsed)
    action = "annotate" if parsed else "allow"
    assert f"migrate guest 'g1': unknown, {action} [guest-too-large]: it cannot be" in host.log
    assert part in host.log and host.log.count("\n") == 1
    host.configure(unknown="block", on_error=on_error)
    assert_blocked(host.run(xml), part)


@pytest.mark.parametrize("case", TOO_LARGE)
def test_restore_of_xml_that_is_too_large(case: str, host: Host) -> None:
    xml, _, parsed = TOO_LARGE[case]
    host.configure(unknown="block")
    restored = host.run(xml, "restore")
    assert (restored.status, restored.err, bool(restored.out)) == (0, "", parsed)
    prepared = host.run(restored.out or xml, "prepare")
    assert (prepared.status, prepared.out) == (1 if parsed else 0, b"")
    assert ("restore blocked" in prepared.err) is parsed


def test_metadata_with_many_equal_signs_is_not_too_large(host: Host) -> None:
    """Other applications keep whole files there, as text."""
    present(host)
    text = b"<o:o xmlns:o='urn:o' a='>'>" + b'key="value" = \n' * 5000 + b"</o:o>"
    result = host.run(domain().replace(b"<metadata>", b"<metadata>" + text))
    assert b"emulator-unknown" in result.out and b"guest-too-large" not in result.out


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["allow", "block"])
def test_deadline(on_error: str, host: Host) -> None:
    present(host)
    host.configure(on_error=on_error, deadline=0.8)
    result = host.run(domain(), patch=HANG)
    assert result.seconds < PATIENCE
    if on_error == "allow":
        assert_let_pass(result)
    else:
        assert_blocked(result, "no result within the deadline")
    assert "no result within the deadline" in host.log


STUCK_SYSLOG = """
from vfio_preflight.hook import journal
def stuck(*_args):
    import time
    time.sleep(60)
journal._syslog = stuck
"""


@pytest.mark.parametrize("log", ["syslog", "fifo", "/dev/full"])
@pytest.mark.parametrize("hangs", [False, True])
def test_log_that_blocks_or_fails_changes_nothing(log: str, hangs: bool, host: Host) -> None:
    present(host, PMC)
    if log == "fifo":
        os.mkfifo(host.directory / log)
        log = f"{host.directory}/{log}"
    host.configure(on_error="block", deadline=1.0, log=log)
    result = host.run(domain(), patch=STUCK_SYSLOG + (HANG if hangs else ""))
    assert_blocked(result, "no result within the deadline" if hangs else "PM at 0x40")
    assert result.seconds < PATIENCE


@pytest.mark.parametrize("operation", ["migrate", "restore"])
def test_configuration_that_is_a_fifo_is_not_waited_for(operation: str, host: Host) -> None:
    present(host)
    (host.directory / "x.conf").unlink()
    os.mkfifo(host.directory / "x.conf")
    result = host.run(domain(), operation, patch=QUIET)
    assert result.status == 0 and b"is not a regular file" in result.out
    assert result.seconds < PATIENCE


def test_input_that_never_ends_is_not_waited_for(host: Host) -> None:
    """Neither one that stays silent, nor one that trickles on beyond the time for it."""
    host.configure(on_error="block")
    program = PROGRAM.replace("PATCH", "entry.INPUT_SECONDS = 0.3")
    arguments = [sys.executable, "-c", program, str(host.directory), "g1", "migrate", "begin", "-"]
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN)}
    for chunks in (0, 6):
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        assert process.stdin is not None and process.stderr is not None
        for _ in range(chunks):
            time.sleep(0.1)
            try:
                process.stdin.write(b"<domain>")
                process.stdin.flush()
            except BrokenPipeError:
                break
        assert process.wait(3.0) == 1
        assert b"migration blocked" in process.stderr.read()
        process.stderr.close()
        try:
            process.stdin.close()
        except BrokenPipeError:
            continue


@pytest.mark.parametrize(
    ("operation", "on_error", "status"),
    [("migrate", "allow", 0), ("migrate", "block", 1), ("restore", "block", 0)],
)
def test_closed_input(operation: str, on_error: str, status: int, host: Host) -> None:
    host.configure(on_error=on_error)
    result = host.run(b"", operation, patch="import os\nos.close(0)")
    assert (result.status, result.out, bool(result.err)) == (status, b"", status == 1)
    assert "the domain XML is empty" in host.log
