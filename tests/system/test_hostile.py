"""S8, S10: the installed hook, run by hand as libvirt runs it, with input nobody should send."""

from __future__ import annotations

import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from lab import Host, guest_xml, hostdev_pci

from .pair import MIGRATED, OLD, OTHER_VSC, VF, Pair

HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
ERROR_BLOCKS = "[hook]\non-error = block\n"
UUID = "<uuid>11111111-2222-4333-8444-555555555555</uuid>"


def call(host: Host, xml: str, *, operation: str = "migrate") -> CompletedProcess[str]:
    """Run the hook as libvirt does: bare environment, XML on standard input."""
    host.path("/run/input.xml").write_text(xml)
    script = f"exec env -i LC_ALL=C PATH=/usr/bin:/bin HOME=/root {HOOK} g {operation} begin -"
    return host.run(["/bin/sh", "-c", f"{script} </run/input.xml"], timeout=30)


def plain_guest() -> str:
    address = "<address type='pci' domain='0' bus='1' slot='0' function='0'/>"
    controllers = (
        "<controller type='pci' index='0' model='pcie-root'/>"
        "<controller type='pci' index='1' model='pcie-root-port'/>"
    )
    xml = guest_xml("g", OLD, [controllers, hostdev_pci(VF, address)])
    return xml.replace("<name>", f"{UUID}<name>")


def recorded_guest(pair: Pair) -> str:
    guest = pair.start(guest_xml("g", OLD, [hostdev_pci(VF)]))
    return pair.a.virsh("dumpxml", "--migratable", guest).stdout


MALFORMED: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "cut short, without a word of VFIO": lambda: "<domain type='qemu'><name>g</name>",
    "not XML": lambda: "hostdev hostdev hostdev",
    "cut short": lambda: plain_guest()[:-200],
    "huge": lambda: "<domain>hostdev" + "x" * 60_000_000 + "</domain>",
    "entity bomb": lambda: (
        "<!DOCTYPE domain [<!ENTITY a 'hostdev'>"
        + "".join(f"<!ENTITY {chr(98 + n)} '{('&' + chr(97 + n) + ';') * 10}'>" for n in range(9))
        + "]><domain type='qemu'><name>&j;</name></domain>"
    ),
    "other namespace": lambda: plain_guest().replace("<domain ", "<domain xmlns='urn:other' "),
    "other document": lambda: "<network><forward mode='hostdev'/></network>",
}


@pytest.mark.parametrize("operation", ["migrate", "restore"])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_xml_is_let_pass_by_default(pair: Pair, name: str, operation: str) -> None:
    begun = time.monotonic()
    result = call(pair.b, MALFORMED[name](), operation=operation)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert time.monotonic() - begun < 12


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_xml_blocks_if_on_error_says_so(pair: Pair, name: str) -> None:
    # What is too large is no error of ours, but not known.
    pair.configure("[policy]\nunknown = block\n" if name == "huge" else ERROR_BLOCKS)
    result = call(pair.b, MALFORMED[name]())
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("vfio-preflight: migration blocked: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("operation", ["reconnect", "started", "stopped", "release", "prepare"])
def test_other_operations_never_fail(pair: Pair, operation: str) -> None:
    pair.configure("[policy]\nfial = block\n" + ERROR_BLOCKS)
    for xml in (plain_guest(), "hostdev"):
        result = call(pair.b, xml, operation=operation)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_configuration_with_a_typo(pair: Pair) -> None:
    pair.configure("[policy]\nfial = block\n")
    log = pair.b.path("/var/log/libvirt/vfio-preflight.log")
    result = call(pair.b, recorded_guest(pair))
    assert result.returncode == 0
    assert "not-checked" in result.stdout
    assert "[policy] fial: no such setting" in result.stdout
    assert not log.exists()

    pair.configure("[policy]\nfial = block\n" + ERROR_BLOCKS)
    result = call(pair.b, recorded_guest_again(pair))
    assert result.returncode == 1
    first, *below = result.stderr.splitlines()
    assert "[policy] fial: no such setting; to do: correct that, or set on-error = " in first
    assert any("[policy] fial: no such setting; known there: pass" in line for line in below)


def recorded_guest_again(pair: Pair) -> str:
    return pair.a.virsh("dumpxml", "--migratable", "g").stdout


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('sha256="', 'sha256="0', "record-damaged"),
        ('schema="1" host', 'schema="99" host', "record-damaged"),
        ('key="0000:01:00.0"', 'key="0000:0f:00.0"', "record-stray"),
        ('evidence="sysfs"', 'evidence="tea leaves"', "record-damaged"),
    ],
)
def test_record_that_is_damaged_or_anothers(pair: Pair, old: str, new: str, code: str) -> None:
    xml = recorded_guest(pair)
    assert old in xml
    changed = xml.replace(old, new)
    let_pass = call(pair.b, changed)
    assert let_pass.returncode == 0
    assert code in let_pass.stdout
    assert 'verdict="unknown"' in let_pass.stdout
    pair.configure("[policy]\nunknown = block\n")
    blocked = call(pair.b, changed)
    assert blocked.returncode == 1
    assert blocked.stderr.startswith("vfio-preflight: migration blocked: ")
    assert len(blocked.stderr.splitlines()[0].encode()) <= 200


def test_unreadable_state(pair: Pair) -> None:
    xml = recorded_guest(pair)
    state = pair.b.path(f"/var/lib/vfio-preflight/states/{VF}.txt")
    try:
        state.write_text("coffee stain\n")
        result = call(pair.b, xml)
    finally:
        state.unlink()
    assert result.returncode == 0
    assert "destination-unknown" in result.stdout
    assert "no bytes found" in result.stdout


def test_emulator_that_hangs_is_ended_within_the_deadline(pair: Pair) -> None:
    emulator = pair.b.path("/usr/bin/qemu-hangs")
    emulator.write_text("#!/bin/sh\necho $$ >/var/tmp/hangs\nexec sleep 1000\n")
    emulator.chmod(0o755)
    pair.configure("[hook]\ndeadline = 2\n[policy]\nunknown = block\n")
    xml = recorded_guest(pair).replace("/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-hangs")
    pair.present(pair.b, VF, OTHER_VSC)
    begun = time.monotonic()
    result = call(pair.b, xml)
    # On a busy host up to twice the deadline (etc/vfio-preflight.conf), and Python's start.
    assert time.monotonic() - begun < 5
    assert result.returncode == 1
    assert "emulator" in result.stderr.splitlines()[0]
    number = pair.b.path("/var/tmp/hangs").read_text().strip()
    assert not pair.b.path(f"/proc/{number}").exists()


def test_emulator_that_anyone_could_have_written_is_never_run(pair: Pair) -> None:
    emulator = pair.b.path("/var/tmp/qemu")
    emulator.write_text("#!/bin/sh\ntouch /var/tmp/was-run\n")
    emulator.chmod(0o777)
    xml = recorded_guest(pair).replace("/usr/bin/qemu-system-x86_64", "/var/tmp/qemu")
    result = call(pair.b, xml)
    assert result.returncode == 0
    assert "emulator-unknown" in result.stdout
    assert not pair.b.path("/var/tmp/was-run").exists()


def test_secrets_stay_out_of_log_and_annotation(pair: Pair) -> None:
    xml = recorded_guest(pair)
    secret = "<graphics type='vnc' passwd='hunter2hunter2'/>"
    pair.configure("[hook]\nlog = /run/preflight.log\n")
    result = call(pair.b, xml.replace("</devices>", f"{secret}</devices>"))
    assert result.returncode == 0
    assert result.stdout.count("hunter2hunter2") == 1  # libvirt's own, untouched
    log = pair.b.path("/run/preflight.log").read_text()
    assert "hunter2" not in log
    assert "migrate guest 'g': pass" in log


def test_broken_package_does_not_stop_guests(pair: Pair) -> None:
    guest = pair.start(guest_xml("broken", OLD, [hostdev_pci(VF)]))
    module = pair.b.path("/usr/lib/vfio-preflight/vfio_preflight/hook/entry.py")
    text = module.read_text()
    module.write_text("this is not Python\n")
    try:
        assert pair.migrate(guest).returncode == 0
        assert pair.where(guest) == MIGRATED
    finally:
        module.write_text(text)


def test_s8_neither_lxml_nor_emulator_for_a_guest_without_vfio(pair: Pair) -> None:
    xml = guest_xml("g", OLD).replace("<name>", f"{UUID}<name>")
    pair.b.path("/run/input.xml").write_text(xml)
    trace = "import sys; sys.path.insert(0, '/usr/lib/vfio-preflight')\n"
    trace += "from vfio_preflight.hook.entry import main\n"
    trace += "status = main(['g', 'migrate', 'begin', '-'])\n"
    trace += "print(status, [m for m in sys.modules if m.startswith(('lxml', 'subprocess'))])"
    result = pair.b.run(["/usr/bin/python3", "-I", "-c", trace], stdin=xml)
    assert result.stdout == "0 []\n", result.stderr
