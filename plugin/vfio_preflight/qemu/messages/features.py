"""Virtio features by name: the bits that one side has and the other has not.

Sources: Virtio 1.3, 5 and 6; Linux, ``include/uapi/linux/virtio_*.h``; for bit 30 QEMU's
``docs/interop/vhost-user.rst``.
"""

from __future__ import annotations

import re

_COMMON = {
    24: "NOTIFY_ON_EMPTY",
    27: "ANY_LAYOUT",
    28: "RING_INDIRECT_DESC",
    29: "RING_EVENT_IDX",
    30: "VHOST_USER_PROTOCOL_FEATURES",
    32: "VERSION_1",
    33: "ACCESS_PLATFORM (iommu_platform)",
    34: "RING_PACKED",
    35: "IN_ORDER",
    36: "ORDER_PLATFORM",
    37: "SR_IOV",
    38: "NOTIFICATION_DATA",
    39: "NOTIF_CONFIG_DATA",
    40: "RING_RESET",
    41: "ADMIN_VQ",
}
_NET = {
    0: "CSUM",
    1: "GUEST_CSUM",
    2: "CTRL_GUEST_OFFLOADS",
    3: "MTU",
    5: "MAC",
    6: "GSO",
    7: "GUEST_TSO4",
    8: "GUEST_TSO6",
    9: "GUEST_ECN",
    10: "GUEST_UFO",
    11: "HOST_TSO4",
    12: "HOST_TSO6",
    13: "HOST_ECN",
    14: "HOST_UFO",
    15: "MRG_RXBUF",
    16: "STATUS",
    17: "CTRL_VQ",
    18: "CTRL_RX",
    19: "CTRL_VLAN",
    20: "CTRL_RX_EXTRA",
    21: "GUEST_ANNOUNCE",
    22: "MQ",
    23: "CTRL_MAC_ADDR",
    46: "GUEST_UDP_TUNNEL_GSO",
    47: "GUEST_UDP_TUNNEL_GSO_CSUM",
    48: "HOST_UDP_TUNNEL_GSO",
    49: "HOST_UDP_TUNNEL_GSO_CSUM",
    50: "DEVICE_STATS",
    51: "HASH_TUNNEL",
    52: "VQ_NOTF_COAL",
    53: "NOTF_COAL",
    54: "GUEST_USO4",
    55: "GUEST_USO6",
    56: "HOST_USO",
    57: "HASH_REPORT",
    59: "GUEST_HDRLEN",
    60: "RSS",
    61: "RSC_EXT",
    62: "STANDBY",
    63: "SPEED_DUPLEX",
    65: "GUEST_UDP_TUNNEL_GSO",
    66: "GUEST_UDP_TUNNEL_GSO_CSUM",
    67: "HOST_UDP_TUNNEL_GSO",
    68: "HOST_UDP_TUNNEL_GSO_CSUM",
}
# Bits of a device type alone; by its name in QEMU's ids of devices (virtio-net, vhost-user-blk).
_TYPES: dict[str, dict[int, str]] = {
    "net": _NET,
    "blk": {
        0: "BARRIER",
        1: "SIZE_MAX",
        2: "SEG_MAX",
        4: "GEOMETRY",
        5: "RO",
        6: "BLK_SIZE",
        7: "SCSI",
        9: "FLUSH",
        10: "TOPOLOGY",
        11: "CONFIG_WCE",
        12: "MQ",
        13: "DISCARD",
        14: "WRITE_ZEROES",
        15: "LIFETIME",
        16: "SECURE_ERASE",
        17: "ZONED",
    },
    "scsi": {0: "INOUT", 1: "HOTPLUG", 2: "CHANGE", 3: "T10_PI"},
    "gpu": {
        0: "VIRGL",
        1: "EDID",
        2: "RESOURCE_UUID",
        3: "RESOURCE_BLOB",
        4: "CONTEXT_INIT",
        5: "BLOB_ALIGNMENT",
    },
    "balloon": {
        0: "MUST_TELL_HOST",
        1: "STATS_VQ",
        2: "DEFLATE_ON_OOM",
        3: "FREE_PAGE_HINT",
        4: "PAGE_POISON",
        5: "PAGE_REPORTING",
    },
    "console": {0: "SIZE", 1: "MULTIPORT", 2: "EMERG_WRITE"},
    "iommu": {
        0: "INPUT_RANGE",
        1: "DOMAIN_RANGE",
        2: "MAP_UNMAP",
        3: "BYPASS",
        4: "PROBE",
        5: "MMIO",
        6: "BYPASS_CONFIG",
    },
    "mem": {0: "ACPI_PXM", 1: "UNPLUGGED_INACCESSIBLE", 2: "PERSISTENT_SUSPEND"},
    "vsock": {0: "STREAM", 1: "SEQPACKET"},
    "fs": {0: "NOTIFICATION"},
    "crypto": {
        0: "REVISION_1",
        1: "CIPHER_STATELESS_MODE",
        2: "HASH_STATELESS_MODE",
        3: "MAC_STATELESS_MODE",
        4: "AEAD_STATELESS_MODE",
        5: "AKCIPHER_STATELESS_MODE",
    },
    "snd": {0: "CTLS"},
    "pmem": {0: "SHMEM_REGION"},
}
_TYPES["serial"] = _TYPES["console"]
_NAME = re.compile(r"(?:virtio|vhost)(?:-user|-vdpa)?-([a-z]{1,16})")
# What a lack of such features comes from, for a network device; more of them for more hosts.
_TUNNEL, _OFFLOADS = frozenset((46, 47, 48, 49, 65, 66, 67, 68)), frozenset((54, 55, 56))


def device_type(name: str) -> str:
    """``net`` for ``virtio-net:virtio`` or ``0000:00:02.0/virtio-net``, empty for what is none."""
    found = _NAME.search(name)
    return found[1] if found else ""


def missing(source: int, destination: int) -> list[int]:
    """Bits that are in the mask of the source and not in the destination's."""
    lacking = source & ~destination
    return [bit for bit in range(lacking.bit_length()) if lacking >> bit & 1]


def names(bits: list[int], kind: str) -> str:
    """The names of feature bits of a device type, with their numbers."""
    known = {**_COMMON, **_TYPES.get(kind, {})}
    return ", ".join(f"{known.get(bit, 'not known')} (bit {bit})" for bit in bits)


def advice(bits: list[int], kind: str) -> str:
    """What such features come from."""
    if kind == "net" and _OFFLOADS & {*bits}:
        return (
            "USO is in the tap device since Linux 6.2 and in QEMU since 8.2: the destination's"
            " kernel"
            " is older (or QEMU's machine type differs); "
        )
    if kind == "net" and _TUNNEL & {*bits}:
        return "UDP tunnel offloads are in the tap device since Linux 6.17 and in QEMU since 10.2; "
    return ""
