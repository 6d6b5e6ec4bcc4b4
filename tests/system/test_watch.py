"""The service ``watch``: every guest recorded, once, whatever else goes down meanwhile."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from lab import FakeDevice, Host, guest_xml, hostdev_mdev, hostdev_pci
from lab.configs import patched
from vfio_preflight.cli.connection import Domain, library
from vfio_preflight.guest.metadata import (
    NAMESPACE,
    Record,
    find_ours,
    from_get_metadata,
    read_record,
)
from vfio_preflight.guest.xml import parse_domain
from vfio_preflight.pci.space import identity

from .pair import CONFIG, MDEV, NEW, OLD, OTHER_VSC, SECOND_VF, VF, VSC_AT, Pair
from .service import Service, wait

GUESTS = int(os.environ.get("WATCH_GUESTS", "120"))
# Guests at a time, each with a device of its own.
SLOTS = tuple(f"0000:{bus:02x}:00.0" for bus in range(0x20, 0x26))
GROWTH = 2 << 10  # KiB that the service may grow by while it serves half of the guests

PORTS = "".join(
    f"<controller type='pci' index='{number}' model='pcie-root-port'/>" for number in (1, 2, 3)
)
# Hotplug that needs no guest to agree: pcie-native, with the slot's power still off.
NATIVE = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")


@pytest.fixture
def service(pair: Pair) -> Iterator[Service]:
    """The service on a; a test starts it."""
    service = Service(pair.a)
    yield service
    service.end()


@pytest.fixture
def there(pair: Pair) -> Iterator[Service]:
    """The service on b, running."""
    service = Service(pair.b)
    service.start()
    yield service
    service.end()


def record_of(guest: str, host: Host) -> Record:
    """The record in the live metadata of a guest; an empty one if it has none."""
    xml = host.virsh("dumpxml", guest).stdout
    return read_record(find_ours(parse_domain(xml.encode()))) or Record({})


def configs(guest: str, host: Host) -> list[bytes]:
    return [state.config for state in record_of(guest, host).states.values()]


def presents(guest: str, host: Host, wanted: list[bytes]) -> bool:
    return sorted(configs(guest, host)) == sorted(wanted)


def restart_libvirtd(pair: Pair) -> None:
    pair.a.stop_libvirtd()
    pair.a.start_libvirtd()


def test_start_is_recorded_with_what_is_known_of_it(pair: Pair, service: Service) -> None:
    service.start()
    guest = pair.a.start_guest(guest_xml("w1", OLD, [hostdev_pci(VF), hostdev_mdev(MDEV)]))
    wait(lambda: len(configs(guest, pair.a)) == 2)
    record = record_of(guest, pair.a)
    assert record.host == "lab-a"
    assert record.qemu.count(".") == 2
    by_host = {entry.host: entry for entry in record.entries.values()}
    assert set(by_host) == {VF, MDEV}
    for entry in by_host.values():
        assert entry.state is not None and identity(entry.state.config) == "10de:1eb8"
        assert (entry.on, entry.qemu) == ("lab-a", record.qemu)
        assert entry.time.endswith("Z")
    assert by_host[VF].traits.driver == "vfio-pci"
    assert by_host[MDEV].traits.driver == "nvidia"
    assert by_host[MDEV].traits.type == "nvidia-63"
    assert "urn:vfio-preflight" not in pair.a.virsh("dumpxml", "--inactive", guest).stdout


def test_guest_that_comes_along_keeps_its_record(
    pair: Pair, service: Service, there: Service
) -> None:
    """Migrated in, and restored from a file, on a host whose device presents something else."""
    service.start()
    guest = pair.a.start_guest(guest_xml("w2", NEW, [hostdev_pci(VF)]))
    wait(lambda: configs(guest, pair.a))
    pair.present(pair.b, VF, OTHER_VSC)
    assert pair.migrate(guest).returncode == 0
    wait(lambda: "w2: migrating in: hostdev0 kept: recorded on lab-a" in there.log())
    file = "/var/lib/libvirt/w2.img"
    pair.b.virsh("save", guest, file).check_returncode()
    pair.b.virsh("restore", file).check_returncode()
    wait(lambda: "w2: restored: hostdev0 kept: recorded on lab-a" in there.log())
    assert configs(guest, pair.b) == [CONFIG]
    assert not there.recorded()


def test_guest_that_comes_without_record_is_given_none(pair: Pair, there: Service) -> None:
    guest = pair.a.start_guest(guest_xml("w3", OLD, [hostdev_pci(VF)]))
    assert pair.migrate(guest).returncode == 0
    wait(lambda: "w3: migrating in: hostdev0 missing: the guest arrived without" in there.log())
    by_hand = pair.record(guest, pair.b)
    assert by_hand.returncode == 3
    assert "hostdev0: missing" in by_hand.stdout
    assert configs(guest, pair.b) == []


def test_cold_start_begins_anew_even_with_an_old_record(pair: Pair, service: Service) -> None:
    """The persistent XML carries the record of an earlier run; also found on catching up."""
    service.start()
    guest = pair.a.start_guest(guest_xml("w4", OLD, [hostdev_pci(VF)]))
    wait(lambda: configs(guest, pair.a))
    pair.a.define(pair.a.virsh("dumpxml", guest).stdout)
    assert NAMESPACE in pair.a.virsh("dumpxml", "--inactive", guest).stdout
    for config, restarted in ((OTHER_VSC, False), (CONFIG, True)):
        if restarted:
            service.kill()
        pair.a.virsh("destroy", guest).check_returncode()
        pair.present(pair.a, VF, config)
        pair.a.virsh("start", guest).check_returncode()
        pair.a.virsh("suspend", guest).check_returncode()
        pair.a.virsh("resume", guest).check_returncode()
        if restarted:
            service.start()
        wait(partial(presents, guest, pair.a, [config]))
    assert service.recorded() == {guest: 3}


def test_devices_plugged_in_and_out(pair: Pair, service: Service) -> None:
    service.start()
    guest = pair.a.start_guest(guest_xml("w5", OLD, [PORTS, hostdev_pci(VF)], NATIVE))
    wait(lambda: len(configs(guest, pair.a)) == 1)
    for config in (CONFIG, OTHER_VSC):
        pair.present(pair.a, SECOND_VF, config)
        plugged = pair.a.run(
            ["virsh", "attach-device", guest, "/dev/stdin"], hostdev_pci(SECOND_VF)
        )
        assert plugged.returncode == 0, plugged.stderr
        wait(partial(presents, guest, pair.a, [CONFIG, config]))
        out = pair.a.run(["virsh", "detach-device", guest, "/dev/stdin"], hostdev_pci(SECOND_VF))
        assert out.returncode == 0, out.stderr
        wait(lambda: len(configs(guest, pair.a)) == 1, 30)
    assert service.recorded() == {guest: 3}


def test_ends_at_once_with_status_0(pair: Pair) -> None:
    for name in ("TERM", "INT"):
        script = f"vfio-preflight watch & sleep 1; kill -{name} $!; wait $!; echo status $?"
        result = pair.a.run(["/bin/bash", "-c", f"set -m; {script}"])
        assert result.stdout.endswith("status 0\n"), result


def test_it_sleeps_when_there_is_nothing_to_do(pair: Pair, service: Service) -> None:
    def used() -> tuple[float, int]:
        """Processor time and switches within 3 seconds."""
        cpu, switches = service.cpu(), service.status("voluntary_ctxt_switches")
        time.sleep(3)
        # The kernel counts in hundredths of a second, which floating-point numbers only approach.
        spent = round(service.cpu() - cpu, 2)
        return spent, service.status("voluntary_ctxt_switches") - switches

    service.start()
    # Of three, as on a slow machine its start goes on for a while, and metrics are written.
    spent, switches = min(used() for _ in range(3))
    assert spent <= 0.02
    assert switches <= 20


def test_it_waits_for_libvirtd(pair: Pair, service: Service) -> None:
    service.start()
    pair.a.stop_libvirtd()
    wait(lambda: "cannot connect to" in service.log())
    pair.a.start_libvirtd()
    wait(lambda: service.log().count("connected to") == 2)
    guest = pair.a.start_guest(guest_xml("w6", OLD, [hostdev_pci(VF)]))
    wait(lambda: configs(guest, pair.a))


class Load:
    """Guests that are started, found recorded with their own bytes, and stopped."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.names: list[str] = []
        self._numbers = itertools.count()
        self._libvirt = library()
        self.connect()

    def connect(self) -> None:
        self.connection = self._libvirt.open(self.pair.a.uri)

    def config(self, name: str) -> bytes:
        number = int(name.partition("-")[2])
        return patched(patched(CONFIG, VSC_AT, number & 0xFF), VSC_AT + 1, number >> 8)

    def start(self, slot: str) -> Domain:
        name = f"load-{next(self._numbers)}"
        self.names.append(name)
        self.pair.a.set_config(slot, self.config(name))
        return self.connection.createXML(guest_xml(name, OLD, [hostdev_pci(slot)]))

    def check(self, domain: Domain) -> None:
        wait(lambda: self._recorded(domain) == [self.config(domain.name())], 30)

    def _recorded(self, domain: Domain) -> list[bytes]:
        kind = self._libvirt.VIR_DOMAIN_METADATA_ELEMENT
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        try:
            ours = from_get_metadata(domain.metadata(kind, NAMESPACE, live))
        except self._libvirt.libvirtError:
            return []
        record = read_record(ours)
        return [state.config for state in record.states.values()] if record else []

    def run(self, count: int) -> None:
        """``count`` guests, a few at a time."""

        def one(number: int) -> None:
            domain = self.start(SLOTS[number])
            self.check(domain)
            domain.destroy()

        with ThreadPoolExecutor(len(SLOTS)) as pool:
            for begun in range(0, count, len(SLOTS)):
                list(pool.map(one, range(min(len(SLOTS), count - begun))))


def test_none_missed_and_none_twice_under_load(pair: Pair, service: Service) -> None:
    for slot in SLOTS:
        pair.a.add_device(FakeDevice(slot, "pci", CONFIG))
    load = Load(pair)
    service.start()
    half = len(SLOTS) // 2

    load.run(GUESTS // 4)

    # The service is killed with guests running; others start while it is away.
    running = [load.start(slot) for slot in SLOTS[:half]]
    at_the_kill = {domain.name() for domain in running}
    service.kill()
    running += [load.start(slot) for slot in SLOTS[half:]]
    service.start()
    for domain in running:
        load.check(domain)
        wait(partial(service.told_of, domain.name()))
        domain.destroy()

    load.run(GUESTS // 4)
    memory = service.status("VmRSS")

    # libvirtd is restarted with guests running.
    running = [load.start(slot) for slot in SLOTS[:half]]
    at_the_restart = {domain.name() for domain in running}
    restart_libvirtd(pair)
    load.connect()
    running += [load.start(slot) for slot in SLOTS[half:]]
    for domain in running:
        domain = load.connection.lookupByUUID(domain.UUID())
        load.check(domain)
        wait(partial(service.told_of, domain.name()))
        domain.destroy()

    # Guests that are gone before anyone could look do no harm.
    for slot in SLOTS[:half]:
        load.connection.createXML(
            guest_xml(f"brief-{slot[5:7]}", OLD, [hostdev_pci(slot)])
        ).destroy()

    load.run(GUESTS - len(load.names))

    recorded = service.recorded()
    assert len(load.names) == GUESTS
    # Of the record that was being stored when the service was killed, and of the one when libvirtd
    # ended, it may not have come to say so. Then it has said that it found them.
    unsaid = {name for name in load.names if not recorded[name]}
    assert len(unsaid & at_the_kill) <= 1
    assert len(unsaid & at_the_restart) <= 1
    assert unsaid <= at_the_kill | at_the_restart
    assert all(service.told_of(name) == "kept" for name in unsaid)
    assert {recorded[name] for name in load.names} - {0} == {1}
    assert service.status("VmRSS") - memory < GROWTH
