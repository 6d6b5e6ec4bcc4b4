"""Ways round the gate: what it cannot see is told, and can be asked about beforehand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Host, guest_xml, hostdev_pci

from .pair import CONFIG, MIGRATED, OLD, OTHER_VSC, STAYED, VF, Pair

MEMORY = "/var/lib/libvirt/snapshot.mem"
DISK = "/var/lib/libvirt/disk.raw"
DISK_XML = (
    f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{DISK}'/>"
    "<target dev='vda' bus='virtio'/></disk>"
)
OPERATIONS = "/var/log/libvirt/operations"
WITNESS = f'#!/bin/sh\necho "$2 $3" >>{OPERATIONS}\n'
NOISE = "#!/bin/sh\necho starting the guest\n"


# --- snapshots -----------------------------------------------------------------------------------


@pytest.fixture
def witness(pair: Pair) -> Iterator[Path]:
    """What hooks are called with on a, from here on."""
    hook = pair.a.hooks / "qemu.d/90-witness"
    hook.write_text(WITNESS)
    hook.chmod(0o755)
    yield pair.a.path(OPERATIONS)
    hook.unlink()
    pair.a.path(OPERATIONS).unlink(missing_ok=True)


@pytest.fixture
def snapshot(pair: Pair) -> Iterator[str]:
    """A running guest of which a snapshot with memory was taken, into a file of its own."""
    pair.a.path(DISK).touch()
    os.truncate(pair.a.path(DISK), 1 << 20)
    pair.a.path(DISK).chmod(0o666)
    guest = pair.start(guest_xml("snap", OLD, [DISK_XML, hostdev_pci(VF)]))
    files = (f"file={MEMORY},snapshot=external", f"vda,file={DISK}.overlay,snapshot=external")
    arguments = ("snapshot-create-as", guest, "s1", "--memspec", files[0], "--diskspec", files[1])
    done = pair.a.virsh(*arguments)
    assert done.returncode == 0, done.stderr
    yield guest
    pair.a.virsh("destroy", guest)
    pair.a.virsh("snapshot-delete", guest, "s1", "--metadata").check_returncode()
    for path in pair.a.var_lib.glob("disk.*"):
        path.unlink()
    pair.a.path(MEMORY).unlink(missing_ok=True)


def check_memory(pair: Pair) -> tuple[int, str]:
    done = pair.a.run(["vfio-preflight", "check", "--image", MEMORY])
    return done.returncode, done.stdout.splitlines()[0]


def test_memory_of_a_snapshot_is_judged_like_a_save_image(pair: Pair, snapshot: str) -> None:
    status, first = check_memory(pair)
    assert (status, first.split()[:2]) == (0, ["PASS", "snap:"])
    pair.present(pair.a, VF, OTHER_VSC)
    status, first = check_memory(pair)
    assert status == 1 and first.startswith("FAIL ") and len(first) <= 200
    assert "hostdev0" in first and "offset 0x63: source 01, destination 51; to do: " in first


def test_revert_comes_without_a_restore_hook(pair: Pair, snapshot: str, witness: Path) -> None:
    """libvirt ends the running guest before it calls any hook of the revert: too late to refuse."""
    pair.present(pair.a, VF, OTHER_VSC)
    reverted = pair.a.virsh("snapshot-revert", snapshot, "s1")
    assert reverted.returncode != 0 and "vfio-preflight" not in reverted.stderr
    called = witness.read_text().splitlines()
    assert "restore begin" not in called
    assert called.index("stopped end") < called.index("prepare begin")
    assert pair.a.state(snapshot) == "shut off"
    assert pair.a.path(MEMORY).exists()

    pair.present(pair.a, VF, CONFIG)
    assert pair.a.virsh("snapshot-revert", snapshot, "s1").returncode == 0
    assert pair.a.state(snapshot) == "running"


# --- XML of the operator's own -------------------------------------------------------------------


def migratable(pair: Pair, guest: str) -> str:
    return pair.a.virsh("dumpxml", guest, "--migratable").stdout


def migrate_with(pair: Pair, guest: str, option: str, xml: str) -> tuple[int, str]:
    pair.a.path("/var/lib/libvirt/given.xml").write_text(xml)
    done = pair.migrate(guest, option, "/var/lib/libvirt/given.xml", "--persistent")
    pair.a.path("/var/lib/libvirt/given.xml").unlink()
    return done.returncode, done.stderr


def without_metadata(xml: str) -> str:
    return re.sub("(?s)<metadata>.*</metadata>", "", xml)


def test_xml_that_drops_the_record(pair: Pair) -> None:
    pair.configure("[policy]\nunknown = block\n")
    guest = pair.start(guest_xml("bare", OLD, [hostdev_pci(VF)]))
    status, told = migrate_with(pair, guest, "--xml", without_metadata(migratable(pair, guest)))
    assert status != 0 and pair.where(guest) == STAYED
    assert "; to do: on the source, run: vfio-preflight record bare\n" in told
    assert "XML that is given with --xml, or printed by a hook before this one, must keep" in told

    status, told = migrate_with(pair, guest, "--xml", migratable(pair, guest))
    assert status == 0, told
    assert pair.where(guest) == MIGRATED


def test_persistent_xml_concerns_the_next_start_only(pair: Pair) -> None:
    pair.configure("[policy]\nunknown = block\n")
    guest = pair.start(guest_xml("kept", OLD, [hostdev_pci(VF)]))
    bare = without_metadata(migratable(pair, guest))
    status, told = migrate_with(pair, guest, "--persistent-xml", bare)
    assert status == 0, told
    assert pair.where(guest) == MIGRATED and pair.annotation(guest).get("verdict") == "pass"


# --- a hook before ours --------------------------------------------------------------------------


@pytest.fixture(params=["qemu", "qemu.d/10-noise"])
def noisy(request: pytest.FixtureRequest, pair: Pair) -> Iterator[str]:
    hook = pair.b.hooks / request.param
    hook.write_text(NOISE)
    hook.chmod(0o755)
    pair.b.reload()
    yield f"/etc/libvirt/hooks/{request.param}"
    hook.unlink()
    pair.b.reload()


def log_of(host: Host) -> str:
    return host.path("/var/log/vfio-preflight.log").read_text()


def test_hook_that_prints_text(pair: Pair, noisy: str) -> None:
    """libvirt would refuse the migration anyway, with the words of its XML parser."""
    said = 'another hook before this one printed "starting the guest"'
    guest = pair.start(guest_xml("noise", OLD, [hostdev_pci(VF)]))
    done = pair.migrate(guest)
    assert done.returncode != 0 and pair.where(guest) == STAYED
    first, second = done.stderr.partition("vfio-preflight: ")[2].splitlines()[:2]
    assert first.startswith(f"migration blocked: {said}") and noisy in first
    assert len(f"vfio-preflight: {first}") <= 200
    assert second == f"  hooks that ran before this one: {noisy}"

    asked = pair.a.run(["vfio-preflight", "check", guest, "--to", pair.b.uri])
    assert asked.returncode == 2 and asked.stderr.count("\n") == 1
    assert f"the destination's hook could not answer: {said}" in asked.stderr


def test_restore_behind_a_hook_that_prints_text(pair: Pair) -> None:
    """Not ours to refuse; what it was is in the log, as libvirt does not say."""
    pair.configure("[hook]\nlog = /var/log/vfio-preflight.log\n", pair.a)
    guest = pair.start(guest_xml("noisy", OLD, [hostdev_pci(VF)]))
    image = "/var/lib/libvirt/noisy.img"
    pair.a.virsh("save", guest, image).check_returncode()
    hook = pair.a.hooks / "qemu.d/10-noise"
    hook.write_text(NOISE)
    hook.chmod(0o755)
    try:
        assert pair.a.virsh("restore", image).returncode != 0
    finally:
        hook.unlink()
    told = 'printed "starting the guest" in place of the guest\'s XML: /etc/libvirt/hooks/qemu.d/'
    assert told in log_of(pair.a)
    assert pair.a.path(image).exists()
    assert pair.a.virsh("restore", image).returncode == 0
    pair.a.path(image).unlink()
