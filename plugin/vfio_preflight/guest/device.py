"""One VFIO device of a guest, as ``guest.domain`` finds it."""

from __future__ import annotations

from collections.abc import Mapping

from ..osutil.light import NamedTuple
from .properties import Property


class GuestDevice(NamedTuple):
    """One VFIO device of a guest.

    ``key`` names the device within its guest on every host: its guest PCI address, or
    ``commandline:ID`` (``commandline:N`` without an id; ``commandline:id=ID`` for an id that only
    QEMU's JSON form takes, such as ``0``), or ``hostdev:N`` without an address.
    ``kind`` is ``pci``, ``mdev``, ``interface``, ``network`` or ``commandline``.
    ``host`` is a PCI address (``0000:06:00.4``) or a lower-case mdev UUID, validated; None where it
    is decided when the guest starts or is not known.
    ``alias`` is the id QEMU will know it by; ``driver`` QEMU's device type. ``written`` is the
    alias in the XML, which in that of a running guest is from its run so far: after a hot-unplug
    ``alias`` differs, because libvirt numbers anew.
    ``placement`` is ``root-complex``, ``root-port`` or ``conventional``; ``assumption`` says what
    had to be assumed for it, empty if nothing.
    ``properties`` are those set explicitly, in the notation of QEMU's k=v form. ``port`` is QEMU's
    type of the root port above it, empty where there is none or it is not at its first function.
    """

    key: str
    kind: str
    host: str | None
    alias: str | None
    driver: str
    placement: str
    properties: Mapping[str, Property]
    assumption: str = ""
    written: str | None = None
    port: str = ""

    @property
    def name(self) -> str:
        """What the guest's XML calls the device, or else what QEMU will, or its key."""
        return self.written or self.alias or self.key
