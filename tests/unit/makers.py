"""Made-up facts for unit tests: config states, guests, devices, emulators, and reports on them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from lab.configs import make_config, patched
from vfio_preflight.guest.domain import Global, Guest, GuestDevice
from vfio_preflight.guest.domain import Property as GuestProperty
from vfio_preflight.guest.record import Record, RecordEntry, parse_record, write_record
from vfio_preflight.guest.traits import Traits, VendorRule
from vfio_preflight.host.inventory import HostDevice, Inventory
from vfio_preflight.judge.codes import CODES
from vfio_preflight.judge.context import Context, context_of
from vfio_preflight.judge.facts import DeviceFacts, Facts
from vfio_preflight.judge.findings import DeviceReport, Finding, Report
from vfio_preflight.pci.state import UNKNOWN, Bar, ConfigState, Missing, State
from vfio_preflight.qemu.emulator.machines import EmulatorFacts, MachineType, Property
from vfio_preflight.qemu.model.properties import TEXT

EMULATOR = "/usr/bin/qemu-system-x86_64"
KEY = "0000:05:00.0"
HOST = "0000:06:00.4"
UUID = "11111111-2222-3333-4444-555555555555"
BAR0 = Bar(0, 0x4000, "mem32")

# Offsets in lab.configs.make_config(): a byte of the VSC's body, its length, and PM's PMC.
VSC_BODY = 0x63
VSC_LENGTH = 0x62
PMC = 0x42

LINEAGE = {
    "vfio-pci": ("vfio-pci", "pci-device", "device"),
    "vfio-pci-nohotplug": ("vfio-pci-nohotplug", "vfio-pci", "pci-device", "device"),
}


def make_state(
    config: bytes | None = None, bars: tuple[Bar, ...] = (BAR0,), evidence: str = "sysfs"
) -> ConfigState:
    """A config state; that of ``make_config()`` unless told otherwise."""
    return ConfigState(config or make_config(), bars, evidence, "made up")


def differing(offset: int, size: int = 256) -> ConfigState:
    """The usual state with every bit of the byte at ``offset`` inverted."""
    config = make_config(size)
    return make_state(patched(config, offset, config[offset] ^ 0xFF))


def make_extended(
    config: bytes, entries: Iterable[tuple[int, int, bytes]], version: int = 1
) -> bytes:
    """``config`` (4096 bytes) with extended capabilities: offset, ID, what follows the header."""
    changed = bytearray(config)
    listed = list(entries)
    following = [offset for offset, _, _ in listed[1:]] + [0]
    for (offset, cap_id, body), after in zip(listed, following):
        struct.pack_into("<I", changed, offset, cap_id | version << 16 | after << 20)
        changed[offset + 4 : offset + 4 + len(body)] = body
    return bytes(changed)


def make_device(
    key: str = KEY,
    kind: str = "pci",
    host: str | None = HOST,
    alias: str | None = "hostdev0",
    driver: str = "vfio-pci",
    placement: str = "root-port",
    properties: Mapping[str, str] | None = None,
    form: str = TEXT,
) -> GuestDevice:
    """A device whose explicit properties all come from ``<qemu:override>``."""
    given = {n: GuestProperty(v, "qemu:override", form) for n, v in (properties or {}).items()}
    port = "pcie-root-port" if placement == "root-port" else ""
    return GuestDevice(key, kind, host, alias, driver, placement, given, port=port)


def make_guest(
    *devices: GuestDevice,
    machine: str = "pc-q35-9.0",
    globals_: Sequence[Global] = (),
    unresolved: tuple[str, ...] = (),
) -> Guest:
    """A guest with ``devices``, or with the usual one."""
    return Guest(
        name="g1",
        uuid=UUID,
        machine=machine,
        arch="x86_64",
        virt_type="kvm",
        emulator=EMULATOR,
        devices=devices or (make_device(),),
        globals=tuple(globals_),
        express="q35" in machine,
        metadata=None,
        unresolved=unresolved,
    )


# Releases that the model counts as verified on.
VERIFIED = ("10.0.2", "10.0.13", "11.1.3")


def make_machine(
    name: str, *compat: tuple[str, str, str], alias: str | None = None, deprecated: bool = False
) -> MachineType:
    """A machine type."""
    return MachineType(name, alias, deprecated, False, compat)


SKIP_OFF = ("vfio-pci", "skip-vsc-check", "false")
MACHINES = (
    make_machine("pc-q35-8.2", SKIP_OFF, deprecated=True),
    make_machine("pc-q35-9.0", SKIP_OFF),
    make_machine("pc-q35-9.1"),
    make_machine("pc-q35-10.0", alias="q35"),
    make_machine("pc-i440fx-9.0", SKIP_OFF),
)


def make_emulator(
    *machines: MachineType,
    version: str = "10.0.2",
    skip_vsc_check: bool = True,
    compat_props_known: bool = True,
) -> EmulatorFacts:
    """An emulator like QEMU 10.0; ``skip_vsc_check`` is whether it has that property."""
    types = {"enable-migration": "OnOffAuto", "rombar": "int32", "host": "str"}
    types |= {"romfile": "str", "x-pci-vendor-id": "uint32", "multifunction": "bool"}
    properties = {name: Property(type_, None) for name, type_ in types.items()}
    if skip_vsc_check:
        properties["skip-vsc-check"] = Property("bool", True)
    return EmulatorFacts(
        path=EMULATOR,
        version=version,
        package="",
        machines={machine.name: machine for machine in machines or MACHINES},
        properties=dict.fromkeys(LINEAGE, properties),
        lineage=LINEAGE,
        compat_props_known=compat_props_known,
    )


def make_facts(
    source: State | None = None,
    destination: State | None = None,
    guest: Guest | None = None,
    emulator: EmulatorFacts | Missing | None = None,
) -> Facts:
    """The same states on both sides for every device, unless told otherwise."""
    guest = guest or make_guest()
    devices = tuple(
        DeviceFacts(device, source or make_state(), destination or make_state())
        for device in guest.devices
    )
    return Facts(guest, devices, emulator or make_emulator(), VERIFIED)


def make_rule(**changes: object) -> VendorRule:
    """A rule on the firmware of a ConnectX, unless told otherwise."""
    rule = VendorRule(
        ("mlx5_vfio_pci",),
        "15b3",
        (),
        "firmware",
        "differs",
        "the destination may refuse it",
        "use equal firmware",
        "DOCA 2.9.3",
        "2026",
    )
    return rule._replace(**changes)  # type: ignore[arg-type]


UNASKED = Missing(UNKNOWN, "it hung", "see to it")


def make_context(
    guest: Guest | None = None,
    device: GuestDevice | None = None,
    emulator: EmulatorFacts | None = None,
) -> Context:
    """The context of ``device``, by default the guest's only one; ``emulator`` is not known."""
    guest = guest or make_guest(*([device] if device else []))
    return context_of(guest, device or guest.devices[0], emulator)


def make_record(
    states: Mapping[str, ConfigState],
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    host: str = "",
    time: str = "",
    qemu: str = "",
) -> Record:
    """A record as it is read, with attributes of its entries by their names in XML."""
    entries = {key: RecordEntry(state) for key, state in states.items()}
    element = write_record(Record(entries, host, time, qemu))
    for entry in element:
        for name, value in (attributes or {}).get(entry.get("key", ""), {}).items():
            entry.set(name, value)
    return parse_record(element)


def make_device_report(
    *codes: str,
    device: GuestDevice | None = None,
    mendable: bool = False,
    state: ConfigState | None = None,
) -> DeviceReport:
    """A device on which the findings ``codes`` were made."""
    findings = tuple(Finding(CODES[code], f"text of {code}") for code in codes)
    known = state or make_state()
    return DeviceReport(device or make_device(), known, known, findings, mendable)


def make_report(*devices: DeviceReport, findings: tuple[Finding, ...] = ()) -> Report:
    """A report on guest g1."""
    return Report("g1", UUID, "pc-q35-9.0", f"QEMU 10.0.2 ({EMULATOR})", findings, devices)


def make_host_device(name: str = HOST, /, **changes: object) -> HostDevice:
    """A free VF of the usual model on a host, bound to its vendor's VFIO driver."""
    traits = Traits("10de", "1eb8", "", "", "vendor_vfio_pci", "1.0")
    device = HostDevice(
        name, "pci", "030200", traits, "0000:06:00.0", "17", numa="1", bound=True, holder=""
    )
    return device._replace(**changes)  # type: ignore[arg-type]


def make_inventory(*devices: HostDevice, **changes: object) -> Inventory:
    """What a host has: ``devices``, or the usual one."""
    found = {device.name: device for device in devices or (make_host_device(),)}
    return Inventory(found)._replace(**changes)  # type: ignore[arg-type]
