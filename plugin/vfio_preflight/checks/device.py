"""What a guest's own settings for a device mean for migration, whatever the bytes say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..findings import Finding
from ..guest.domain import Global, Guest, GuestDevice, Property
from ..pci.state import NO_MIGRATION
from ..qemu import properties as qemu
from ..qemu.machines import EmulatorFacts
from ..qemu.machines import Property as Known

# Options of -device that are not properties of the device.
DEVICE_OPTIONS = ("driver", "id", "bus")
# Types that an emulator need not be asked for.
TYPES = {"skip-vsc-check": "bool", "enable-migration": "OnOffAuto"}
# What <qemu:property> calls JSON's types.
_OVERRIDE_TYPES = {
    qemu.BOOLEAN: "type='bool'",
    qemu.NUMBER: "type='signed' or 'unsigned'",
    qemu.STRING: "type='string'",
}


def reaches(entry: Global, device: GuestDevice, emulator: EmulatorFacts | None) -> bool:
    """Whether a ``-global`` is for the device: for its QOM type, or for one that it descends from.

    Source: ``object_apply_global_props()``, qom/object.c.
    """
    usual = (device.driver, "vfio-pci", "pci-device", "device")
    lineage = emulator.lineage.get(device.driver, usual) if emulator else usual
    return entry.driver in lineage


def with_globals(guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None) -> GuestDevice:
    """The device with the properties it gets from ``-global`` below those that are its own."""
    given = dict(_globals(guest, device, emulator))
    return device._replace(properties={**given, **device.properties})


def _globals(
    guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None
) -> Iterator[tuple[str, Property]]:
    for entry in guest.globals:
        if reaches(entry, device, emulator):
            origin = f"-global {entry.driver}.{entry.property}={entry.value}"
            yield entry.property, Property(entry.value, origin, qemu.GLOBAL)


def check_device(
    guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None
) -> tuple[Finding, ...]:
    """Findings from the properties that the guest sets on the device.

    QEMU applies every ``-global`` there is, also one that another or the device overrides.
    """
    known = emulator.properties.get(device.driver) if emulator else None
    every = (*_globals(guest, device, emulator), *device.properties.items())
    effective = with_globals(guest, device, emulator)
    unknown = _unknown_properties(device.driver, every, known)
    invalid = _invalid_properties(every, known)
    return (*unknown, *invalid, *_migration_disabled(effective), *_failover(effective))


def check_migratable(facts: Mapping[str, str]) -> tuple[Finding, ...]:
    """That the source's driver offers no migration; ``facts`` are what a record has of the device.

    The source's QEMU then refuses to migrate or save the guest (``vfio_migration_realize``).
    """
    if facts.get("migration") != NO_MIGRATION:
        return ()
    return (
        Finding(
            "device-not-migratable",
            "by the guest's record the driver of the source's device offers no migration"
            " (VFIO_DEVICE_FEATURE_MIGRATION)",
            "bind the source's device to its vendor's VFIO driver and start the guest anew, or"
            " detach the device before migrating",
        ),
    )


def is_unplugged_to_migrate(device: GuestDevice) -> bool:
    """A failover primary leaves the guest before migration (QEMU ``hw/net/virtio-net.c``)."""
    return "failover_pair_id" in device.properties


def _unknown_properties(
    driver: str,
    properties: Iterable[tuple[str, Property]],
    known: Mapping[str, Known] | None,
) -> Iterator[Finding]:
    if known is None:
        return
    for name, value in properties:
        option = name in DEVICE_OPTIONS and value.form != qemu.GLOBAL
        if name not in known and not option:
            yield Finding(
                "property-unknown",
                f"property {name} (from {value.origin}) does not exist for {driver} in the"
                " destination's emulator, which will not start with it",
                f"remove {name} from the guest, or choose a destination with a newer QEMU",
            )


def _invalid_properties(
    properties: Iterable[tuple[str, Property]], known: Mapping[str, Known] | None
) -> Iterator[Finding]:
    types = TYPES if known is None else {name: found.type for name, found in known.items()}
    for name, given in properties:
        type_ = types.get(name, "")
        words = qemu.complaint(name, type_, given.value, given.form)
        if words is not None:
            yield Finding(
                "property-invalid",
                f"property {name} (from {given.origin}) is {given.value[:80]!r}, which QEMU does"
                f' not take: "{words}"',
                _correction(name, type_, given.form),
            )


def _correction(name: str, type_: str, form: str) -> str:
    wanted = qemu.json_type(type_)
    if form in qemu.JSON_TYPES and wanted is not None and form != wanted:
        return f"give {name} as JSON's {wanted}; in a <qemu:property> by {_OVERRIDE_TYPES[wanted]}"
    return f"correct {name} in the guest"


def _migration_disabled(device: GuestDevice) -> Iterator[Finding]:
    setting = device.properties.get("enable-migration")
    if setting is not None and setting.value == "off":
        yield Finding(
            "migration-disabled",
            f"enable-migration=off (from {setting.origin}): the source's QEMU refuses to migrate,"
            ' "Migration is disabled for VFIO device"',
            "remove the property, or detach the device before migrating",
        )


def _failover(device: GuestDevice) -> Iterator[Finding]:
    if is_unplugged_to_migrate(device):
        yield Finding(
            "failover-unplugged",
            "the device is the transient half of a teaming pair: it is unplugged before migration",
        )
