"""The machine compat check: does the destination know the guest's machine type, and what does that
machine type make of the properties that decide the config-space check?

QEMU sets a property, in rising precedence, from: its default; the machine type's compat table;
``-global``; the device's own options (``hw/core/qdev-properties.c``, ``qom/object.c``).
"""

from __future__ import annotations

from collections.abc import Iterator

from ...guest.domain import Guest
from ...osutil.light import NamedTuple
from ...pci.state import Missing
from ...qemu.emulator.machines import EmulatorFacts, MachineType, is_newer, newest_machine
from ...qemu.model.properties import TEXT, complaint, parse_bool
from ...qemu.model.versions import release
from .. import codes
from ..context import Context
from ..findings import Finding

SKIP_VSC_CHECK = "skip-vsc-check"
# The first release with version 2 of VFIO's migration protocol, the only one that today's kernels
# offer (QEMU "vfio/migration: Implement VFIO migration protocol v2", Linux 5.18).
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


def check_machine(guest: Guest, emulator: EmulatorFacts | Missing) -> tuple[Finding, ...]:
    """Findings on the guest's machine type and the destination's emulator."""
    if isinstance(emulator, Missing):
        return (Finding(codes.EMULATOR_UNKNOWN, emulator.reason, emulator.remedy),)
    # Aliases such as "q35" are resolved by the destination's emulator, as QEMU would.
    machine = emulator.resolve(guest.machine)
    if machine is None:
        whose = f"QEMU {emulator.version}, {emulator.path}"
        return (machine_missing(guest, emulator, whose),)
    return (*_too_old(emulator), *_notices(guest, machine, emulator))


def _too_old(emulator: EmulatorFacts) -> Iterator[Finding]:
    # By release, as no QMP query reports the version of the migration protocol.
    if release(emulator.version) < FIRST_WITH_MIGRATION:
        yield Finding(
            codes.EMULATOR_TOO_OLD,
            f"QEMU {emulator.version} cannot accept VFIO devices from today's kernels: \"VFIO"
            " device doesn't support migration\"",
            "migrate to a host with QEMU 8.0 or newer",
        )


def machine_missing(guest: Guest, emulator: EmulatorFacts, whose: str) -> Finding:
    """The finding that an emulator, ``whose`` in words, lacks the guest's machine type."""
    newest = newest_machine(emulator, like=guest.machine)
    offer = f"; the newest of its family there is {newest.name}" if newest else ""
    # A type newer than any the emulator has was introduced by a later QEMU; others were removed.
    newer = newest is not None and is_newer(guest.machine, than=newest.name)
    return Finding(
        codes.MACHINE_MISSING,
        f"the destination has no machine type {guest.machine}{offer} ({whose})",
        f"{REMEDY_NEWER if newer else REMEDY_ELSEWHERE}; a running guest cannot change its machine"
        " type",
    )


def _notices(guest: Guest, machine: MachineType, emulator: EmulatorFacts) -> Iterator[Finding]:
    # Only for information: libvirt replaces the alias when it defines a guest.
    if machine.name != guest.machine:
        yield Finding(
            codes.MACHINE_ALIAS,
            f"machine type {guest.machine} is an alias: on the destination it means {machine.name}",
            "give the guest the versioned name: on another host the alias may mean another type",
        )
    if machine.deprecated:
        # Imported where there is one: the hook's start counts.
        from ..deprecated import machine_removed

        gone = machine_removed(machine.name)
        when = f", and removed from QEMU {gone} on" if gone else ""
        yield Finding(
            codes.MACHINE_DEPRECATED,
            f"machine type {machine.name} is deprecated in QEMU {emulator.version}{when}",
            "plan a restart of the guest with a newer machine type",
        )
    # query-machines has compat-props only since QEMU 9.1.
    if not emulator.compat_props_known:
        yield Finding(
            codes.COMPAT_UNKNOWN,
            f"QEMU {emulator.version} does not report what its machine types set; what depends on"
            " that is not known without a trial",
        )


def skip_vsc_check(context: Context) -> Effective:
    """Whether QEMU on the destination will exempt the device's Vendor Specific Information."""
    # Explicit settings win over -global, and those over the compat table (qdev-properties.c).
    explicit = context.properties.get(SKIP_VSC_CHECK)
    if explicit is not None:
        return _explicit(explicit.value, explicit.origin, explicit.form)
    emulator = context.emulator
    if emulator is None:
        return Effective(None, "the destination's emulator could not be queried")
    known = emulator.properties.get(context.device.driver, {}).get(SKIP_VSC_CHECK)
    # A build without the property compares everything, as QEMU did before 9.1.
    if known is None:
        return Effective(False, f"QEMU {emulator.version} has no such property and always compares")
    # The property's default is on (QEMU 9.1); one that a build reports otherwise is believed.
    return _by_machine(context, emulator, known.default is not False)


def _by_machine(context: Context, emulator: EmulatorFacts, default: bool) -> Effective:
    name = context.guest.machine
    machine = emulator.resolve(name)
    if machine is None:
        return Effective(None, f"the emulator lacks machine type {name}")
    # Distributors backport the property and have machine types of their own: not guessed.
    if not emulator.compat_props_known:
        return Effective(None, "the emulator does not report what its machine types set")
    value = emulator.compat_value(machine, context.device.driver, SKIP_VSC_CHECK)
    if value is not None:
        return _explicit(value, f"compat table of machine type {machine.name}")
    return Effective(default, f"default of QEMU {emulator.version}")


def _explicit(value: str, origin: str, form: str = TEXT) -> Effective:
    # QEMU would refuse the value; invalid_properties() reports that.
    if complaint(SKIP_VSC_CHECK, "bool", value, form):
        return Effective(None, f"{origin} has '{value}', which is not a boolean")
    return Effective(parse_bool(value), origin)
