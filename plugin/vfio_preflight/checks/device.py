"""What a guest's own settings for a device mean for migration, whatever the bytes say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..findings import Finding
from ..guest.domain import GuestDevice
from ..pci.state import NO_MIGRATION
from ..qemu.vfio_pci import PropertyError, parse_bool

# Options of -device that are not properties of the device.
DEVICE_OPTIONS = ("driver", "id", "bus")


def check_device(device: GuestDevice, known: Mapping[str, object] | None) -> tuple[Finding, ...]:
    """Findings from the device's explicit properties.

    ``known`` are the properties its QEMU device type has on the destination, None if not known.
    """
    return (*_unknown_properties(device, known), *_migration_disabled(device), *_failover(device))


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
    device: GuestDevice, known: Mapping[str, object] | None
) -> Iterator[Finding]:
    if known is None:
        return
    for name, value in device.properties.items():
        if name not in known and name not in DEVICE_OPTIONS:
            yield Finding(
                "property-unknown",
                f"property {name} (from {value.origin}) does not exist for {device.driver} in the"
                " destination's emulator, which will not start with it",
                f"remove {name} from the guest, or choose a destination with a newer QEMU",
            )


def _migration_disabled(device: GuestDevice) -> Iterator[Finding]:
    setting = device.properties.get("enable-migration")
    if setting is None or setting.value == "auto":
        return
    try:
        enabled = parse_bool(setting.value)
    except PropertyError as error:
        yield Finding(
            "property-invalid", f"enable-migration (from {setting.origin}): {error}", "correct it"
        )
        return
    if not enabled:
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
