"""What a device is tried in, as values: apart from what starts emulators, which is slow to load."""

from __future__ import annotations

from collections.abc import Mapping

from ...osutil.light import NamedTuple
from ..model.vfio_pci import Environment


class Setting(NamedTuple):
    """What surrounds the device: machine type, QOM type, placement and properties, ``-global``s.

    Of ``environment``, placement, express_root, properties and mdev count; what its other members
    say, the emulator knows itself. ``globals`` are of (driver, property, value). ``json`` holds the
    properties that the device gets in QEMU's JSON form, as libvirt writes it; None: in k=v form.
    """

    machine: str
    driver: str
    environment: Environment
    globals: tuple[tuple[str, str, str], ...] = ()
    json: Mapping[str, object] | None = None
