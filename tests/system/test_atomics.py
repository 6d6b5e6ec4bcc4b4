"""AtomicOps: hosts whose roots complete others, which the guest's root port says.

What the roots complete is told by files here: the lab's hosts have no root ports. Real kernels are
asked in the virtual machine (tests/vm/scripts/atomics.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Host, guest_xml, hostdev_pci
from vfio_preflight.pci.formats import to_json
from vfio_preflight.pci.state import Bar, ConfigState

from .pair import CONFIG, MIGRATED, OLD, STAYED, VF, Pair

LINE = "get_pci_config_device: Bad config data: i=0x78 read: {} cmask: ff wmask: 0 w1cmask:0"
STATE = f"/var/lib/vfio-preflight/states/{VF}.json"
BARS = (Bar(0, 0x4000, "mem32"),)


@pytest.fixture
def roots(pair: Pair) -> Iterator[Pair]:
    """Both hosts; what is told of their roots is gone afterwards."""
    yield pair
    for host in pair.a, pair.b:
        host.path(STATE).unlink(missing_ok=True)


def complete(host: Host, widths: int) -> None:
    """Let the host's root complete these, for QEMU and for the operator."""
    host.set_atomics(VF, widths)
    state = ConfigState(CONFIG, BARS, "vfio", "the lab", widths)
    host.path(STATE).write_text(to_json(state))


@pytest.mark.parametrize(
    ("there", "here", "said"), [(3, 0, "a0 device: 20"), (0, 7, "20 device: a0")]
)
def test_other_roots_are_blocked(roots: Pair, there: int, here: int, said: str) -> None:
    complete(roots.a, there)
    complete(roots.b, here)
    guest = roots.start(guest_xml("roots", OLD, [hostdev_pci(VF)]))
    asked = roots.check(guest)
    assert (asked.status, asked.codes()[0]) == (1, "atomic-ops-differ")
    assert asked.report["devices"][0]["qemu"] == LINE.format(said)

    result = roots.migrate(guest)

    assert result.returncode != 0
    assert LINE.format(said) in result.stderr
    assert "AtomicOps of the root port above it, offset 0x78" in result.stderr
    assert roots.where(guest) == STAYED
    assert roots.b.guest_log(guest) == ""  # QEMU was never started there


def test_without_hook_qemu_prints_the_predicted_line(roots: Pair) -> None:
    complete(roots.a, 3)
    complete(roots.b, 0)
    guest = roots.start(guest_xml("rootsbare", OLD, [hostdev_pci(VF)]))
    hook = roots.b.hooks / "qemu.d/50-vfio-preflight"
    hook.chmod(0o644)
    try:
        result = roots.migrate(guest)
    finally:
        hook.chmod(0o755)
    assert result.returncode != 0
    log = roots.b.guest_log(guest)
    assert LINE.format("a0 device: 20") in log
    assert "/pcie-root-port'" in log
    assert roots.where(guest) == STAYED


def test_equal_roots_pass(roots: Pair) -> None:
    complete(roots.a, 7)
    complete(roots.b, 7)
    guest = roots.start(guest_xml("rootsame", OLD, [hostdev_pci(VF)]))
    assert roots.check(guest).status == 0
    assert roots.migrate(guest).returncode == 0
    assert roots.where(guest) == MIGRATED
