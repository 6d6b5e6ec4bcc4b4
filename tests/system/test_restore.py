"""S9: a restore is refused without losing what is to be restored."""

from __future__ import annotations

import time

import pytest

from lab import guest_xml, hostdev_pci

from .pair import CONFIG, OLD, OTHER_VSC, QEMU_LINE, VF, Pair


def saved(pair: Pair, name: str, *command: str) -> str:
    guest = pair.start(guest_xml(name, OLD, [hostdev_pci(VF)]))
    done = pair.a.virsh(*command)
    assert done.returncode == 0, done.stderr
    assert pair.a.state(guest) == "shut off"
    return guest


def test_managed_save_is_refused_and_kept(pair: Pair) -> None:
    guest = saved(pair, "s9", "managedsave", "s9")
    image = pair.a.var_lib / "qemu/save/s9.save"
    pair.present(pair.a, VF, OTHER_VSC)

    refused = pair.a.virsh("start", guest)

    assert refused.returncode != 0
    line, *below = refused.stderr.partition("vfio-preflight: ")[2].splitlines()
    assert line.startswith(f"restore blocked: hostdev0 ({VF}): VSC at 0x60, ") and len(line) <= 184
    assert "offset 0x63: source 01, destination 51; to do: equal drivers, or mend: " in line
    assert any(QEMU_LINE in other for other in below)
    assert pair.a.state(guest) == "shut off"
    assert image.exists()

    pair.present(pair.a, VF, CONFIG)
    started = pair.a.virsh("start", guest)
    assert started.returncode == 0, started.stderr
    assert pair.a.state(guest) == "running"
    assert not image.exists()  # it was restored from, not started anew
    assert pair.annotation(guest, pair.a).get("verdict") == "pass"


def test_restore_of_a_file_is_refused_and_kept(pair: Pair) -> None:
    guest = saved(pair, "s9file", "save", "s9file", "/var/lib/libvirt/s9file.img")
    pair.present(pair.a, VF, OTHER_VSC)
    refused = pair.a.virsh("restore", "/var/lib/libvirt/s9file.img")
    assert refused.returncode != 0
    assert "vfio-preflight: restore blocked" in refused.stderr
    assert (pair.a.var_lib / "s9file.img").exists()
    assert pair.a.state(guest) == "shut off"

    pair.present(pair.a, VF, CONFIG)
    restored = pair.a.virsh("restore", "/var/lib/libvirt/s9file.img")
    assert restored.returncode == 0, restored.stderr
    assert pair.a.state(guest) == "running"


@pytest.mark.parametrize("arguments", [("--force-boot",), ()], ids=["force-boot", "cold start"])
def test_refusal_does_not_outlive_its_attempt(pair: Pair, arguments: tuple[str, ...]) -> None:
    guest = saved(pair, "s9cold", "managedsave", "s9cold")
    pair.present(pair.a, VF, OTHER_VSC)
    assert pair.a.virsh("start", guest).returncode != 0
    if not arguments:
        pair.a.virsh("managedsave-remove", guest).check_returncode()
    started = pair.a.virsh("start", guest, *arguments)
    assert started.returncode == 0, started.stderr
    assert pair.a.state(guest) == "running"


def test_stale_refusal_does_not_stop_a_cold_start(pair: Pair) -> None:
    """libvirt died between the two hooks: the file is there, this attempt's XML has no token."""
    guest = pair.a.define(guest_xml("s9stale", OLD, [hostdev_pci(VF)]))
    stale = pair.a.path("/run/vfio-preflight/refused/g-s9stale")
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("0123456789abcdef\nstale refusal\n")
    assert pair.a.virsh("start", guest).returncode == 0
    assert not stale.exists()


def test_refusal_of_another_attempt_does_not_stop_a_cold_start(pair: Pair) -> None:
    guest = pair.a.define(guest_xml("s9other", OLD, [hostdev_pci(VF)]))
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    place = pair.a.path("/run/vfio-preflight/refused/g-s9other")
    place.mkdir(parents=True, exist_ok=True)
    for left in (now, now - 1000):
        (place / f"{left}.0123456789abcdef").write_text("refusal")
    assert pair.a.virsh("start", guest).returncode == 0
    assert [path.name for path in place.iterdir()] == [f"{now}.0123456789abcdef"]


def test_restore_is_mended_if_configured(pair: Pair) -> None:
    guest = saved(pair, "s9mend", "managedsave", "s9mend")
    pair.present(pair.a, VF, OTHER_VSC)
    pair.configure("[policy]\nfail = mend\nvsc-tolerant = 10de:*\n", pair.a)
    started = pair.a.virsh("start", guest)
    assert started.returncode == 0, started.stderr
    assert pair.a.state(guest) == "running"
    assert any('"skip-vsc-check":true' in each for each in pair.a.qemu_arguments(guest))
