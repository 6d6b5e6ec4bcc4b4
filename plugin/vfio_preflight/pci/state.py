"""The config state of a device: its configuration space, its BARs, and how far they are known."""

from __future__ import annotations

from ..osutil.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Union

# Evidence, best first: where a config state came from (README, "Evidence").
# A stream has what the source's QEMU took at realise, which the device itself may no longer show.
# sysfs has the physical view: a VF's identity reads ffff there, and VFIO hides capabilities.
EVIDENCE = ("stream", "vfio", "catalogue", "inferred", "sysfs", "file")
# The weakest evidence: who demands no better takes any.
ANY_EVIDENCE = EVIDENCE[-1]
# What a device's driver offers for migration is given in words (``stop-copy p2p``); if nothing:
NO_MIGRATION = "none"
# Memory type 01 of 6.2.5.1, below 1 MB, is reserved since PCI 3.0.
BAR_KINDS = ("io", "mem32", "mem64")


class Bar(NamedTuple):
    """A base address register (PCI 3.0, 6.2.5.1) as the device implements it.

    ``number`` is 0-5, or 6 for the expansion ROM; ``size`` is in bytes, a power of two.
    ``kind`` is ``io``, ``mem32`` or ``mem64``.
    """

    number: int
    size: int
    kind: str
    prefetchable: bool = False


class ConfigState(NamedTuple):
    """What a device presented when its QEMU realised it.

    ``config`` holds 256 or 4096 bytes. ``bars`` is empty where sizes are not known.
    ``evidence`` is one of :data:`EVIDENCE`; ``origin`` says in words where the bytes were read.
    ``atomics`` are the widths of AtomicOps that the host completes for it, as in ``pci.atomics``;
    None where that is not known. They are the slot's and not the device's own.
    """

    config: bytes
    bars: tuple[Bar, ...]
    evidence: str
    origin: str
    atomics: int | None = None


# Why a config state is missing: nothing has it, what has it is damaged, or the device is not to be
# used, because its driver does not support migration.
UNKNOWN, DAMAGED, NOT_MIGRATABLE = "unknown", "damaged", "not-migratable"


class Missing(NamedTuple):
    """A fact that could not be obtained: what kind of obstacle, why, what to do about it.

    ``kind`` is :data:`UNKNOWN`, :data:`DAMAGED` or :data:`NOT_MIGRATABLE`.
    """

    kind: str
    reason: str
    remedy: str = ""


if TYPE_CHECKING:
    State = Union[ConfigState, Missing]
else:
    # A tuple is what isinstance() takes, and it needs no import of typing, which takes time.
    State = (ConfigState, Missing)
