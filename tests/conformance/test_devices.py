"""Emulated devices, migrated between two builds for real, and what the twin says of them.

All of them take ``make devices``; here are those that did not migrate, and some of the others.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from itertools import permutations

import pytest

from lab.other_qemu import NEWEST, other_qemu

from .conftest import AARCH64, X86, own_emulator
from .devices import cases_of, described
from .emulated.hop import BLOCKED, CRASHED, PASS, REFUSED, Hop, hop
from .emulated.survey import Build, build, survey
from .emulated.twin import predict

# docs/DEVICES.md: what is refused at least once, and what only one of the two has.
ROUGH = (
    *("am53c974", "dc390", "nvme", "pci-ipmi-bt", "pci-ipmi-kcs", "ivshmem-plain", "rocker", "ufs"),
    *("virtio-crypto-pci", "virtio-sound-pci", "pci-serial-2x", "virtio-rtc-pci", "isa-vga"),
    *("amd-iommu", "isa-ipmi-kcs", "sd-card-spi", "uefi-vars-x64", "usb-audio", "usb-net"),
    *("usb-serial", "usb-uas", "usb-wacom-tablet"),
)
SAMPLE = 30
SEED = int(os.environ.get("DEVICES_SEED", "1"))


@pytest.fixture(scope="module")
def builds() -> tuple[Build, Build]:
    return build(own_emulator(X86)), build(str(other_qemu(NEWEST, X86)))


def _agreement(builds: tuple[Build, Build], types: list[str], machine: str) -> Counter[str]:
    both = [name for name in types if any(name in each.types for each in builds)]
    rows = survey(cases_of(builds, [machine], types=both, firmware=False))
    wrong = [described(row) for row in rows if not row.agrees]
    assert not wrong, "\n".join(wrong)
    return Counter(row.real.outcome for row in rows)


@pytest.mark.parametrize("machine", ["pc-q35-9.0", "pc-i440fx-10.0"])
def test_what_does_not_migrate(builds: tuple[Build, Build], machine: str) -> None:
    found = _agreement(builds, list(ROUGH), machine)
    # Neither the guests nor the harness are all alike.
    assert all(found[outcome] for outcome in (PASS, REFUSED, BLOCKED, CRASHED)), found


def test_sample(builds: tuple[Build, Build]) -> None:
    smooth = sorted(set(builds[0].types) & set(builds[1].types) - set(ROUGH))
    found = _agreement(builds, random.Random(SEED).sample(smooth, SAMPLE), "pc-q35-9.0")
    assert found[PASS] > SAMPLE


# --- processors -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arm_builds() -> tuple[Build, Build]:
    return build(own_emulator(AARCH64)), build(str(other_qemu(NEWEST, AARCH64)))


@pytest.mark.parametrize("processor", ["cortex-a57", "max"])
def test_emulated_processors_of_arm(arm_builds: tuple[Build, Build], processor: str) -> None:
    """QEMU's own list of their registers is another one in each release, and compared."""
    for source, destination in permutations(arm_builds):
        # Nothing but the processor: by default it has a virtio adapter as well.
        bare = ("-machine", "virt-9.0", "-nodefaults", "-device", "pcie-root-port,chassis=1")
        guest = (*bare, "-cpu", processor)
        real = hop(source.path, destination.path, guest)
        assert real.outcome in (REFUSED, CRASHED)
        told = predict(source.path, destination.path, guest)
        assert told and (told.outcome, told.line) == (real.outcome, real.line)
        # Under KVM it is the host's.
        under_kvm = predict(source.path, destination.path, (*guest, "-accel", "kvm"))
        assert under_kvm == Hop(PASS)
