"""The VFIO devices in a guest's domain XML, as libvirt will pass them to QEMU.

>>> guest = read_guest(parse_domain(xml))
>>> [(device.key, device.kind, device.alias, device.placement) for device in guest.devices]
[('0000:05:00.0', 'mdev', 'hostdev0', 'root-port')]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from lxml import etree

from ..osutil.light import NamedTuple
from ..qemu.model.properties import TEXT
from . import aliases
from .addresses import host_address, pci_address, sysfs_device, uuid
from .commandline import CommandLine, Global, Setting, read_command_line
from .device import GuestDevice
from .metadata import find_ours
from .placement import Buses, Place, read_buses
from .properties import (
    Property,
    apply_overrides,
    libvirt_properties,
    read_overrides,
    uses_iommufd,
)
from .seen import judged_kind, read_unjudged
from .unjudged import Unjudged
from .viommu import Viommu, read_viommu
from .xml import GuestError, LimitError, parse_domain, to_bytes

__all__ = [
    "Global",
    "Guest",
    "GuestDevice",
    "GuestError",
    "Networks",
    "Property",
    "parse_domain",
    "read_guest",
    "to_bytes",
]

# More host devices than any machine has slots for: XML with more is not that of a real guest.
MAX_DEVICES = 1024

# Is the network of this name of forward mode hostdev? None: not known.
Networks = Callable[[str], "bool | None"]


class Guest(NamedTuple):
    """The properties of a guest that the check needs.

    ``uuid`` and ``emulator`` are empty where the XML does not give them. ``express`` is whether the
    machine's root bus is PCI Express. ``metadata`` is our own element in ``<metadata>``.
    ``unresolved`` names the networks that may or may not hand out VFIO devices. ``viommu`` is
    its virtual IOMMU, if it has one. ``unjudged`` are its other devices of the host's. ``others``
    are the aliases in the XML of other devices.
    """

    name: str
    uuid: str
    machine: str
    arch: str
    virt_type: str
    emulator: str
    devices: tuple[GuestDevice, ...]
    globals: tuple[Global, ...]
    express: bool
    metadata: etree._Element | None
    unresolved: tuple[str, ...] = ()
    viommu: Viommu = Viommu()
    unjudged: tuple[Unjudged, ...] = ()
    others: frozenset[str] = frozenset()


class _Found(NamedTuple):
    """A device that libvirt numbers as a hostdev; ``kind`` is empty if it is not a VFIO PCI one."""

    element: etree._Element
    kind: str
    source: etree._Element | None


def read_guest(root: etree._Element, networks: Networks | None = None) -> Guest:
    """Return the guest that a ``<domain>`` element describes.

    ``networks`` says which libvirt networks hand out host devices; those it does not know end up
    in ``unresolved`` and are taken not to. Raises GuestError for XML that libvirt would not accept
    where it bears on VFIO devices, LimitError for more than :data:`MAX_DEVICES` host devices.
    """
    machine = _machine(root)
    line = read_command_line(root)
    # Buses of -device count too: a hostdev can be on a bridge that only <qemu:commandline> adds.
    buses = read_buses(root, machine, [device.options for device in line.devices])
    interfaces, unresolved = _interfaces(root, networks)
    # Interfaces first, as in qemuAssignDeviceAliases(): the order decides the aliases.
    found = interfaces + _hostdevs(root)
    # Checked before the loops below, whose cost grows with every device an operator writes.
    if len(found) + len(line.devices) > MAX_DEVICES:
        raise LimitError(f"the guest has more than {MAX_DEVICES} host devices")
    devices = (*_libvirt_devices(root, found, buses, line), *_commandline_devices(line, buses))
    _check_unique(devices)
    return Guest(
        name=_required(root, "name"),
        uuid=_uuid(root),
        machine=machine,
        # libvirt fills in arch and emulator when it defines a guest, not in XML written by hand.
        arch=_attribute(root.find("os/type"), "arch"),
        virt_type=root.get("type", ""),
        emulator=(root.findtext("devices/emulator") or "").strip(),
        devices=devices,
        globals=line.globals,
        express=buses.express,
        metadata=find_ours(root),
        unresolved=unresolved,
        viommu=read_viommu(root, [device.options for device in line.devices]),
        unjudged=read_unjudged(root, [each.element for each in found], line),
        others=_aliases(root) - {device.written for device in devices},
    )


def _aliases(root: etree._Element) -> frozenset[str]:
    written = (aliases.written_alias(element) for element in root.iterfind("devices/*"))
    return frozenset(alias for alias in written if alias is not None)


def _required(root: etree._Element, path: str) -> str:
    text = root.findtext(path)
    if not text:
        raise GuestError(f"the domain XML has no <{path}>")
    return text


def _machine(root: etree._Element) -> str:
    machine = _attribute(root.find("os/type"), "machine")
    if not machine:
        raise GuestError("the domain XML names no machine type (<os><type machine=...>)")
    return machine


def _uuid(root: etree._Element) -> str:
    text = root.findtext("uuid")
    if not text:
        return ""
    normal = uuid(text)
    if normal is None:
        raise GuestError("the domain's <uuid> is not a UUID")
    return normal


def _attribute(element: etree._Element | None, name: str) -> str:
    return element.get(name, "") if element is not None else ""


def _attributes(element: etree._Element) -> dict[str, str]:
    return {str(name): str(value) for name, value in element.items()}


def _interfaces(
    root: etree._Element, networks: Networks | None
) -> tuple[list[_Found], tuple[str, ...]]:
    """Return the interfaces that are or become host devices, and the undecided networks."""
    found: list[_Found] = []
    unresolved: list[str] = []
    for element in root.iterfind("devices/interface"):
        kind = element.get("type")
        # <actual> is libvirt's record of what a network handed out; only live XML contains it.
        actual = element.find("actual[@type='hostdev']")
        if kind == "hostdev":
            found.append(_interface(element, element, "interface"))
        elif kind == "network" and actual is not None:
            found.append(_interface(element, actual, "network"))
        elif kind == "network":
            name = _attribute(element.find("source"), "network")
            handed_out = networks(name) if networks else None
            # libvirt picks the VF from the network's pool when the guest starts: no address yet.
            if handed_out:
                found.append(_Found(element, "network", None))
            # Whether an unknown network hands out VFs changes the number of devices, so it is
            # reported.
            elif handed_out is None:
                unresolved.append(name)
    return found, tuple(dict.fromkeys(unresolved))


def _interface(element: etree._Element, described: etree._Element, kind: str) -> _Found:
    source = described.find("source/address")
    # An address of type usb: a hostdev by number, but no VFIO device.
    return _Found(element, kind if _attribute(source, "type") == "pci" else "", source)


def _hostdevs(root: etree._Element) -> list[_Found]:
    return [
        _Found(element, judged_kind(element), element.find("source/address"))
        for element in root.iterfind("devices/hostdev")
    ]


def _libvirt_devices(
    root: etree._Element, found: list[_Found], buses: Buses, line: CommandLine
) -> Iterator[GuestDevice]:
    overrides = read_overrides(root)
    iommufd = uses_iommufd(root)
    # Every hostdev takes part in the numbering, also those that are skipped below.
    given = aliases.assign(each.element for each in found)
    numbered = list(zip(range(len(found)), found, given))
    # On QEMU's command line those that networks hand out come last: libvirt adds them to the others
    # when it has asked the networks (qemuProcessNetworkPrepareDevices).
    numbered.sort(key=lambda entry: entry[1].kind == "network")
    for number, each, alias in numbered:
        address = each.element.find("address")
        # An "unassigned" device is kept from the host, but QEMU never gets it.
        if not each.kind or _attribute(address, "type") == "unassigned":
            continue
        properties = libvirt_properties(each.element, each.kind == "mdev", iommufd)
        # Overrides before -set: libvirt puts them on the command line, QEMU applies -set to the
        # result.
        properties = apply_overrides(properties, overrides.get(alias, {}))
        _apply_settings(properties, alias, line.settings)
        guest_address = _guest_address(address)
        place = _place(buses, guest_address, properties)
        yield GuestDevice(
            key=guest_address or f"hostdev:{number}",
            kind=each.kind,
            host=_host(each, properties, overrides.get(alias, {})),
            alias=alias,
            driver=_driver(each.element, properties),
            placement=place.placement,
            properties=properties,
            assumption=place.assumption,
            written=aliases.written_alias(each.element),
            port=place.port_for(guest_address, properties),
        )


def _apply_settings(
    properties: dict[str, Property], alias: str | None, settings: tuple[Setting, ...]
) -> None:
    for setting in settings:
        # Works on k=v devices only; for others QEMU refuses the option and does not start.
        if setting.device == alias:
            properties[setting.property] = Property(setting.value, "-set")


def _guest_address(address: etree._Element | None) -> str | None:
    """Return the guest PCI address; domain, bus and slot 0 is "not assigned" to libvirt."""
    if address is None or address.get("type") != "pci":
        return None
    text = pci_address(_attributes(address))
    # virDeviceInfoPCIAddressIsPresent() takes all zeros to mean that there is no address.
    return None if text.startswith("0000:00:00.") else text


def _place(buses: Buses, address: str | None, properties: Mapping[str, Property]) -> Place:
    # Only an override or -set can set bus; it replaces the one libvirt derives from the address.
    if "bus" in properties:
        return buses.named(properties["bus"].value)
    return buses.at_address(address)


def _host(
    found: _Found, properties: Mapping[str, Property], overrides: Mapping[str, Property | None]
) -> str | None:
    # An override of host or sysfsdev makes QEMU open another device than <source> says; of an mdev
    # libvirt gives sysfsdev, beside which QEMU does not look at host.
    passed_over = found.kind == "mdev" and "sysfsdev" not in overrides
    if "sysfsdev" in properties or ("host" in properties and not passed_over):
        return _named_host(properties)
    if found.source is None:
        return None
    if found.kind != "mdev":
        # An address without attributes is one that libvirt has yet to fill in.
        return pci_address(_attributes(found.source)) if found.source.attrib else None
    text = found.source.get("uuid", "")
    normal = uuid(text)
    if normal is None:
        raise GuestError(f"an mdev <hostdev> has uuid={text[:60]!r}, which is not a UUID")
    return normal


def _named_host(properties: Mapping[str, Property]) -> str | None:
    """Return the host device that ``host`` or ``sysfsdev`` names, if one of them is set."""
    # vfio_pci_realize() uses host only where sysfsdev is not set.
    if "sysfsdev" in properties:
        return sysfs_device(properties["sysfsdev"].value)
    return host_address(properties["host"].value) if "host" in properties else None


def _driver(element: etree._Element, properties: Mapping[str, Property]) -> str:
    """Return the type libvirt chooses (``qemuBuildPCIHostdevDevProps``), or an override's."""
    if "driver" in properties:
        return properties["driver"].value
    # QEMU has the property ramfb only on vfio-pci-nohotplug.
    return "vfio-pci-nohotplug" if element.get("ramfb") == "on" else "vfio-pci"


def _commandline_devices(line: CommandLine, buses: Buses) -> Iterator[GuestDevice]:
    """Yield the VFIO devices of ``<qemu:commandline>``."""
    number = 0
    for options, forms in line.devices:
        driver = options.get("driver", "")
        # vfio-pci and vfio-pci-nohotplug; vfio-user-pci is a different device without these checks.
        if not driver.startswith("vfio-pci"):
            continue
        alias = options.get("id")
        properties = {
            name: Property(value, "-device", forms.get(name, TEXT))
            for name, value in options.items()
            if name not in ("driver", "id")
        }
        _apply_settings(properties, alias, line.settings)
        place = buses.named(properties["bus"].value if "bus" in properties else None)
        yield GuestDevice(
            key=f"commandline:{_distinct(alias) if alias else number}",
            # There is no libvirt element behind it, so neither alias prediction nor overrides
            # apply.
            kind="commandline",
            host=_named_host(properties),
            alias=alias,
            driver=driver,
            placement=place.placement,
            properties=properties,
            assumption=place.assumption,
            port=place.port_for(None, properties),
        )
        number += 1


def _distinct(alias: str) -> str:
    """An id as part of a key, where no number is and only the odd id is ``id=`` and something."""
    return alias if re.fullmatch("[A-Za-z][^=]*", alias) else f"id={alias}"


def _check_unique(devices: tuple[GuestDevice, ...]) -> None:
    seen = set()
    # Two devices with one key would share a record; QEMU would refuse two at one address.
    for device in devices:
        if device.key in seen:
            raise GuestError(f"two VFIO devices of the guest are at {device.key[:80]}")
        seen.add(device.key)
