"""The aliases that libvirt will assign to a guest's host devices.

The XML that a hook gets has only the aliases an operator chose (``ua-...``); the others are
assigned when QEMU is started, in this order (``qemuAssignDeviceAliases``): network interfaces of
actual type hostdev, then every ``<hostdev>``, USB, SCSI and vfio-ccw ones included, one counter
for all.
"""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

# virDomainDeviceAliasIsUserAlias() and virDomainDeviceInfoParseXML(): any other alias in inactive
# XML is ignored without an error.
_PREFIX = "ua-"
_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


def user_alias(element: etree._Element) -> str | None:
    """Return the alias an operator gave to a device, or None.

    An alias such as ``hostdev0`` in the XML of a running guest does not count: it belongs to that
    run, and libvirt drops it from the XML that migrates.
    """
    name = written_alias(element)
    return name if name is not None and name.startswith(_PREFIX) else None


def written_alias(element: etree._Element) -> str | None:
    """Return the alias that a device has in its XML, whoever gave it; None where it has none.

    In the XML of a running guest that is its name in this run. It is no name at the destination.
    """
    alias = element.find("alias")
    name = alias.get("name", "") if alias is not None else ""
    return name if name and not name.strip(_CHARACTERS) else None


def assign(devices: Iterable[etree._Element]) -> list[str]:
    """Return the alias of each host device, given in the order libvirt numbers them.

    A device with an alias of its own takes no number (``qemuAssignDeviceHostdevAlias``).
    """
    aliases: list[str] = []
    number = 0
    # The device is numbered from 0 here even if the source had gaps after a hot-unplug: libvirt
    # numbers the devices anew when it starts the destination's QEMU.
    for device in devices:
        alias = user_alias(device)
        if alias is None:
            alias = f"hostdev{number}"
            number += 1
        aliases.append(alias)
    return aliases
