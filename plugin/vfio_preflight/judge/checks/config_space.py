"""The VSC-tolerant check: will the destination's QEMU accept the source's configuration space?

Three runs of one model answer it: the source's state gives the stream, the destination's state
gives the device, and the destination's again with and without ``skip-vsc-check`` shows which bytes
only that property decides.
"""

from __future__ import annotations

from ...osutil.light import NamedTuple
from ...pci.registers import Place, locate
from ...pci.state import Bar, ConfigState
from ...qemu.model.loading import PIN_ASSERTION, loses_pin, uses_messages
from ...qemu.model.reset import PCI_INTERRUPT_PIN
from ...qemu.model.values import ABORT, CRASH, ERROR, HANG
from ...qemu.model.vfio_pci import Environment, Mismatch, Refusal, VirtualConfig, compare, realise
from .. import codes
from ..codes import Code
from ..findings import DESTINATION, FAIL, NOT_REALISED, PASS, SOURCE, Finding, Prediction


class _Refused(NamedTuple):
    """How QEMU's refusal to realise a device is reported, and the outcomes that confirm it."""

    code: Code
    verb: str
    outcomes: tuple[str, ...]


# A failed assertion is an abort or, in a build without assertions, a crash.
_CRASHES = (ABORT, CRASH)
_REFUSED = {
    ERROR: _Refused(codes.REALISE_ERROR, "refuses the device", (ERROR,)),
    ABORT: _Refused(codes.REALISE_ABORT, "aborts on the device", _CRASHES),
    CRASH: _Refused(codes.REALISE_ABORT, "crashes on the device", _CRASHES),
    HANG: _Refused(codes.REALISE_HANG, "hangs on the device", (HANG,)),
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
# Nothing is mended by a property whose value is not known: a trial shows it.
REMEDY_TRY = "have the emulator itself tried, which decides it (trial = always in [hook]); then: "
REMEDY_HARD = (
    "no setting lifts this, mend does not help: use equal drivers, firmware and device"
    " configuration on both hosts, or choose another destination"
)


class Verdict(NamedTuple):
    """What :func:`check_config_space` found; members as in ``DeviceReport``.

    ``sent`` is what a trial by the destination's binary alone is to load, if that would not make
    the same of the source's state as the source's own does.
    """

    findings: tuple[Finding, ...]
    mendable: bool = False
    quote: str = ""
    prediction: Prediction | None = None
    sent: ConfigState | None = None


def check_config_space(
    source: ConfigState,
    destination: ConfigState,
    environment: Environment,
    skip_vsc_check: bool | None,
    remedy: str,
    sender: Environment | None = None,
) -> Verdict:
    """Compare as the destination's QEMU would.

    ``environment`` says where the guest sees the device; ``skip_vsc_check`` is the property's
    effective value there, None where it is not known. ``remedy`` is what to do when only Vendor
    Specific Information is in the way. ``sender`` is the environment on the source, by default the
    same. Raises PropertyError as ``realise`` does.
    """
    sender = sender or environment
    # Tolerant first: if QEMU refuses the device, no mask matters.
    tolerant = realise(destination, environment._replace(skip_vsc_check=True))
    if isinstance(tolerant, Refusal):
        return _refused(tolerant)
    # The property only clears masks: it neither refuses a device nor changes a byte.
    same = sender == environment and _are_same(source, destination)
    stream = tolerant.config if same else stream_of(source, sender)
    if isinstance(stream, Refusal):
        return _source_refused(stream)
    # QEMU's load reads the size of its own device from the stream, so the rest is misaligned.
    if len(source.config) != len(destination.config):
        finding = _sizes_differ(source, destination)
        return Verdict((finding,), prediction=Prediction((FAIL,), findings=(finding,)))
    # hard: differs even where skip-vsc-check exempts the VSC body; no setting helps.
    hard = compare(stream, tolerant)
    every = _compared_strictly(stream, tolerant, destination, environment)
    soft = tuple(m for m in every if m.offset not in {h.offset for h in hard})
    # get_pci_config_device() fails before the pin is used, so the two cannot both happen.
    aborts = () if hard else _load_findings(source, stream, tolerant)
    differing = (
        *_hard_findings(hard, destination.config),
        # No remedy for VSC bytes where another mismatch fails the migration anyway.
        *_soft_findings(soft, destination.config, skip_vsc_check, "" if hard or aborts else remedy),
    )
    findings = (*differing, *aborts, *_bar_findings(source, destination))
    mendable = bool(soft) and not hard and not aborts and skip_vsc_check is not True
    # QEMU stops at the first mismatch in ascending order: that is the line it prints.
    failing = every if skip_vsc_check is False else hard
    return Verdict(
        findings or (_identical(source),),
        mendable,
        failing[0].line if failing else "",
        _prediction(hard, every, skip_vsc_check, differing),
    )


def _prediction(
    hard: tuple[Mismatch, ...],
    every: tuple[Mismatch, ...],
    skip_vsc_check: bool | None,
    findings: tuple[Finding, ...],
) -> Prediction:
    """What QEMU does by each value that the property may have."""
    by_value = {True: hard, False: every}
    # Value unknown: either outcome confirms the prediction.
    values = (True, False) if skip_vsc_check is None else (skip_vsc_check,)
    possible = [by_value[value] for value in values]
    return Prediction(
        # One outcome only where both values of the property lead to the same.
        tuple(dict.fromkeys(FAIL if failing else PASS for failing in possible)),
        lines=tuple(dict.fromkeys(failing[0].line for failing in possible if failing)),
        findings=tuple(f for f in findings if f.code is not codes.VSC_BODY_TOLERATED),
    )


def _are_same(source: ConfigState, destination: ConfigState) -> bool:
    """Whether QEMU derives the same bytes from both, because it reads the same from both."""
    # A stream's bytes contain guest writes, so they are not what QEMU reads from a device.
    return source.evidence != "stream" and source[:2] == destination[:2]


def _compared_strictly(
    stream: bytes, tolerant: VirtualConfig, destination: ConfigState, environment: Environment
) -> tuple[Mismatch, ...]:
    """What differs without ``skip-vsc-check``; nothing, if no byte differs at all."""
    # Equal bytes cannot mismatch under any mask; this saves the second realise.
    if stream == tolerant.config:
        return ()
    strict = realise(destination, environment._replace(skip_vsc_check=False))
    assert isinstance(strict, VirtualConfig)  # as it was with the property
    return compare(stream, strict)


def stream_of(source: ConfigState, environment: Environment) -> bytes | Refusal:
    """What the source sends: a stream's bytes as they are, or what QEMU makes of a device."""
    # A stream is compared as it is: it already went through a QEMU.
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
    # fields() takes the differing bits relative to the register's first byte.
    shift = 8 * (mismatch.offset - place.start)
    fields = place.fields((mismatch.stream ^ mismatch.device) << shift)
    named = f" ({', '.join(fields)})" if fields else ""
    return f"{place.where}, {place.register}{named}"


def _identical(source: ConfigState) -> Finding:
    return Finding(
        codes.CONFIG_IDENTICAL,
        f"all bytes that QEMU compares, of {len(source.config)}, are equal",
    )


def _refused(refusal: Refusal) -> Verdict:
    how = _REFUSED[refusal.kind]
    finding = Finding(
        how.code,
        f"the destination's QEMU {how.verb}: {refusal.reason}",
        "repair or replace the device on the destination, or choose another destination",
    )
    return Verdict(
        (finding,), prediction=Prediction(how.outcomes, DESTINATION, findings=(finding,))
    )


def _source_refused(refusal: Refusal) -> Verdict:
    finding = Finding(
        codes.SOURCE_NOT_REALISABLE,
        f"no guest can run with what is known of the source's device: {refusal.reason}",
        "capture the state of the source's device again",
    )
    return Verdict((finding,), prediction=Prediction(NOT_REALISED, SOURCE, findings=(finding,)))


def _sizes_differ(source: ConfigState, destination: ConfigState) -> Finding:
    return Finding(
        codes.CONFIG_SIZE_DIFFERS,
        f"the source has {len(source.config)} bytes of configuration space, the destination"
        f" {len(destination.config)}; QEMU reads what follows as if it were config space and fails",
        REMEDY_HARD,
    )


def _hard_findings(hard: tuple[Mismatch, ...], config: bytes) -> list[Finding]:
    if not hard:
        return []
    return [Finding(codes.CONFIG_DIFFERS, _sentence(hard, config), REMEDY_HARD, hard)]


def _soft_findings(
    soft: tuple[Mismatch, ...], config: bytes, skip_vsc_check: bool | None, remedy: str
) -> list[Finding]:
    if not soft:
        return []
    text = _sentence(soft, config)
    if skip_vsc_check:
        return [Finding(codes.VSC_BODY_TOLERATED, f"{text}; skip-vsc-check exempts it", "", soft)]
    if skip_vsc_check is None:
        note = f'; unless skip-vsc-check is in force, QEMU would fail with "{soft[0].line}"'
        undecided = f"{REMEDY_TRY}{remedy}" if remedy else ""
        return [Finding(codes.VSC_CHECK_UNDECIDED, text + note, undecided, soft)]
    return [Finding(codes.VSC_BODY_DIFFERS, text, remedy, soft)]


def _sentence(mismatches: tuple[Mismatch, ...], config: bytes) -> str:
    more = len(mismatches) - 1
    others = f" (and {more} more byte{'s' if more > 1 else ''})" if more else ""
    return describe(mismatches[0], config) + others


def _load_findings(
    source: ConfigState, stream: bytes, device: VirtualConfig
) -> tuple[Finding, ...]:
    """Loading that makes QEMU abort although no compared byte differs."""
    if not loses_pin(stream, device):
        return ()
    # Evidence other than a stream does not show whether MSI was enabled by the guest.
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
        f" destination {pins[1]:02x}: QEMU there would abort; that is {when}"
        f' ("{PIN_ASSERTION}")'
    )
    return (Finding(codes.LOAD_ABORT, text, REMEDY_HARD),)


def _bar_findings(source: ConfigState, destination: ConfigState) -> list[Finding]:
    # Of a state without BAR sizes nothing is said here; judge.undecided gives it the other's.
    if not source.bars or not destination.bars:
        return []
    theirs = {bar.number: bar for bar in destination.bars}
    pairs = ((bar, theirs.get(bar.number)) for bar in source.bars)
    return [_bar_differs(a, b) for a, b in pairs if b is not None and a.size != b.size]


def _bar_differs(source: Bar, destination: Bar) -> Finding:
    effect = (
        "QEMU refuses it if the guest's address is not aligned to the larger size"
        # The size itself is not in config space: only the alignment of the guest's address shows
        # it.
        if destination.size > source.size
        else "QEMU does not notice, but the guest maps more than there is"
    )
    name = "the expansion ROM" if source.number == 6 else f"BAR{source.number}"
    return Finding(
        codes.BAR_SIZE_DIFFERS,
        f"{name} has {source.size:#x} bytes at the source and {destination.size:#x} here; {effect}",
        REMEDY_HARD,
    )
