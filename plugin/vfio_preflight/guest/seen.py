"""Finds what a guest has of its host beside VFIO PCI devices; ``guest.unjudged`` has the kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lxml import etree

from ..osutil.text import printable
from . import aliases
from .addresses import pci_address
from .commandline import ARGUMENTS, CommandLine
from .unjudged import (
    AP,
    CAPABILITIES,
    CCW,
    NO_MODEL,
    NVME_DISK,
    OTHER_HOSTDEV,
    OTHER_MODEL,
    OTHER_VFIO,
    PLATFORMS,
    SCSI,
    SCSI_HOST,
    SHMEM,
    SHMEM_PEER,
    TPM,
    UNASSIGNED,
    UNASSIGNED_MDEV,
    USB,
    USER,
    VDPA,
    VDPA_DEVICE,
    VDPA_DISK,
    Kind,
    Unjudged,
)
from .viommu import mentions
from .xml import GuestError

# <hostdev mode='subsystem'> by type, and a mediated one by model.
_TYPES = {"usb": USB, "scsi": SCSI, "scsi_host": SCSI_HOST}
_MODELS = {None: NO_MODEL, "": NO_MODEL, "vfio-ap": AP, "vfio-ccw": CCW}
# -device by QEMU's type: its name, or what it begins with. The first that fits.
_DRIVERS = (
    ("vfio-ap", AP),
    ("vfio-ccw", CCW),
    ("vfio-user-pci", USER),
    *PLATFORMS.items(),
    ("vfio-", OTHER_VFIO),
    ("usb-host", USB),
    ("scsi-block", SCSI),
    ("scsi-generic", SCSI),
    ("vhost-scsi", SCSI_HOST),
    ("vhost-vdpa-device", VDPA_DEVICE),
    ("ivshmem-", SHMEM_PEER),
)
# What is judged, and the dummy bridge that QEMU itself adds beside an integrated graphics device.
_JUDGED = "vfio-pci"
# Back ends, whose front end is an ordinary device of QEMU's.
_BACKENDS = {
    "vhost-vdpa": VDPA,
    "nvme": NVME_DISK,
    "nvme-io_uring": NVME_DISK,
    "virtio-blk-vfio-pci": NVME_DISK._replace(what="virtio disk by PCI address"),
    "virtio-blk-vhost-vdpa": VDPA_DISK,
}
_BACKEND_OPTIONS = ("netdev", "blockdev", "drive")
# The first word of a -netdev, and type, driver or a URL's scheme in either form of an argument.
# Compiled where there is such an argument: few guests have one.
_NAMED_BACKEND = (
    r"""(?:^|\b(?:driver|type|file(?:name)?)["']?\s*[=:]\s*["']?)([a-z_-]+)(?=[,:"'}\s]|$)"""
)


def judged_kind(hostdev: etree._Element) -> str:
    """``pci`` or ``mdev`` for a ``<hostdev>`` that is a VFIO PCI device; empty for all others."""
    # mode='capabilities' exists for LXC containers only.
    if hostdev.get("mode", "subsystem") != "subsystem":
        return ""
    kind = hostdev.get("type", "")
    # The other models, vfio-ccw and vfio-ap of s390x, are not PCI devices.
    if kind == "pci" or (kind == "mdev" and hostdev.get("model") == "vfio-pci"):
        return kind
    return ""


def read_unjudged(
    root: etree._Element, hostdevs: Iterable[etree._Element], line: CommandLine
) -> tuple[Unjudged, ...]:
    """What is not judged of a ``<domain>``.

    ``hostdevs`` are the elements that libvirt numbers as host devices, in its order; ``line`` is
    what ``<qemu:commandline>`` adds.
    """
    numbered = list(hostdevs)
    return (*_hostdevs(root, numbered), *_others(root), *_commandline(root, line), *_backends(root))


def _hostdevs(root: etree._Element, numbered: list[etree._Element]) -> Iterator[Unjudged]:
    kinds = [_kind(element) for element in numbered]
    # Most guests have none.
    if any(kinds):
        for element, kind, alias in zip(numbered, kinds, aliases.assign(numbered)):
            if kind is not None:
                yield Unjudged(_with_settings(root, kind), _host(element), alias)


def _with_settings(root: etree._Element, kind: Kind) -> Kind:
    """``kind``, without its refusal where the property that lifts it is set, on whatever device."""
    if not kind.unless or not mentions(root, kind.unless):
        return kind
    return kind._replace(
        refusal="", known=f"{kind.unless} is set in the guest's XML: QEMU may send it"
    )


def _kind(element: etree._Element) -> Kind | None:
    """Why a host device is not judged; None for one that is."""
    if element.tag == "interface":
        address = _source(element).find("address")
        known = "pci" if address is None else address.get("type", "")
        return None if known == "pci" else (USB if known == "usb" else OTHER_HOSTDEV)
    if element.get("mode", "subsystem") != "subsystem":
        return CAPABILITIES
    kind = element.get("type", "")
    if element.find("address[@type='unassigned']") is not None and kind in ("pci", "mdev"):
        return UNASSIGNED if kind == "pci" else UNASSIGNED_MDEV
    if judged_kind(element):
        return None
    if kind == "mdev":
        return _MODELS.get(element.get("model"), OTHER_MODEL)
    return _TYPES.get(kind, OTHER_HOSTDEV)


def _source(element: etree._Element) -> etree._Element:
    """Where an element says which device of the host it is; the element itself without that."""
    # Live XML of an interface of a network has it in <actual>.
    for path in ("actual[@type='hostdev']/source", "source"):
        found = element.find(path)
        if found is not None:
            return found
    return element


def _host(element: etree._Element) -> str:
    """What the XML calls the device on the host, in short."""
    source = _source(element)
    vendor, product = source.find("vendor"), source.find("product")
    if vendor is not None and product is not None:
        return _shown(f"{vendor.get('id', '')}:{product.get('id', '')}".replace("0x", ""))
    adapter, address = source.find("adapter"), source.find("address")
    parts = [adapter.get("name", "")] if adapter is not None else []
    if address is not None:
        parts.append(_address(address))
    words = (source.get(name) for name in ("wwpn", "dev", "name"))
    texts = (source.findtext(name) for name in ("char", "block", "interface"))
    parts += [word for word in (*words, *texts) if word]
    return _shown(" ".join(parts))


def _address(address: etree._Element) -> str:
    if address.get("uuid"):
        return str(address.get("uuid"))
    attributes = {str(name): str(value) for name, value in address.items()}
    if "slot" in attributes:
        try:
            return pci_address(attributes)
        # It is shown, not used.
        except GuestError:
            return ""
    return " ".join(f"{name} {value}" for name, value in attributes.items() if name != "type")


def _shown(text: str) -> str:
    return printable(text.strip(), 80)


def _others(root: etree._Element) -> Iterator[Unjudged]:
    """Elements that use a device of the host without being one of libvirt's host devices."""
    for path, kind in (
        ("devices/interface[@type='vdpa']", VDPA),
        ("devices/disk[@type='nvme']", NVME_DISK),
        ("devices/disk[@type='vhostvdpa']", VDPA_DISK),
    ):
        for element in root.iterfind(path):
            yield Unjudged(kind, _host(element), aliases.user_alias(element))
    for element in root.iterfind("devices/shmem"):
        # Without a role libvirt says nothing of it, and QEMU's default is master=off.
        kind = SHMEM if element.get("role") == "master" else SHMEM_PEER
        yield Unjudged(kind, _shown(element.get("name", "")), aliases.user_alias(element))
    for backend in root.iterfind("devices/tpm/backend[@type='passthrough']"):
        device = backend.find("device")
        host = "" if device is None else _shown(device.get("path", ""))
        yield Unjudged(TPM, host, None)


def _commandline(root: etree._Element, line: CommandLine) -> Iterator[Unjudged]:
    for options, _forms in line.devices:
        kind = _driver_kind(options.get("driver", ""))
        if kind is not None:
            if kind is SHMEM_PEER and options.get("master", "off") != "off":
                kind = SHMEM
            names = ("sysfsdev", "host", "hostdevice", "wwpn", "vhostdev", "drive", "memdev")
            host = next((options[name] for name in names if name in options), "")
            yield Unjudged(_with_settings(root, kind), _shown(host), options.get("id"))


def _backends(root: etree._Element) -> Iterator[Unjudged]:
    """Back ends that ``<qemu:commandline>`` adds past libvirt's own elements."""
    arguments = [element.get("value", "") for element in root.iterfind(ARGUMENTS)]
    for option, value in zip(arguments, arguments[1:]):
        if option.startswith("-") and option.lstrip("-") in _BACKEND_OPTIONS:
            named = (_BACKENDS.get(name) for name in re.findall(_NAMED_BACKEND, value))
            kind = next(filter(None, named), None)
            if kind is not None:
                yield Unjudged(kind, "", None)


def _driver_kind(driver: str) -> Kind | None:
    if driver.startswith(_JUDGED):
        return None
    return next((kind for name, kind in _DRIVERS if driver.startswith(name)), None)
