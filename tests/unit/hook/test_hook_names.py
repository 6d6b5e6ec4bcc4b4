"""Names from the guest's XML, through the whole hook: no verdict is lost, and none gets out raw."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from lxml import etree

from unit.domains import report_of
from unit.hooked import Host, assert_blocked, assert_let_pass, domain, present
from unit.makers import PMC
from vfio_preflight.guest.metadata import NAMESPACE
from vfio_preflight.guest.xml import parse_domain

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
# C1's CSI, carriage return, right-to-left override: in the bytes of UTF-8.
OBEYED = (b"\xc2\x9b", b"\r", b"\xe2\x80\xae", b"\x1b")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.configure()
    return made


def with_device(**options: object) -> bytes:
    """The guest with another device, of JSON on QEMU's command line."""
    root = parse_domain(domain())
    line = etree.SubElement(root, f"{{{QEMU}}}commandline", nsmap={"qemu": QEMU})
    value = json.dumps({"driver": "vfio-pci", "bus": "pcie.0", **options})
    for each in ("-device", value):
        etree.SubElement(line, f"{{{QEMU}}}arg", value=each)
    return etree.tostring(root)


def od(data: bytes) -> str:
    return subprocess.run(["od", "-c"], input=data, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("key", ["id", "host", "sysfsdev", "x-pci-vendor-id", "romfile"])
@pytest.mark.parametrize("name", ["a\ud800b", "a\u0000b", "a\u009b\r\u202eb", "a\U0010ffffb"])
def test_certain_failure_gets_out_whatever_is_in_a_name(key: str, name: str, host: Host) -> None:
    present(host, PMC)
    xml = with_device(**{key: name})
    assert_blocked(host.run(xml), "PM at 0x40, PMC")
    restored = host.run(xml, "restore")
    assert restored.status == 0 and report_of(restored.out).get("action") == "block"
    prepared = host.run(restored.out, "prepare")
    assert prepared.status == 1 and "PM at 0x40, PMC" in prepared.err.splitlines()[0]


@pytest.mark.parametrize("name", ["a\ud800b", "a\u009b\r\u202eb"])
def test_guest_that_passes_is_annotated_whatever_is_in_a_name(name: str, host: Host) -> None:
    present(host)
    result = host.run(with_device(id=name))
    assert (result.status, result.err) == (0, "")
    keys = [device.get("key", "") for device in report_of(result.out).findall("device")]
    assert len(keys) == 2 and all(key.isprintable() for key in keys)


def test_no_name_reaches_a_terminal_or_the_log_as_it_is(host: Host) -> None:
    """virsh prints what the hook writes to standard error as it is."""
    present(host, PMC)
    name = "g\u009b2J&#13;\u202e1"
    xml = domain().replace(b"<name>g1<", f"<name>{name}<".encode())
    xml = xml.replace(b'machine="', 'machine="\u009b31m&#13;'.encode(), 1)
    given = "g\u009b2J\r\u202e1"
    first = host.run(xml, guest=given)
    restored = host.run(xml, "restore", guest=given)
    prepared = host.run(restored.out, "prepare", guest=given)
    broken = host.run(b"<domain type='\xc2\x9b'>hostdev", guest=given)
    assert (first.status, prepared.status, broken.status) == (1, 1, 0)
    ours = etree.tostring(report_of(restored.out), encoding="utf-8")
    for written in (first.err.encode(), prepared.err.encode(), host.log.encode(), ours):
        assert b"g?2J??1" in written or b"g\\x9b2J\\r\\u202e1" in written or written is ours
        for part in OBEYED:
            assert part not in written, od(written)


def test_one_line_of_the_log_a_call(host: Host) -> None:
    """What was done, and nothing else: not a verdict, and then that it was let pass."""
    present(host, PMC)
    host.run(domain())
    restored = host.run(domain(), "restore")
    host.run(restored.out, "prepare")
    lines = [line.partition(": ")[2] for line in host.log.splitlines()]
    assert [line.partition("[")[0] for line in lines[:2]] == [
        "migrate guest 'g1': fail, blocked ",
        "restore guest 'g1': fail, blocked ",
    ]
    assert lines[1].endswith("; prepare begin is to refuse it")
    assert lines[2:] == ["prepare guest 'g1': restore blocked, as restore begin found"]


LATE = """
from vfio_preflight.hook import gate
def late(*_args):
    import time
    time.sleep(60)
"""


@pytest.mark.parametrize("place", ["gate.Gate._await_started", "gate.Gate._block", "gate.refusal"])
@pytest.mark.parametrize("on_error", ["allow", "block"])
def test_verdict_that_comes_too_late_is_not_logged(place: str, on_error: str, host: Host) -> None:
    """The deadline falls between the verdict and its action: the log has what was done."""
    present(host, PMC)
    host.configure(on_error=on_error, deadline=0.8)
    result = host.run(domain(), patch=f"{LATE}{place} = late\n")
    if on_error == "allow":
        assert_let_pass(result)
    else:
        assert_blocked(result, "no result within the deadline")
    (line,) = host.log.splitlines()
    assert "no result within the deadline; " in line
    assert line.endswith("let pass" if on_error == "allow" else "blocked")


def test_our_namespace_is_what_is_read() -> None:
    assert NAMESPACE.encode() in domain()
