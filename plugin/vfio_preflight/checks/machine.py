"""The machine compat check: does the destination know the guest's machine type, and what does that
machine type make of the properties that decide the config-space check?

QEMU sets a property, in rising precedence, from: its default; the machine type's compat table;
``-global``; the device's own options (``hw/core/qdev-properties.c``, ``qom/object.c``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..findings import Finding
from ..guest.domain import Guest, GuestDevice
from ..qemu.machines import EmulatorFacts, MachineType, is_newer, newest_machine
from ..qemu.properties import TEXT, complaint, parse_bool
from .device import with_globals

SKIP_VSC_CHECK = "skip-vsc-check"
# The first release that speaks version 2 of VFIO's migration protocol, the only one of today's
# kernels (QEMU "vfio/migration: Implement VFIO migration protocol v2", Linux 5.18).
FIRST_WITH_MIGRATION = (8, 0)

REMEDY_NEWER = "migrate to a host with the QEMU version that introduced the machine type, or newer"
REMEDY_ELSEWHERE = (
    "migrate to a host whose QEMU has the machine type: QEMU drops old ones after some years, and"
    " distributors have their own"
)


class Effective(NamedTuple):
    """The value a property will have on the destination (None: not known), and why."""

    value: bool | None
    origin: str


def check_machine(guest: Guest, emulator: EmulatorFacts | None) -> tuple[Finding, ...]:
    """Findings on the guest's machine type."""
    if emulator is None:
        return ()
    machine = emulator.resolve(guest.machine)
    if machine is None:
        whose = f"{emulator.path} (QEMU {emulator.version})"
        return (machine_missing(guest, emulator, whose),)
    return (*_too_old(emulator), *_remarks(guest, machine, emulator))


def release(emulator: EmulatorFacts) -> tuple[int, ...]:
    """Major and minor number of an emulator's release."""
    return tuple(int(part) for part in emulator.version.split(".")[:2] if part.isdigit())


def _too_old(emulator: EmulatorFacts) -> Iterator[Finding]:
    if release(emulator) < FIRST_WITH_MIGRATION:
        yield Finding(
            "emulator-too-old",
            f"QEMU {emulator.version} cannot take over VFIO devices from today's kernels: \"VFIO"
            " device doesn't support migration\"",
            "migrate to a host with QEMU 8.0 or newer",
        )


def machine_missing(guest: Guest, emulator: EmulatorFacts, whose: str) -> Finding:
    """The finding that an emulator, ``whose`` in words, lacks the guest's machine type."""
    newest = newest_machine(emulator, like=guest.machine)
    offer = f"; the newest of its family there is {newest.name}" if newest else ""
    newer = newest is not None and is_newer(guest.machine, than=newest.name)
    return Finding(
        "machine-missing",
        f"{whose} has no machine type {guest.machine}{offer}",
        f"{REMEDY_NEWER if newer else REMEDY_ELSEWHERE}; a running guest cannot change its machine"
        " type",
    )


def _remarks(guest: Guest, machine: MachineType, emulator: EmulatorFacts) -> Iterator[Finding]:
    if machine.name != guest.machine:
        yield Finding(
            "machine-alias",
            f"machine type {guest.machine} is an alias: on the destination it means {machine.name}",
            "give the guest the versioned name: on another host the alias may mean another type",
        )
    if machine.deprecated:
        yield Finding(
            "machine-deprecated",
            f"machine type {machine.name} is deprecated in QEMU {emulator.version}",
            "plan a restart of the guest with a newer machine type",
        )
    if not emulator.compat_props_known:
        yield Finding(
            "compat-unknown",
            f"QEMU {emulator.version} does not tell what its machine types set",
        )


def skip_vsc_check(guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None) -> Effective:
    """Whether QEMU on the destination will exempt the device's Vendor Specific Information."""
    explicit = with_globals(guest, device, emulator).properties.get(SKIP_VSC_CHECK)
    if explicit is not None:
        return _explicit(explicit.value, explicit.origin, explicit.form)
    if emulator is None:
        return Effective(None, "the destination's emulator could not be asked")
    known = emulator.properties.get(device.driver, {}).get(SKIP_VSC_CHECK)
    if known is None:
        return Effective(False, f"QEMU {emulator.version} has no such property and always compares")
    return _by_machine(guest, device, emulator, known.default is not False)


def _by_machine(
    guest: Guest, device: GuestDevice, emulator: EmulatorFacts, default: bool
) -> Effective:
    machine = emulator.resolve(guest.machine)
    if machine is None:
        return Effective(None, f"the emulator lacks machine type {guest.machine}")
    if not emulator.compat_props_known:
        return Effective(None, "the emulator does not tell what its machine types set")
    value = emulator.compat_value(machine, device.driver, SKIP_VSC_CHECK)
    if value is not None:
        return _explicit(value, f"compat table of machine type {machine.name}")
    return Effective(default, f"default of QEMU {emulator.version}")


def _explicit(value: str, origin: str, form: str = TEXT) -> Effective:
    if complaint(SKIP_VSC_CHECK, "bool", value, form):
        return Effective(None, f"{origin} has '{value}', which is no boolean")
    return Effective(parse_bool(value), origin)
