"""A device's environment on the destination, determined once for all checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..guest.addresses import is_mdev
from ..guest.domain import Global, Guest, GuestDevice, Property
from ..guest.traits import VendorRule
from ..osutil.light import NamedTuple
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.model import properties as qemu
from ..qemu.model.versions import Behaviour, behaviour
from ..qemu.model.vfio_pci import Environment

# The types a VFIO device descends from, for an emulator that could not be asked.
_USUAL_LINEAGE = ("vfio-pci", "pci-device", "device")


class Context(NamedTuple):
    """A device, its guest, the destination's emulator (None: not known), and what follows.

    ``globals`` are the properties that ``-global`` sets on the device, in QEMU's order;
    ``properties`` the effective ones: the device's own go before any ``-global``. ``rules`` are the
    vendors' rules of the destination. ``bandwidth`` is the migration's, in MiB/s; 0: not known.
    """

    guest: Guest
    device: GuestDevice
    emulator: EmulatorFacts | None
    globals: tuple[tuple[str, Property], ...]
    properties: Mapping[str, Property]
    environment: Environment
    rules: tuple[VendorRule, ...] = ()
    bandwidth: int = 0

    def placed(self, placement: str) -> Context:
        """The same device, seen by the guest at another ``placement``."""
        return self._replace(
            device=self.device._replace(placement=placement),
            environment=self.environment._replace(placement=placement),
        )

    @property
    def is_unplugged_to_migrate(self) -> bool:
        """A failover primary leaves the guest before migration (QEMU ``hw/net/virtio-net.c``)."""
        return "failover_pair_id" in self.properties


def context_of(guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None) -> Context:
    """The context of one of the guest's devices."""
    globals_ = tuple(_globals(guest, device, emulator))
    # A dictionary keeps the last -global of a name, as QEMU does; the device's own go on top.
    properties = {**dict(globals_), **device.properties}
    environment = Environment(
        placement=device.placement,
        express_root=guest.express,
        properties={name: value.value for name, value in properties.items()},
        # An unknown version is judged as the newest known QEMU.
        behaviour=behaviour(emulator.version, emulator.target) if emulator else Behaviour(),
        # By host, too: -device vfio-pci,sysfsdev=... in <qemu:commandline> can be an mdev.
        mdev=device.kind == "mdev" or (device.host is not None and is_mdev(device.host)),
    )
    return Context(guest, device, emulator, globals_, properties, environment)


def _globals(
    guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None
) -> Iterator[tuple[str, Property]]:
    for entry in guest.globals:
        if _applies(entry, device, emulator):
            origin = f"-global {entry.driver}.{entry.property}={entry.value}"
            yield entry.property, Property(entry.value, origin, qemu.GLOBAL)


def _applies(entry: Global, device: GuestDevice, emulator: EmulatorFacts | None) -> bool:
    """Whether a ``-global`` names the device's QOM type, or one that it descends from.

    Source: ``object_apply_global_props()``, qom/object.c.
    """
    # -global on a parent type also reaches its children, e.g. vfio-pci-nohotplug.
    usual = (device.driver, *_USUAL_LINEAGE)
    lineage = emulator.lineage.get(device.driver, usual) if emulator else usual
    return entry.driver in lineage
