"""What the tables make of each candidate: known, quoted as not known, or not covered."""

from __future__ import annotations

import re
from typing import NamedTuple

from messages.scan import Candidate
from vfio_preflight.qemu.messages.find import Found, find, words_of
from vfio_preflight.qemu.messages.story import read
from vfio_preflight.qemu.messages.telling import Quote

STATES = (KNOWN, QUOTED, NOT_COVERED) = ("known", "quoted", "not covered")
# Files and lines that no table is to have, and why. Such a line is quoted all the same.
NOT_TOLD: tuple[tuple[str, str, str], ...] = (
    (r"hw/vfio/(ap|ccw)\.c", r"", "s390x channel and crypto devices, which are no PCI devices"),
    (
        r"hw/vfio/(platform|amd-xgbe|calxeda-xgmac)\.c",
        r"",
        "platform devices, not PCI; gone in 10.1",
    ),
    (r"hw/vfio/(spapr|kvm-spapr)\.c|.*", r"(?i)spapr|eeh", "POWER's IOMMU"),
    (r"hw/vfio/spapr\.c", r"", "POWER's IOMMU"),
    (r"hw/vfio/igd\.c", r"", "assignment of an Intel GPU in legacy mode, which cannot be migrated"),
    (r".*", r"IGD|OpRegion", "assignment of an Intel GPU in legacy mode, which cannot be migrated"),
    (
        r"hw/vfio/cpr.*|.*",
        r"CPR|cpr-|cpr_|vaddr|UPDATE_VADDR|UNMAP_ALL|IOAS_CHANGE_PROCESS",
        "live update of QEMU on one host (CPR), which is no migration",
    ),
    (r"hw/vfio/cpr\.c", r"", "live update of QEMU on one host (CPR), which is no migration"),
    (r".*", r"(?i)\bcolo\b|replication", "COLO, which does not go with VFIO devices"),
    (r".*", r"(?i)rdma", "migration over RDMA"),
    (r".*", r"Xen", "Xen"),
    (r".*", r"(?i)snapshot|vm state file|VM state file", "HMP savevm and loadvm, and snapshots"),
    (
        r"hw/virtio/virtio-(crypto|iommu|nsm|rng|rtc|pmem|md|qmp|mem-pci|balloon)[\w-]*\.c",
        r"",
        "properties and run time of virtio devices, at which no migration ends",
    ),
    (
        r"hw/pci/pci-hmp-cmds\.c|hw/virtio/virtio-(qmp|stub|md-stubs)\.c",
        r"",
        "commands of the monitor",
    ),
    (r"hw/pci/(pci_bridge|pcie_aer)\.c", r"", "properties of bridges, which libvirt sets"),
    (r"system/physmem\.c", r"", "memory backends at a start; what concerns a migration is known"),
    (
        r"migration/migration\.c|migration/multifd\.c|migration/ram\.c",
        r"(?i)compress|xbzrle|uri|channel"
        r"|capab|blk|block|tls|zero copy|parameter|display|incompatible|compatible|bitmap",
        "settings of a migration that libvirt checks or sets",
    ),
    (
        r".*",
        r"^/sys|^/dev/|^%s/|BAR %d$|^%s mmaps|^vfio\[%s\]|vf_token|^VFIO_FD|^%s BAR",
        "a name, not a message",
    ),
)


class Told(NamedTuple):
    """What becomes of a candidate: a state, the kind or the reason, and the line that was found."""

    state: str
    detail: str
    found: Found | None = None


_CONVERSION = re.compile(r"%(?:-|\+|#|0|\d|\.|\*)*(?:hh|h|ll|l|z|j|t)?([a-zA-Z%])")
_SAMPLES = {"s": "0000:81:00.4", "m": "Invalid argument", "p": "0x7f00", "%": "%", "c": "c"}


def sample(literal: str) -> str:
    """A line as QEMU prints it with such a format."""
    return _CONVERSION.sub(_sampled, literal)


def _sampled(found: re.Match[str]) -> str:
    return _SAMPLES.get(found[1], "1a2b" if found[1] in "xX" else "3")


def printed(candidate: Candidate) -> str:
    """The whole line in a log."""
    return f"2026-11-26T10:00:00.123456Z qemu-system-x86_64: {sample(candidate.literal)}"


def told(candidate: Candidate) -> Told:
    """What ``explain`` makes of a candidate."""
    text = printed(candidate)
    found = [hit for hit in find(text, words_of(text).split()) if hit.is_whole]
    if found:
        return Told(KNOWN, found[0].message.kind, found[0])
    if not any(sample(candidate.literal) in quote.text for quote in _quotes(text)):
        raise AssertionError(f"ignored: {text}")
    for file, literal, reason in NOT_TOLD:
        if re.fullmatch(file, candidate.file) and re.search(literal, candidate.literal):
            return Told(NOT_COVERED, reason)
    return Told(QUOTED, "")


def _quotes(text: str) -> list[Quote]:
    return [quote for attempt in read(text) for quote in attempt.telling.unknown]
