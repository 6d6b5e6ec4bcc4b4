"""The case this project was made for, in the virtual machine: real kernel, QEMU and libvirt.

Two private libvirtd migrate a guest with a mediated device of tests/vm/module from one to the
other. The devices' Vendor Specific Information differs, and nothing was put anywhere by hand: no
states file, no catalogue, no open-devices. Prints what an operator would see, and CHECK lines; ends
with exit status 1 if one of them does not hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab import Host, Lab, guest_xml, make_config  # noqa: E402
from lab.configs import patched  # noqa: E402
from system.pair import OLD, QEMU_LINE, Pair  # noqa: E402

# A PCI device, as vGPUs have: traits such as its IDs and driver say what an mdev presents.
PARENT = "0000:01:00.0"
HERE = "11111111-0000-4000-8000-00000000000a"
THERE = "11111111-0000-4000-8000-00000000000b"
CONFIG = make_config()
OTHER_VSC = patched(CONFIG, 0x63, CONFIG[0x63] ^ 0x50)
OTHER_LENGTH = patched(OTHER_VSC, 0x62, CONFIG[0x62] ^ 0x04)
OTHER_PM = patched(OTHER_VSC, 0x43, CONFIG[0x43] ^ 0x02)
# DMA logging may be missing in the kernel: then QEMU migrates such a device only if it is told to.
TOLERATED = "enable-migration", "x-device-dirty-page-tracking"
# QEMU does not compare Vendor Specific Information from 9.1 on.
NEWEST = "pc-q35-10.0"
# Deadlines that suit TCG.
DEADLINES = "[hook]\ndeadline = 60\nsecond-gate-deadline = 30\n"
ALLOWING = "[policy]\nfail = allow\n"
MENDING = "[policy]\nfail = mend\nvsc-tolerant = 10de:*\n"

failed: list[str] = []


def check(what: str, holds: object) -> None:
    """One line of the result."""
    print(f"CHECK {'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        failed.append(what)


def make_device(uuid: str, config: bytes) -> None:
    """A mediated device that presents ``config``."""
    home = Path("/sys/bus/mdev/devices", uuid)
    if not home.exists():
        (kind,) = Path("/sys/class/mdev_bus", PARENT, "mdev_supported_types").glob("*-one")
        (kind / "create").write_text(uuid)
    (home / "preflight/config").write_bytes(config)
    (home / "preflight/bars").write_text("16384 0 0 0 0 0")
    (home / "preflight/irqs").write_text("1 1 4 1 1")


def guest(name: str, machine: str, uuid: str) -> str:
    """Domain XML of a guest with the device, which QEMU is told to migrate."""
    hostdev = (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
        f"<source><address uuid='{uuid}'/></source>"
        "<address type='pci' domain='0' bus='1' slot='0' function='0'/></hostdev>"
    )
    ports = (
        "<controller type='pci' index='0' model='pcie-root'/>"
        "<controller type='pci' index='1' model='pcie-root-port'/>"
    )
    settings = "".join(
        f"<qemu:property name='{name}' type='{kind}' value='{value}'/>"
        for name, kind, value in (
            (TOLERATED[0], "string", "on"),
            (TOLERATED[1], "string", "off"),
        )
    )
    override = (
        "<qemu:override><qemu:device alias='hostdev0'><qemu:frontend>"
        f"{settings}</qemu:frontend></qemu:device></qemu:override>"
    )
    xml = guest_xml(name, machine, [ports, hostdev])
    return xml.replace("</domain>", f"{override}</domain>")


def wait_for_capture(pair: Pair, name: str) -> bool:
    """Whether the hook has read the guest's device within two minutes."""
    path = pair.a.path(f"/run/vfio-preflight/started/{name}.json")
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return path.exists()


def started(pair: Pair, name: str, machine: str = OLD) -> str:
    """The guest, running on a and recorded from what the hook captured at its start."""
    pair.a.start_guest(guest(name, machine, HERE))
    check(f"{name}: captured at its start", wait_for_capture(pair, name))
    recorded = pair.record(name)
    print(recorded.stdout, recorded.stderr)
    check(f"{name}: recorded, with evidence vfio", "vfio (VFIO" in recorded.stdout)
    return name


def migrate(pair: Pair, name: str) -> subprocess.CompletedProcess[str]:
    """The same, printed."""
    begun = time.monotonic()
    result = migrated(pair, name)
    print(f"$ virsh migrate {name} ({time.monotonic() - begun:.1f} s)\n{result.stderr}", flush=True)
    return result


def migrated(pair: Pair, name: str) -> subprocess.CompletedProcess[str]:
    """To b, where the device has another UUID: libvirt is given the XML that says so."""
    xml = pair.a.virsh("dumpxml", "--migratable", name).stdout.replace(HERE, THERE)
    with tempfile.NamedTemporaryFile("w", suffix=".xml", dir="/tmp") as file:
        file.write(xml)
        file.flush()
        os.chmod(file.name, 0o644)
        return pair.lab.migrate(name, pair.a, pair.b, "--xml", file.name, timeout=300)


def was_begun(host: Host, name: str) -> bool:
    """Whether the source's QEMU ever began to send the guest: there is no status before."""
    answer = host.virsh("qemu-monitor-command", name, '{"execute":"query-migrate"}').stdout
    return "status" in json.loads(answer)["return"]


def is_refused(pair: Pair, name: str, *parts: str) -> None:
    """Refused at the second gate, with these words, before any memory; the guest runs on at a.

    It has to be the guest's first attempt.
    """
    result = migrate(pair, name)
    check(f"{name}: refused at started begin", "started begin" in result.stderr)
    for part in ("migration blocked", *parts):
        check(f"{name}: it says: {part}", part in result.stderr)
    check(f"{name}: nothing was sent", not was_begun(pair.a, name))
    check(f"{name}: runs on at the source", pair.where(name) == ("running", ""))


def passes(pair: Pair, name: str) -> None:
    result = migrate(pair, name)
    check(f"{name}: runs at the destination", result.returncode == 0)
    check(f"{name}: runs there alone", pair.where(name)[1] == "running")


def is_mended(pair: Pair, name: str) -> bool:
    return any('"skip-vsc-check":true' in part for part in pair.b.qemu_arguments(name))


def end(pair: Pair, name: str) -> None:
    for host in (pair.a, pair.b):
        host.virsh("destroy", name)
        host.virsh("undefine", name)


def make_upgraded(host: Host) -> None:
    """Let its driver be of another version, as after an upgrade; both hosts have one kernel."""
    release = "/proc/sys/kernel/osrelease"
    edit = f"sed s/-amd64/-1-amd64/ {release} >/root/release"
    host.run(["sh", "-c", f"{edit} && mount --bind /root/release {release}"]).check_returncode()


def refused_by_qemu(pair: Pair, name: str, settings: str) -> None:
    """Where the hook lets it pass, QEMU refuses as it loads the guest, which runs on at a."""
    pair.configure(ALLOWING + settings)
    result = migrate(pair, name)
    check(f"{name}: QEMU itself refuses", result.returncode != 0)
    log = pair.b.guest_log(name)
    print(f"b's log: {log[-600:]}")
    check(f"{name}: with the line that was predicted", QEMU_LINE in log)
    check(f"{name}: the source had begun to send", was_begun(pair.a, name))
    check(f"{name}: runs on at the source", pair.where(name) == ("running", ""))


def forget(pair: Pair) -> None:
    """All that b has learned of devices, by reading them and from QEMU's refusals."""
    pair.b.run(["vfio-preflight", "catalogue", "forget", "--all"])
    shutil.rmtree(pair.b.path("/var/lib/vfio-preflight/history"), ignore_errors=True)


def refused_and_mended(pair: Pair) -> None:
    """One guest's way: refused by the hook, by QEMU where the hook allows it, and then mended."""
    name = started(pair, "block")
    pair.configure(DEADLINES)
    is_refused(pair, name, "VSC at 0x60", "source 01, destination 51", QEMU_LINE)
    entries = pair.b.run(["vfio-preflight", "catalogue", "list"]).stdout
    check("block: what was read is in the catalogue", "10de:1eb8" in entries)

    refused_by_qemu(pair, name, DEADLINES)

    pair.configure(MENDING + DEADLINES)
    passes(pair, name)
    check("block: mended at migrate begin, by the catalogue", is_mended(pair, name))
    check("block: annotated", pair.annotation(name).get("action") == "mend")
    end(pair, name)


def mended_ahead(pair: Pair) -> None:
    """At the first attempt, when nothing is known of b's device."""
    pair.configure(MENDING + DEADLINES)
    forget(pair)
    name = started(pair, "ahead")
    passes(pair, name)
    check("ahead: mended ahead at the first attempt", is_mended(pair, name))
    said = pair.annotation(name).find(".//*[@code='mended-ahead']")
    check("ahead: the annotation says so", said is not None)
    end(pair, name)


def others_are_refused(pair: Pair) -> None:
    """What no mend helps against."""
    pair.configure(MENDING + DEADLINES)
    for name, config, part in (
        ("length", OTHER_LENGTH, "VSC at 0x60"),
        ("pm", OTHER_PM, "PM at 0x40"),
    ):
        forget(pair)
        make_device(THERE, config)
        started(pair, name)
        is_refused(pair, name, part)
        end(pair, name)


def newer_pass(pair: Pair) -> None:
    """Machine types for which QEMU skips the Vendor Specific Information."""
    pair.configure(MENDING + DEADLINES)
    make_device(THERE, OTHER_VSC)
    forget(pair)
    name = started(pair, "new", NEWEST)
    passes(pair, name)
    end(pair, name)
    # The second gate has read the device, so that the first one knows what it presents.
    name = started(pair, "known", NEWEST)
    passes(pair, name)
    check("known: tolerated", pair.annotation(name).get("verdict") == "tolerated")
    check("known: not mended", not is_mended(pair, name))
    end(pair, name)


def load_module() -> bool:
    module = f"{os.environ['KERNEL_DIR']}/preflight_mdev.ko"
    return subprocess.run(["insmod", module, f"parent={PARENT}"], check=False).returncode == 0


@contextlib.contextmanager
def hosts(*uuids: str) -> Iterator[Pair]:
    """Two hosts, the project installed on a, in a machine with these mediated devices."""
    check("the module loads", load_module())
    for uuid in uuids:
        make_device(uuid, CONFIG)
    with tempfile.TemporaryDirectory(dir="/tmp") as work, Lab(Path(work), faked=False) as lab:
        pair = Pair(lab)
        pair.install(lab.a)
        try:
            yield pair
        finally:
            print_logs(lab.a, lab.b)


def print_logs(*given: Host) -> None:
    """The end of what the hook and libvirtd logged."""
    for host in given:
        for log in ("syslog", "libvirt/libvirtd.log"):
            path = host.path(f"/var/log/{log}")
            if path.exists():
                print(f"--- {host.name}: {log}\n{path.read_text()[-3000:]}")


def result() -> int:
    """The exit status, and a last line."""
    print(f"{len(failed)} of the checks failed")
    return 1 if failed else 0


def main() -> int:
    with hosts(HERE, THERE) as pair:
        pair.install(pair.b)
        make_upgraded(pair.b)
        make_device(THERE, OTHER_VSC)
        refused_and_mended(pair)
        mended_ahead(pair)
        others_are_refused(pair)
        newer_pass(pair)
    return result()


if __name__ == "__main__":
    sys.exit(main())
