"""Drift: the two builds of QEMU make something else of one and the same machine type.

Source: ``qemu.emulator.drift``; what is known of the effects is in ``judge.effects``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...osutil.light import TYPE_CHECKING
from ...pci.state import ConfigState, Missing
from ...qemu.emulator.drift import (
    Change,
    changes,
    missing_properties,
    missing_types,
    rom_changes,
)
from ...qemu.emulator.types import Value
from .. import codes
from ..deprecated import PROPERTIES, TYPES, told
from ..facts import Builds, Facts
from ..findings import Finding
from ..verdicts import FAIL, PASS

if TYPE_CHECKING:
    from ..effects import Effect

REMEDY = (
    "choose a host with the source's build of QEMU, or shut the guest down and start it on the"
    " destination"
)
# Findings of one kind in a report; what else there is, is counted.
LISTED = 6
_TYPES_NAMED = 3
_INTEL, _DISPLAY = 0x8086, 0x03
# Judged of each VFIO device by the XML, which has more than QEMU's arguments of its first start.
_BY_XML = ("vfio-pci", "vfio-pci-nohotplug")


def check_drift(facts: Facts) -> tuple[Finding, ...]:
    """Findings on what the guest's devices are to the two builds."""
    builds = facts.builds
    if isinstance(builds, Missing):
        told_why = _not_compared(builds.reason)
        return (Finding(codes.DRIFT_NOT_COMPARED, told_why, builds.remedy),)
    # A machine type that is missing, or whose entries are not told, has findings of its own.
    if builds is None or builds.sent.machine not in builds.there.machines:
        return ()
    found = [*_missing(builds), *_roms(builds), *_settings(builds), *_deprecated(builds)]
    if builds.there.compat_props_known:
        found += _differing(facts, builds)
    return tuple(found)


def _not_compared(why: str) -> str:
    return f"whether both builds of QEMU make the same of the guest's devices is not known: {why}"


def _missing(builds: Builds) -> Iterator[Finding]:
    for name in missing_types(builds.sent, builds.there):
        # A part of the board that releases call differently.
        if name not in builds.sent.given:
            continue
        why = f": it {told(TYPES[name])}" if name in TYPES else ""
        yield Finding(
            codes.TYPE_MISSING,
            f"QEMU {builds.there.version} on the destination has no device type {name}, which the"
            f" guest uses{why}",
            "choose a host whose QEMU has it, or take the device away before migrating",
        )


def _roms(builds: Builds) -> Iterator[Finding]:
    for rom in rom_changes(builds.sent, builds.there):
        block = f".../{rom.qom_type}.rom"
        # QEMU on the destination makes no block of it at all.
        line = f"Unknown ramblock {block}, cannot accept migration"
        if rom.destination:
            line = f"Size mismatch: {block}: {rom.source:#x} != {rom.destination:#x}"
        yield Finding(
            codes.ROM_SIZE_DIFFERS,
            f"the option ROM of {rom.qom_type} takes {rom.source} bytes on the source and"
            f' {rom.destination or "none"} on the destination; QEMU refuses the guest: "{line}"',
            "install the source's option ROMs on the destination (packages ipxe-qemu and seabios on"
            " Debian, ipxe-roms-qemu and seavgabios-bin on Red Hat)",
        )


def _settings(builds: Builds) -> Iterator[Finding]:
    for qom_type, name in missing_properties(builds.sent, builds.there):
        if qom_type in _BY_XML:
            continue
        yield Finding(
            codes.SETTING_MISSING,
            f"property {name}, set on {qom_type}, does not exist in QEMU {builds.there.version}"
            f" (\"Property '{qom_type}.{name}' not found\"); libvirt may leave it out there",
            f"choose a host whose QEMU has {qom_type}.{name}",
        )


def _deprecated(builds: Builds) -> Iterator[Finding]:
    for name in builds.sent.types:
        if name in TYPES and builds.there.has(name):
            text = f"device type {name} {told(TYPES[name])}"
            yield Finding(codes.TYPE_DEPRECATED, text, "plan a change of the guest's devices")
    for (name, given), found in PROPERTIES.items():
        if given in builds.sent.given.get(name, ()):
            text = f"property {given} of {name}, which the guest sets, {told(found)}"
            yield Finding(codes.TYPE_DEPRECATED, text, "plan a change of the guest's devices")


# --- properties ---------------------------------------------------------------------------------


def _differing(facts: Facts, builds: Builds) -> list[Finding]:
    differing = changes(builds.sent, builds.there)
    if not differing:
        return []
    # Most builds are equal in all that a guest has.
    from ..effects import effect_of

    found = [(change, effect_of(change)) for change in differing]
    told_of = [each for each in found if not _is_harmless(facts, each[1])]
    findings = [_finding(builds, change, effect) for change, effect in told_of]
    findings.sort(key=lambda finding: _ORDER.index(finding.code))
    if len(findings) <= LISTED:
        return findings
    rest = findings[LISTED:]
    more = Finding(codes.DRIFT, f"{len(rest)} more properties differ between the two builds")
    # One that may be refused is never among those that are only counted.
    grave = [finding for finding in rest if finding.code is not codes.DRIFT]
    return [*findings[:LISTED], *grave, more] if len(grave) < len(rest) else findings


_ORDER = (codes.DRIFT_REFUSED, codes.DRIFT_UNDECIDED, codes.DRIFT)


def _is_harmless(facts: Facts, effect: Effect | None) -> bool:
    if effect is None:
        return False
    if effect.verdict == PASS:
        return True
    # The one condition that there is: effects.INTEL_DISPLAY.
    return bool(effect.only) and not _may_have_intel_display(facts)


def _may_have_intel_display(facts: Facts) -> bool:
    """Whether one of the guest's devices is Intel's graphics, or is not known."""
    states = [known.source for known in facts.devices]
    return any(not isinstance(state, ConfigState) or _is_intel_display(state.config)
               for state in states)  # fmt: skip


def _is_intel_display(config: bytes) -> bool:
    return int.from_bytes(config[:2], "little") == _INTEL and config[0x0B] == _DISPLAY


def _finding(builds: Builds, change: Change, effect: Effect | None) -> Finding:
    sent, there = builds.sent, builds.there
    text = (
        f"property {change.property} of {_named(change.types)} is {_shown(change.source)} on the"
        f" source and {_shown(change.destination)} on the destination"
        f" (source: {_origin(change.source, sent.version, sent.machine)};"
        f" destination: {_origin(change.destination, there.version, sent.machine)};"
        " the guest does not set it): "
    )
    recorded = f"; the source's value was {builds.origin}" if builds.origin else ""
    if effect is None:
        return Finding(codes.DRIFT, f"{text}its effect is not known{recorded}")
    code = codes.DRIFT_REFUSED if effect.verdict == FAIL else codes.DRIFT_UNDECIDED
    return Finding(code, f"{text}{effect.text} ({effect.source}){recorded}", REMEDY)


def _named(types: Sequence[str]) -> str:
    shown = ", ".join(types[:_TYPES_NAMED])
    more = len(types) - _TYPES_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _shown(value: Value) -> str:
    return f"'{value.text}'"


def _origin(value: Value, version: str, machine: str) -> str:
    if value.origin:
        return f"set by {machine} for {value.origin} in QEMU {version}"
    return f"default of QEMU {version}"
