"""Checks of a guest's own settings for a device, independent of its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ...guest.domain import Property
from ...qemu.emulator.machines import Property as Known
from ...qemu.model import properties as qemu
from .. import codes
from ..context import Context
from ..facts import DeviceFacts
from ..findings import Finding

# Options of -device that are not properties of the device.
# qdev_device_add() consumes these itself; device-list-properties does not list them.
DEVICE_OPTIONS = ("driver", "id", "bus")
# The types of properties that matter here, for an emulator that could not be asked.
TYPES = {"skip-vsc-check": "bool", "enable-migration": "OnOffAuto"}
# What <qemu:property> calls JSON's types.
_OVERRIDE_TYPES = {
    qemu.BOOLEAN: "type='bool'",
    qemu.NUMBER: "type='signed' or 'unsigned'",
    qemu.STRING: "type='string'",
}


def check_device(context: Context, _facts: DeviceFacts) -> tuple[Finding, ...]:
    """Findings from the properties that the guest sets on the device."""
    return (
        *_unknown_properties(context),
        *invalid_properties(context),
        *_migration_disabled(context),
        *_failover(context),
    )


def _every(context: Context) -> Iterable[tuple[str, Property]]:
    """QEMU applies every ``-global`` there is, also one that another or the device overrides."""
    return (*context.globals, *context.device.properties.items())


def _unknown_properties(context: Context) -> Iterator[Finding]:
    driver, emulator = context.device.driver, context.emulator
    known = emulator.properties.get(driver) if emulator else None
    if known is None:
        return
    for name, value in _every(context):
        # -global does not know options of -device: there, "bus" would be a property's name.
        option = name in DEVICE_OPTIONS and value.form != qemu.GLOBAL
        if name not in known and not option:
            yield Finding(
                codes.PROPERTY_UNKNOWN,
                f"property {name} (from {value.origin}) does not exist for {driver} in QEMU there;"
                " it will not start with it",
                f"remove {name} from the guest, or choose a host with a newer QEMU",
            )


def invalid_properties(context: Context, besides: Iterable[str] = ()) -> Iterator[Finding]:
    """Properties with values that QEMU rejects, except for those named in ``besides``."""
    # An emulator that could not be asked: only the properties whose types are known are checked.
    emulator = context.emulator
    types = _types(emulator.properties.get(context.device.driver) if emulator else None)
    for name, given in _every(context):
        type_ = types.get(name, "")
        words = None if name in besides else qemu.complaint(name, type_, given.value, given.form)
        if words is not None:
            yield Finding(
                codes.PROPERTY_INVALID,
                f"property {name} (from {given.origin}) is {given.value[:80]!r}, which QEMU"
                f' rejects: "{words}"',
                _correction(name, type_, given.form),
            )


def _types(known: Mapping[str, Known] | None) -> Mapping[str, str]:
    return TYPES if known is None else {name: found.type for name, found in known.items()}


def _correction(name: str, type_: str, form: str) -> str:
    wanted = qemu.json_type(type_)
    # JSON values are not converted: "on" in quotes is an error for a bool property.
    if form in qemu.JSON_TYPES and wanted is not None and form != wanted:
        return f"give {name} as JSON's {wanted}; in a <qemu:property> by {_OVERRIDE_TYPES[wanted]}"
    return f"correct {name} in the guest"


def _migration_disabled(context: Context) -> Iterator[Finding]:
    setting = context.properties.get("enable-migration")
    # Only "off": the default, auto, depends on dirty tracking, which the driver decides.
    if setting is not None and setting.value == "off":
        yield Finding(
            codes.MIGRATION_DISABLED,
            f"enable-migration=off (from {setting.origin}): the source's QEMU refuses to migrate,"
            ' "Migration is disabled for VFIO device"',
            "remove the property, or detach the device before migrating",
        )


def _failover(context: Context) -> Iterator[Finding]:
    if context.is_unplugged_to_migrate:
        yield Finding(
            codes.FAILOVER_UNPLUGGED,
            "the device is the transient half of a teaming pair: it is unplugged before migration",
        )
