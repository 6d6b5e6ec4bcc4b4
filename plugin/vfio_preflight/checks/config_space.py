"""The VSC-tolerant check: will the destination's QEMU accept the source's configuration space?

Three runs of one model answer it: the source's state gives the stream, the destination's state
gives the device, and the destination's again with and without ``skip-vsc-check`` tells which bytes
only that property decides.
"""

from __future__ import annotations

from typing import NamedTuple

from ..findings import Finding
from ..pci.registers import Place, locate
from ..pci.state import Bar, ConfigState
from ..qemu.loading import PIN_ASSERTION, loses_pin, uses_messages
from ..qemu.reset import PCI_INTERRUPT_PIN
from ..qemu.vfio_pci import Environment, Mismatch, Refusal, VirtualConfig, compare, realise

REFUSAL_CODES = {
    "error": "realise-error",
    "abort": "realise-abort",
    "crash": "realise-abort",
    "hang": "realise-hang",
}

REFUSAL_TEXTS = {
    "error": "the destination's QEMU refuses the device",
    "abort": "the destination's QEMU aborts on the device",
    "crash": "the destination's QEMU crashes on the device",
    "hang": "the destination's QEMU hangs on the device",
}

REMEDY_MEND = (
    "use equal drivers on both hosts; or, if the vendor promises that running guests may meet other"
    " Vendor Specific Information, set fail = mend and vsc-tolerant = {identity} in"
    " /etc/vfio-preflight.conf on the destination"
)
REMEDY_MEND_COMMANDLINE = (
    "use equal drivers on both hosts; or, if the vendor promises that running guests may meet other"
    " Vendor Specific Information, append skip-vsc-check=on to the guest's -device argument"
)
REMEDY_NO_PROPERTY = (
    "use equal drivers on both hosts, or migrate to a host with QEMU 9.1 or newer, which can skip"
    " these bytes"
)
REMEDY_HARD = (
    "no setting lifts this, mend does not help: use equal drivers, firmware and device"
    " configuration on both hosts, or choose another destination"
)


class Verdicts(NamedTuple):
    """What :func:`check_config_space` found; ``mendable`` and ``quote`` as in ``DeviceReport``."""

    findings: tuple[Finding, ...]
    mendable: bool = False
    quote: str = ""


def check_config_space(
    source: ConfigState,
    destination: ConfigState,
    environment: Environment,
    skip_vsc_check: bool | None,
    remedy: str,
) -> Verdicts:
    """Compare as the destination's QEMU would.

    ``environment`` says where the guest sees the device; ``skip_vsc_check`` is the property's
    effective value there, None where it is not known. ``remedy`` is what to do when only Vendor
    Specific Information is in the way.
    """
    tolerant = realise(destination, environment._replace(skip_vsc_check=True))
    if isinstance(tolerant, Refusal):
        return Verdicts((_refused(tolerant, "destination"),))
    strict = realise(destination, environment._replace(skip_vsc_check=False))
    stream = _stream(source, environment)
    if isinstance(stream, Refusal):
        return Verdicts((_refused(stream, "source"),))
    assert isinstance(strict, VirtualConfig)  # the property clears masks, it refuses nothing
    if len(source.config) != len(destination.config):
        return Verdicts((_sizes_differ(source, destination),))
    hard = compare(stream, tolerant)
    every = compare(stream, strict)
    soft = tuple(m for m in every if m.offset not in {h.offset for h in hard})
    aborts = () if hard else _load_findings(source, stream, tolerant)
    findings = (
        *_hard_findings(hard, destination.config),
        *_soft_findings(soft, destination.config, skip_vsc_check, "" if hard or aborts else remedy),
        *aborts,
        *_bar_findings(source, destination),
    )
    failing = every if skip_vsc_check is False else hard
    mendable = bool(soft) and not hard and not aborts and skip_vsc_check is not True
    quote = failing[0].line if failing else ""
    return Verdicts(findings or (_identical(source),), mendable, quote)


def _stream(source: ConfigState, environment: Environment) -> bytes | Refusal:
    """What the source sends: of a device what QEMU makes of it, of a stream what stands there."""
    if source.evidence == "stream":
        return source.config
    realised = realise(source, environment)
    return realised if isinstance(realised, Refusal) else realised.config


def describe(mismatch: Mismatch, config: bytes) -> str:
    """``VSC at 0x60, Vendor Specific Information, offset 0x63: source a1, destination f1``."""
    place = locate(config, mismatch.offset)
    return (
        f"{_register(place, mismatch)}, offset {mismatch.offset:#x}:"
        f" source {mismatch.stream:02x}, destination {mismatch.device:02x}"
    )


def _register(place: Place, mismatch: Mismatch) -> str:
    shift = 8 * (mismatch.offset - place.start)
    fields = place.fields((mismatch.stream ^ mismatch.device) << shift)
    named = f" ({', '.join(fields)})" if fields else ""
    return f"{place.where}, {place.register}{named}"


def _identical(source: ConfigState) -> Finding:
    return Finding(
        "config-identical",
        f"all bytes that QEMU compares, of {len(source.config)}, are equal",
    )


def _refused(refusal: Refusal, side: str) -> Finding:
    if side == "source":
        return Finding(
            "source-not-realisable",
            f"the source's config state is not one a guest can be running with: {refusal.reason}",
            "capture the state of the source's device again",
        )
    return Finding(
        REFUSAL_CODES[refusal.kind],
        f"{REFUSAL_TEXTS[refusal.kind]}: {refusal.reason}",
        "repair or replace the device on the destination, or choose another destination",
    )


def _sizes_differ(source: ConfigState, destination: ConfigState) -> Finding:
    return Finding(
        "config-size-differs",
        f"the source has {len(source.config)} bytes of configuration space, the destination"
        f" {len(destination.config)}; QEMU reads what follows as if it were config space and fails",
        REMEDY_HARD,
    )


def _hard_findings(hard: tuple[Mismatch, ...], config: bytes) -> list[Finding]:
    if not hard:
        return []
    return [Finding("config-differs", _sentence(hard, config), REMEDY_HARD, hard)]


def _soft_findings(
    soft: tuple[Mismatch, ...], config: bytes, skip_vsc_check: bool | None, remedy: str
) -> list[Finding]:
    if not soft:
        return []
    text = _sentence(soft, config)
    if skip_vsc_check:
        return [Finding("vsc-body-tolerated", f"{text}; skip-vsc-check exempts it", "", soft)]
    if skip_vsc_check is None:
        note = f'; unless skip-vsc-check is in force, QEMU would fail with "{soft[0].line}"'
        return [Finding("vsc-check-undecided", text + note, remedy, soft)]
    return [Finding("vsc-body-differs", text, remedy, soft)]


def _sentence(mismatches: tuple[Mismatch, ...], config: bytes) -> str:
    more = len(mismatches) - 1
    others = f" (and {more} more byte{'s' if more > 1 else ''})" if more else ""
    return describe(mismatches[0], config) + others


def _load_findings(
    source: ConfigState, stream: bytes, device: VirtualConfig
) -> tuple[Finding, ...]:
    """What QEMU does not survive although it finds no fault with a byte."""
    if not loses_pin(stream, device):
        return ()
    if source.evidence != "stream":
        when = (
            "while loading if the guest has MSI or MSI-X on, as a running guest normally has, or"
            " else when it turns that on or is reset"
        )
    elif uses_messages(stream):
        when = "while loading, since the guest has MSI or MSI-X on"
    else:
        when = "when the guest turns on MSI or MSI-X or is reset"
    place = locate(device.config, PCI_INTERRUPT_PIN)
    pins = (stream[PCI_INTERRUPT_PIN], device.config[PCI_INTERRUPT_PIN])
    text = (
        f"{place.where}, {place.register}, offset {PCI_INTERRUPT_PIN:#x}: source {pins[0]:02x},"
        f" destination {pins[1]:02x}; QEMU on the destination would abort {when}"
        f' ("{PIN_ASSERTION}")'
    )
    return (Finding("load-abort", text, REMEDY_HARD),)


def _bar_findings(source: ConfigState, destination: ConfigState) -> list[Finding]:
    if not source.bars or not destination.bars:
        return []
    theirs = {bar.number: bar for bar in destination.bars}
    pairs = ((bar, theirs.get(bar.number)) for bar in source.bars)
    return [_bar_differs(a, b) for a, b in pairs if b is not None and a.size != b.size]


def _bar_differs(source: Bar, destination: Bar) -> Finding:
    effect = (
        "QEMU refuses it if the guest's address is not aligned to the larger size"
        if destination.size > source.size
        else "QEMU does not notice, but the guest maps more than there is"
    )
    name = "the expansion ROM" if source.number == 6 else f"BAR{source.number}"
    return Finding(
        "bar-size-differs",
        f"{name} has {source.size:#x} bytes at the source and {destination.size:#x} here; {effect}",
        REMEDY_HARD,
    )
