"""Made-up migration streams and save images, laid out as QEMU and libvirt lay them out."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lab.configs import make_config

MACHINE = "pc-q35-9.0"
VFIO_BEGIN = bytes.fromhex("ffffffffef100002")
VFIO_END = bytes.fromhex("ffffffffef100001")
VECTORS = 4  # of make_config()'s MSI-X
MSIX = bytes(16 * VECTORS + 1)
PATH = "0000:00:01.0:00.0"


class Part(NamedTuple):
    """A device's section: body, and what the description has beside name and instance."""

    name: str
    body: bytes
    described: Mapping[str, Any]
    version: int = 1


def pci_device(config: bytes) -> bytes:
    """``vmstate_pci_device``."""
    return struct.pack(">I", 2) + config + bytes(16)


def vfio(config: bytes, path: str = PATH, msix: bytes = MSIX, more: bytes = b"") -> Part:
    """A device of vfio-pci: an old-style section, whose version is not described."""
    body = VFIO_BEGIN + pci_device(config) + msix + more + VFIO_END
    return opaque(f"{path}/vfio", body)


def opaque(name: str, body: bytes) -> Part:
    fields = [{"name": "data", "type": "buffer", "size": len(body)}]
    return Part(name, body, {"size": len(body), "fields": fields})


def emulated(config: bytes, name: str = "0000:00:1f.0/ICH9LPC") -> Part:
    """A device with its PCIDevice in a struct, an array of 3 words, and a subsection of 2 bytes."""
    pci = [
        {"name": "version_id", "type": "int32 le", "size": 4},
        {"name": "config", "type": "pci config", "size": len(config)},
        {"name": "irq_state", "type": "pci irq state", "size": 16},
    ]
    device = {"vmsd_name": "PCIDevice", "version": 2, "fields": pci}
    fields = [
        {"name": "first", "type": "uint8", "size": 1},
        {"name": "d", "type": "struct", "struct": device, "size": 20 + len(config)},
        {"name": "words", "array_len": 3, "type": "uint32", "size": 4},
    ]
    part = {"vmsd_name": "dev/part", "version": 1}
    part_fields = [{"name": "x", "type": "uint16", "size": 2}]
    described = {
        "vmsd_name": "dev",
        "version": 1,
        "fields": fields,
        "subsections": [{**part, "fields": part_fields}],
    }
    body = b"\x07" + pci_device(config) + bytes(12) + b"\x05\x08dev/part\0\0\0\1\0\0"
    return Part(name, body, described)


def virtio(config: bytes, name: str = "0000:00:02.0/virtio-net") -> Part:
    body = pci_device(config) + bytes(300)
    fields = [{"name": "virtio", "type": "virtio", "size": len(body)}]
    return Part(name, body, {"vmsd_name": "virtio-net", "version": 1, "fields": fields})


def make_stream(parts: Sequence[Part] = (), ram: bytes = b"", machine: str = MACHINE) -> bytes:
    """A stream with ``ram`` in a section before those of the devices."""
    name = machine.encode()
    head = b"QEVM" + struct.pack(">I", 3) + b"\x07" + struct.pack(">I", len(name)) + name
    sections = (_section(number, part) for number, part in enumerate(parts, 3))
    text = description(parts)
    tail = b"\x00\x06" + struct.pack(">I", len(text)) + text
    return head + ram + b"".join(sections) + tail


def description(parts: Sequence[Part]) -> bytes:
    devices = [{"name": part.name, "instance_id": 0, **part.described} for part in parts]
    return json.dumps({"configuration": {}, "page_size": 4096, "devices": devices}).encode()


def _section(number: int, part: Part) -> bytes:
    name = part.name.encode()
    head = b"\x04" + struct.pack(">IB", number, len(name)) + name
    words = struct.pack(">II", 0, part.version)
    return head + words + part.body + b"\x7e" + struct.pack(">I", number)


def make_image(
    payload: bytes,
    form: int = 0,
    xml: bytes = b"<domain/>",
    cookie: bytes = b"<cookie/>",
    magic: bytes = b"LibvirtQemudSave",
    order: str = "<",
    version: int = 2,
) -> bytes:
    """A save image of libvirt's."""
    texts = xml + b"\0" + (cookie + b"\0" if cookie else b"") + bytes(64)
    offset = len(xml) + 1 if cookie else 0
    header = struct.pack(order + "16s5I56x", magic, version, len(texts), 1, form, offset)
    return header + texts + payload


CONFIG = make_config()
EXPRESS = make_config(4096)
PARTS = (
    emulated(EXPRESS, "0000:00:01.0/pcie-root-port"),
    opaque("timer", b"twelve bytes"),
    emulated(CONFIG),
    vfio(CONFIG),
    vfio(EXPRESS, "0000:00:01.1:00.0"),
    opaque("globalstate", bytes(40)),
)
STREAM = make_stream(PARTS, ram=b"ram" * 1000)
