"""A device's environment on either side, determined once for all checks."""

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

    ``sender`` is the environment on the source, whose QEMU made of the device what is sent: by
    ``sender_version``; as the destination's would if that is empty. ``sender_is_here``: its
    emulator was asked, and can be tried. Of one of which only the version is known, what the
    machine type sets is taken to be as here.
    """

    guest: Guest
    device: GuestDevice
    emulator: EmulatorFacts | None
    globals: tuple[tuple[str, Property], ...]
    properties: Mapping[str, Property]
    environment: Environment
    rules: tuple[VendorRule, ...] = ()
    bandwidth: int = 0
    sender: Environment = Environment("")
    sender_version: str = ""
    sender_is_here: bool = False

    def placed(self, placement: str) -> Context:
        """The same device, seen by the guest at another ``placement``."""
        return self._replace(
            device=self.device._replace(placement=placement),
            environment=self.environment._replace(placement=placement),
            sender=self.sender._replace(placement=placement),
        )

    def sent_by(self, version: str) -> Context:
        """With a source whose QEMU is of ``version``; nothing is known of it if that is empty."""
        if self.sender_is_here or not version:
            return self
        target = self.emulator.target if self.emulator else ""
        sender = self.environment._replace(behaviour=behaviour(version, target))
        return self._replace(sender=sender, sender_version=version)

    @property
    def is_unplugged_to_migrate(self) -> bool:
        """A failover primary leaves the guest before migration (QEMU ``hw/net/virtio-net.c``)."""
        return "failover_pair_id" in self.properties


def context_of(
    guest: Guest,
    device: GuestDevice,
    emulator: EmulatorFacts | None,
    sender: EmulatorFacts | None = None,
) -> Context:
    """The context of one of the guest's devices; ``sender`` is the source's emulator, if known."""
    globals_ = tuple(_globals(guest, device, emulator))
    # A dictionary keeps the last -global of a name, as QEMU does; the device's own go on top.
    properties = {**dict(globals_), **device.properties}
    environment = _environment(guest, device, emulator)
    if sender is None:
        return Context(
            guest, device, emulator, globals_, properties, environment, sender=environment
        )
    return Context(
        *(guest, device, emulator, globals_, properties, environment),
        sender=_environment(guest, device, sender),
        sender_version=sender.version,
        sender_is_here=True,
    )


def _environment(guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None) -> Environment:
    """What surrounds the device in a machine of this emulator's."""
    properties = {**dict(_globals(guest, device, emulator)), **device.properties}
    explicit = {name: value.value for name, value in properties.items()}
    return Environment(
        placement=device.placement,
        express_root=guest.express,
        properties={**_set_by_machine(guest, device, emulator), **explicit},
        port=device.port,
        # An unknown version is judged as the newest known QEMU.
        behaviour=behaviour(emulator.version, emulator.target) if emulator else Behaviour(),
        # By host, too: -device vfio-pci,sysfsdev=... in <qemu:commandline> can be an mdev.
        mdev=device.kind == "mdev" or (device.host is not None and is_mdev(device.host)),
    )


def _set_by_machine(
    guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None
) -> Mapping[str, str]:
    """The properties that the machine type's compat table sets on the device."""
    machine = emulator.resolve(guest.machine) if emulator else None
    if emulator is None or machine is None:
        return {}
    names = dict.fromkeys(name for _, name, _ in machine.compat)
    values = {name: emulator.compat_value(machine, device.driver, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


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
