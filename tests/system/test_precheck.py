"""The example of an orchestrator's check before a migration, with the real command."""

from __future__ import annotations

from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest

from lab import guest_xml, hostdev_mdev, hostdev_pci

from .pair import CHECKOUT, MDEV, MIGRATED, OLD, OTHER_PM, OTHER_VSC, STAYED, VF, Pair

SCRIPT = "/usr/lib/lab-precheck.py"
NOWHERE = "qemu+unix:///system?socket=/run/libvirt/nobody"


@pytest.fixture
def there(pair: Pair) -> Iterator[str]:
    """b's URI; the example is on a."""
    pair.a.path(SCRIPT).write_bytes((CHECKOUT / "etc/integrations/precheck.py").read_bytes())
    yield pair.b.uri


def precheck(pair: Pair, guest: str, *uris: str) -> CompletedProcess[str]:
    done = pair.a.run(["/usr/bin/python3", SCRIPT, guest, *uris])
    assert done.stderr == ""
    return done


def started(pair: Pair, name: str = "nova01") -> str:
    return pair.start(guest_xml(name, OLD, [hostdev_pci(VF)]))


def test_can(pair: Pair, there: str) -> None:
    guest = started(pair)
    done = precheck(pair, guest, there)
    said = f"can {there}: QEMU on the destination will accept the devices\n"
    assert (done.returncode, done.stdout) == (0, said)
    uuid = pair.a.virsh("domuuid", guest).stdout.strip()
    assert precheck(pair, uuid, there).stdout == said
    assert pair.migrate(guest).returncode == 0
    assert pair.where(guest) == MIGRATED


def test_cannot(pair: Pair, there: str) -> None:
    guest = started(pair)
    pair.present(pair.b, VF, OTHER_PM)
    done = precheck(pair, guest, there)
    assert done.returncode == 1
    assert done.stdout.startswith(f"cannot {there}: hostdev0: PM at 0x40, PMC ")
    assert "; to do: " in done.stdout and done.stdout.count("\n") == 1
    assert pair.migrate(guest).returncode == 1
    assert pair.where(guest) == STAYED


def test_cannot_though_the_policy_lets_it_try(pair: Pair, there: str) -> None:
    guest = started(pair)
    pair.present(pair.b, VF, OTHER_VSC)
    pair.configure("[policy]\nfail = allow\n")
    assert precheck(pair, guest, there).stdout.startswith(f"cannot {there}: ")
    assert pair.migrate(guest).returncode == 1


def test_can_where_it_is_mended(pair: Pair, there: str) -> None:
    guest = started(pair)
    pair.present(pair.b, VF, OTHER_VSC)
    pair.configure("[policy]\nfail = mend\nvsc-tolerant = 10de:*\n")
    done = precheck(pair, guest, there)
    assert (done.returncode, done.stdout.split()[0]) == (0, "can")
    assert pair.migrate(guest).returncode == 0


def test_unknown_and_the_policys_word_on_it(pair: Pair, there: str) -> None:
    # Never recorded.
    guest = pair.a.start_guest(guest_xml("nova02", OLD, [hostdev_pci(VF)]))
    done = precheck(pair, guest, there)
    assert done.returncode == 3
    assert done.stdout.startswith(f"unknown {there}: hostdev0: the guest carries no record")
    pair.configure("[policy]\nunknown = block\n")
    done = precheck(pair, guest, there)
    assert (done.returncode, done.stdout.split()[0]) == (1, "cannot")


def test_guest_without_devices_is_unknown(pair: Pair, there: str) -> None:
    guest = pair.a.start_guest(guest_xml("nova03", OLD))
    done = precheck(pair, guest, there)
    assert (done.returncode, done.stdout.split()[0]) == (3, "unknown")


def test_mdev_that_is_yet_to_be_made(pair: Pair, there: str) -> None:
    """Nova makes the destination's mdev after its checks, and by another UUID."""
    other = "e0e0e0e0-1111-4222-8333-444455556666"
    guest = pair.a.define(guest_xml("nova04", OLD, [hostdev_mdev(MDEV)]).replace(MDEV, other))
    done = precheck(pair, guest, there)
    pair.a.virsh("undefine", guest)
    assert (done.returncode, done.stdout.split()[0]) == (3, "unknown")


def test_several_and_what_does_not_answer(pair: Pair, there: str) -> None:
    guest = started(pair)
    done = precheck(pair, guest, there, NOWHERE)
    assert done.returncode == 3
    first, second = done.stdout.splitlines()
    assert first.startswith(f"can {there}: ")
    assert second.startswith(f"unknown {NOWHERE}: not checked: ")
    (line,) = precheck(pair, guest, NOWHERE).stdout.splitlines()
    assert line.startswith(f"unknown {NOWHERE}: not checked: ")


def test_guest_that_is_not_there(pair: Pair, there: str) -> None:
    done = precheck(pair, "nobody", there, NOWHERE)
    assert done.returncode == 3
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["unknown qemu+unix"] * 2
    assert done.stdout.count("not checked: qemu:///system has no guest 'nobody'") == 2
