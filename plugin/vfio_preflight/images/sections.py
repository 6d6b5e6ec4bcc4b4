"""Where the configuration space is in a device's section of a migration stream.

Three sorts of section have one. QEMU's own devices describe it, a field of type ``pci config``.
virtio devices hide it at the beginning of an opaque field ``virtio``, vfio-pci in an opaque
section::

    be64 ffffffffef100002                             VFIO_MIG_FLAG_DEV_CONFIG_STATE
    be32 2, config (256 or 4096), 4 * be32            vmstate_pci_device: version, INTx levels
    16 bytes for each MSI-X vector, one bit for each  msix_save
    05 19 VFIOPCIDevice/VFIODisplay ...               only with ramfb
    be64 ffffffffef100001                             VFIO_MIG_FLAG_END_OF_STATE

The size of an opaque one is not recorded. It is the one with which everything else fits.

Source: QEMU 10.0.2, ``hw/vfio/migration.c``, ``hw/vfio/pci.c``, ``hw/pci/pci.c``,
``hw/pci/msix.c``, ``hw/virtio/virtio-pci.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..pci.ids import PCI_CAP_ID_EXP, PCI_CAP_ID_MSIX
from ..pci.space import PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE, capabilities, vendor_id, word

if TYPE_CHECKING:
    from typing import Any

VFIO_MIG_FLAG_END_OF_STATE = bytes.fromhex("ffffffffef100001")
VFIO_MIG_FLAG_DEV_CONFIG_STATE = bytes.fromhex("ffffffffef100002")
VFIO_DISPLAY = b"\x05\x19VFIOPCIDevice/VFIODisplay"
PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1AF4

_SIZES = (PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE)
_VERSION = (2).to_bytes(4, "big")
_IRQ_STATE = 16
_LARGEST = 4 + PCIE_CONFIG_SPACE_SIZE + _IRQ_STATE
_MSIX_FLAGS = 2
_MSIX_FLAGS_QSIZE = 0x7FF
_MAX_NUMBER = 1 << 62
_MAX_VFIO = 1 << 20  # 4 KiB, 2048 MSI-X vectors and a ramfb make 40 KiB


class BadSectionError(Exception):
    """A section that is not as it should be; the text goes on after "the stream's section"."""


class Place(NamedTuple):
    """Where a configuration space is in the body of its section, and the function to extract it.

    ``offset`` and ``length`` are those of the bytes to hand to ``extract``, which raises
    BadSectionError.
    """

    offset: int
    length: int
    extract: Callable[[bytes], bytes]


def find_place(name: str, size: int, fields: Iterable[Mapping[str, Any]]) -> Place | None:
    """The place in a section, None for one that belongs to no PCI device.

    ``name`` is the part of the section's that follows the device's path, ``size`` that of its body
    in bytes, ``fields`` its description. Raises ValueError for one with two configuration spaces,
    and other exceptions for values of unexpected types.
    """
    # vfio registers with register_savevm_live(): an old-style section, described as one buffer.
    if name == "vfio":
        return Place(0, min(size, _MAX_VFIO), vfio_config)
    places = list(_described(fields, 0))
    # Taking either one could be wrong, as fields may repeat in what is not QEMU's own stream.
    if len(places) > 1:
        raise ValueError("a device with two configuration spaces")
    return places[0] if places else None


def _described(fields: Iterable[Mapping[str, Any]], at: int) -> Iterator[Place]:
    for field in fields:
        size, count = number(field["size"]), number(field.get("array_len", 1))
        # at >= 4: vmstate_pci_device has a 32-bit version before the config bytes.
        if field["type"] == "pci config" and size in _SIZES and at >= 4:
            yield Place(at - 4, 4 + size + _IRQ_STATE, _emulated(size))
        # The field starts the section: virtio_save() first saves the proxy's PCI device.
        elif field["type"] == "virtio" and at == 0:
            yield Place(0, min(size, _LARGEST), virtio_config)
        # Arrays are passed over as a whole: no PCI device is an element of one.
        elif count == 1:
            yield from _described(field.get("struct", field).get("fields", ()), at)
        # Sizes in the description are those in the stream, so they add up to offsets.
        at += size * count


def number(value: object) -> int:
    """A number of the description, within bounds. Raises ValueError for any other JSON value."""
    # bool is a subclass of int; the limit keeps sums of sizes small.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_NUMBER:
        raise ValueError(f"{str(value)[:40]!r} where a number belongs")
    return value


def _emulated(size: int) -> Callable[[bytes], bytes]:
    def extract(data: bytes) -> bytes:
        config = _pci_device(data, size)
        if config is None:
            raise BadSectionError("has no PCI device where its description has one")
        return config

    return extract


def virtio_config(data: bytes) -> bytes:
    """The configuration space at the beginning of ``virtio_save()``'s data.

    A virtio device has extended space where it has a PCIe capability (``virtio_pci_realize``).
    Raises BadSectionError.
    """
    # 256 bytes first: the capability list, which decides the size, lies within them.
    config = _pci_device(data, PCI_CONFIG_SPACE_SIZE, levels=False)
    if config is None or vendor_id(config) != PCI_VENDOR_ID_REDHAT_QUMRANET:
        raise BadSectionError("does not begin with a virtio device on PCI")
    express = any(cap.id == PCI_CAP_ID_EXP for cap in capabilities(config))
    config = _pci_device(data, PCIE_CONFIG_SPACE_SIZE if express else PCI_CONFIG_SPACE_SIZE)
    if config is None:
        raise BadSectionError("does not have a virtio device's configuration space")
    return config


def vfio_config(body: bytes) -> bytes:
    """The configuration space in the body of a ``vfio`` section. Raises BadSectionError."""
    # multifd device state transfer (QEMU 10.0) sends the configuration on another channel.
    if body == VFIO_MIG_FLAG_END_OF_STATE:
        raise BadSectionError("is empty: the device's state went through channels of its own")
    begins = body.startswith(VFIO_MIG_FLAG_DEV_CONFIG_STATE)
    if not begins or not body.endswith(VFIO_MIG_FLAG_END_OF_STATE):
        raise BadSectionError("does not have the marks of a VFIO device's configuration")
    data = body[8:-8]
    # Both sizes are tried, as the section says neither; if both fit, neither can be trusted.
    fitting = [config for size in _SIZES if (config := _vfio_device(data, size))]
    if len(fitting) != 1:
        raise BadSectionError("is not as long as the VFIO device's configuration makes it")
    return fitting[0]


def _vfio_device(data: bytes, size: int) -> bytes | None:
    config = _pci_device(data, size)
    if config is None:
        return None
    rest = data[4 + size + _IRQ_STATE :]
    # The length of MSI-X state follows from the table size in the config space itself.
    msix = _msix_size(config)
    exact = len(rest) == msix or rest[msix:].startswith(VFIO_DISPLAY)
    return config if exact else None


def _pci_device(data: bytes, size: int, levels: bool = True) -> bytes | None:
    """The bytes between a version of 2 and, with ``levels``, four words that are 0 or 1 each."""
    after = data[4 + size : 4 + size + _IRQ_STATE]
    # vmstate_pci_device has minimum version 1, but QEMU writes 2.
    if data[:4] != _VERSION or len(after) != _IRQ_STATE:
        return None
    # levels: INTx lines, each 0 or 1. This makes a chance match of random bytes unlikely.
    if levels and any(after[i : i + 4] not in _LEVELS for i in range(0, _IRQ_STATE, 4)):
        return None
    return data[4 : 4 + size]


_LEVELS = (bytes(4), b"\0\0\0\1")


def _msix_size(config: bytes) -> int:
    """What ``msix_save`` writes: each vector's entry of the table, and its pending bit."""
    for cap in capabilities(config):
        if cap.id == PCI_CAP_ID_MSIX:
            # The Table Size field holds the number of vectors minus one (PCI 3.0, 6.8.2.3).
            vectors = (word(config, cap.offset + _MSIX_FLAGS) & _MSIX_FLAGS_QSIZE) + 1
            return 16 * vectors + (vectors + 7) // 8
    return 0
