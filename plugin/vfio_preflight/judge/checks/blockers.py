"""What makes the source's QEMU refuse to send the guest, however alike the devices are.

Sources, QEMU's hw/vfio/migration.c (common.c before 10.1): ``vfio_migration_realize()`` adds
migration blockers as it realises a device; ``vfio_viommu_preset()`` asks whether the device has an
address space of its own; ``vfio_multiple_devices_migration_is_supported()`` counts the devices that
have P2P. Read in 10.0.2 and 10.2.2 and in the patches as mailed for older and newer ones, tried on
10.0.2 and 11.1.3 (``tests/conformance/test_blockers.py``).

The record names the QEMU that realised a device, on the first host. Where that one certainly
refuses, the guest is still there: it could not have left with the device. Post-copy is refused too
(``vfio_save_prepare()``, since 8.2), but libvirt does not tell a hook that it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...osutil.light import NamedTuple
from ...pci.state import NO_MIGRATION, ConfigState
from ...qemu.model.boards import board_of
from ...qemu.model.versions import release
from .. import codes
from ..codes import Code
from ..context import Context
from ..facts import DeviceFacts, Facts
from ..findings import Finding

# The first release that was neither read nor tried.
UNREAD = (11, 2)
_NEWER = "QEMU 11.2 and newer were not read"
_SEVERAL = "Migration is currently not supported with multiple VFIO devices"
_P2P = "p2p"  # host.vfio.MIGRATION_FLAGS
_NO_TRACKING = "x-device-dirty-page-tracking"


class Refusal(NamedTuple):
    """What QEMU refuses from release ``since`` on, before ``until`` (None: it still does).

    ``quote`` is its error. From ``sure`` on, and where the release is not known, a refusal is only
    possible, for the reason ``doubt``. ``lately`` says what holds in the newest that was tried.
    """

    code: Code
    quote: str
    since: tuple[int, int]
    until: tuple[int, int] | None
    sure: tuple[int, int]
    doubt: str
    remedy: str
    lately: str = "and still in 11.1"

    def holds(self, version: str) -> bool:
        """Whether QEMU ``version`` may refuse; empty: it is not known."""
        own = release(version)
        return not version or (self.since <= own and (self.until is None or own < self.until))

    def is_certain(self, version: str) -> bool:
        """Whether QEMU ``version`` refuses, whoever built it."""
        return bool(version) and self.holds(version) and release(version) < self.sure

    @property
    def span(self) -> str:
        """The releases, in words."""
        since = ".".join(map(str, self.since))
        if self.until is None:
            return f"since QEMU {since}, {self.lately}"
        return f"QEMU {since} and newer, before {'.'.join(map(str, self.until))}"


_ON_ANY_HOST = "detach the VFIO devices before migrating"
_FEWER = "detach all VFIO devices but one before migrating"
REFUSALS = (
    Refusal(
        codes.SOURCE_VIOMMU,
        "Migration is currently not supported with vIOMMU enabled",
        (8, 0),
        None,
        # "vfio/migration: Allow live migration with vIOMMU without VFs using device dirty
        # tracking": mailed in autumn 2025, not in 10.2.2, seen in 11.1.3.
        (10, 1),
        "whether the devices track dirty pages themselves is not known, and distributors may have"
        " brought the change of 11.0 to 10.1 and 10.2",
        "detach the VFIO devices before migrating, or start the guest without a virtual IOMMU",
        "from 11.0 on only devices that track dirty pages themselves",
    ),
    Refusal(
        codes.SOURCE_SEVERAL,
        _SEVERAL,  # vfio_block_multiple_devices_migration() without a look at P2P
        (8, 0),
        (8, 2),
        (8, 2),
        "",
        _FEWER,
    ),
    Refusal(
        codes.SOURCE_SEVERAL,
        "Multiple VFIO devices migration is supported only if all of them support P2P migration",
        (8, 2),
        None,
        UNREAD,
        _NEWER,
        f"{_FEWER}, or use drivers with P2P support on the source",
    ),
    Refusal(
        codes.SOURCE_DIRTY_TRACKING,
        "VFIO device doesn't support device and IOMMU dirty tracking",
        (9, 1),  # the property; other words since 8.1
        None,
        UNREAD,
        _NEWER,
        f"start the guest without {_NO_TRACKING}=off, or with enable-migration=on, which accepts"
        " that all memory is sent while the guest stands still",
    ),
    # Of devices that all have P2P.
    Refusal(
        codes.SOURCE_UNDECIDED,
        _SEVERAL,
        (8, 0),
        (8, 2),
        (8, 0),
        "distributors may have brought the support of P2P to older releases",
        _FEWER,
    ),
)


class _Sent(NamedTuple):
    """A device that QEMU is to send, and what is recorded of it."""

    context: Context
    qemu: str = ""
    process: str = ""
    offers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.context.device.name


def check_blockers(facts: Facts, contexts: Sequence[Context]) -> tuple[Finding, ...]:
    """Findings on the guest as a whole; ``contexts`` are those of the devices, in their order."""
    sent = [
        _sent(context, known)
        for context, known in zip(contexts, facts.devices)
        if _is_to_be_sent(context, known)
    ]
    # What an image holds was sent already: its QEMU did not refuse.
    if not sent or facts.image_problems:
        return ()
    board = tuple(_of_board(facts, sent))
    # Nothing that could be changed in the guest would help where its board is the reason.
    return board or (*_behind_viommu(facts, sent), *_several(sent), *_untracked(sent))


def _is_to_be_sent(context: Context, known: DeviceFacts) -> bool:
    """Whether QEMU prepares the device for migration, as far as is known."""
    setting = context.properties.get("enable-migration")
    from_image = isinstance(known.source, ConfigState) and known.source.evidence == "stream"
    unable = known.entry is not None and known.entry.migration == NO_MIGRATION
    # These have findings of their own, and do not count in vfio_device_list's migratable devices.
    excluded = unable or (setting is not None and setting.value == "off")
    return not (excluded or from_image or context.is_unplugged_to_migrate)


def _sent(context: Context, known: DeviceFacts) -> _Sent:
    entry = known.entry
    if entry is None or not known.source_is_recorded:
        return _Sent(context)
    return _Sent(context, entry.qemu, entry.process, tuple(entry.migration.split()))


def _of_board(facts: Facts, sent: Sequence[_Sent]) -> Iterator[Finding]:
    """What the guest's board has beside every VFIO device, and QEMU does not send."""
    board = board_of(facts.guest.machine, facts.guest.arch)
    if board and board.refusal:
        # 8.0 is the first release that sends VFIO devices as they are sent today.
        refusal = Refusal(
            *(codes.SOURCE_BOARD, board.refusal, (8, 0), None, UNREAD, _NEWER, _ON_ANY_HOST)
        )
        fact = f"the guest's machine is a {facts.guest.machine[:40]} and it has VFIO devices"
        yield from _findings((refusal,), sent, fact, "")


def _behind_viommu(facts: Facts, sent: Sequence[_Sent]) -> Iterator[Finding]:
    viommu = facts.guest.viommu
    if viommu.model:
        fact = f"the guest has a virtual IOMMU ({viommu.model[:40]}) and VFIO devices"
        yield from _findings(_rows(codes.SOURCE_VIOMMU), sent, fact, viommu.doubt)


def _several(sent: Sequence[_Sent]) -> Iterator[Finding]:
    # Without "stop-copy" it would be "none": any word means that the device can migrate.
    able = [device for device in sent if device.offers]
    lacking = [device.name for device in able if _P2P not in device.offers]
    if len(sent) < 2 or not able:
        return
    if lacking:
        fact = f"the guest has {len(sent)} VFIO devices, and {_listed(lacking)} cannot do P2P"
        yield from _findings(_rows(codes.SOURCE_SEVERAL), able, fact, _doubt_of_several(able))
    elif len(able) == len(sent) and all(device.qemu for device in able):
        fact = f"the guest has {len(sent)} VFIO devices"
        yield from _findings(_rows(codes.SOURCE_UNDECIDED), able, fact, "")


def _doubt_of_several(able: Sequence[_Sent]) -> str:
    if len(able) < 2:
        return "what the drivers of the other devices offer is not known"
    # Of other processes: the guest has moved, and other drivers may serve the devices now.
    if len({device.process for device in able}) > 1 or not able[0].process:
        return "the devices were not recorded in one run of the guest"
    return ""


def _untracked(sent: Sequence[_Sent]) -> Iterator[Finding]:
    """Devices told not to track what they write, without an IOMMU that does.

    Whether a driver or an IOMMU tracks, the record does not say: only the setting is certain.
    """
    found = [device for device in sent if _is_untracked(device.context)]
    if found:
        fact = f"{_NO_TRACKING}=off on {_listed([device.name for device in found])}"
        yield from _findings(_rows(codes.SOURCE_DIRTY_TRACKING), found, fact, "")


def _is_untracked(context: Context) -> bool:
    properties = context.properties
    tracking, migration = properties.get(_NO_TRACKING), properties.get("enable-migration")
    return (
        tracking is not None
        and tracking.value == "off"
        # Only iommufd asks the IOMMU (VFIODevice.iommu_dirty_tracking, hw/vfio/iommufd.c).
        and "iommufd" not in properties
        and (migration is None or migration.value == "auto")
    )


def _rows(code: Code) -> list[Refusal]:
    # Newest first: its words are quoted where the release is not known.
    return [row for row in reversed(REFUSALS) if row.code is code]


def _findings(
    refusals: Sequence[Refusal], devices: Sequence[_Sent], fact: str, doubt: str
) -> Iterator[Finding]:
    """The finding for a fact by the first of ``refusals`` that a release known of makes, if any."""
    for refusal in refusals:
        versions = [device.qemu for device in devices if refusal.holds(device.qemu)]
        if versions:
            version = max(versions, key=refusal.is_certain)
            yield _finding(refusal, version, fact, doubt, _here(refusal, devices[0]))
            return


def _here(refusal: Refusal, device: _Sent) -> str:
    """What the destination's QEMU would do, as a hint where the source's is not known."""
    emulator = device.context.emulator
    if emulator is None or not refusal.is_certain(emulator.version):
        return ""
    return f"; the destination's, {emulator.version}, would refuse"


def _finding(refusal: Refusal, version: str, fact: str, doubt: str, here: str) -> Finding:
    if not version:
        doubt = doubt or f"the guest's record does not say which QEMU runs it{here}"
    elif not refusal.is_certain(version):
        doubt = doubt or refusal.doubt
    whose = f"the source's QEMU {version}".rstrip()
    verb, why = ("may refuse", f"; not certain: {doubt}") if doubt else ("refuses", "")
    return Finding(
        codes.SOURCE_UNDECIDED if doubt else refusal.code,
        f'{fact}: {whose} {verb} to send it, "{refusal.quote}" ({refusal.span}){why}',
        refusal.remedy,
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
