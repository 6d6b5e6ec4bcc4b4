"""All lines that are known, of QEMU, libvirt and the kernel: rows of data, a table each.

``docs/MESSAGES.md`` is made of them.
"""

from __future__ import annotations

from .message import Message
from .table_host import HOST
from .table_kernel import KERNEL
from .table_libvirt import LIBVIRT
from .table_migration import MIGRATION
from .table_open import OPEN
from .table_pci import PCI
from .table_realise import REALISE
from .table_stream import STREAM
from .table_vfio import EQUAL, VFIO
from .table_vfio_state import STATE
from .table_virtio import VIRTIO

__all__ = ["EQUAL", "MESSAGES", "TABLES"]

TABLES: dict[str, tuple[Message, ...]] = {
    "QEMU: what keeps a VFIO device from being migrated": VFIO,
    "QEMU: saving and loading a VFIO device's state": STATE,
    "QEMU: opening VFIO devices": OPEN,
    "QEMU: realising VFIO devices": REALISE,
    "QEMU: the stream of a guest's state": STREAM,
    "QEMU: the migration as a whole": MIGRATION,
    "QEMU: PCI devices and memory": PCI,
    "QEMU: virtio": VIRTIO,
    "libvirt and hooks": LIBVIRT,
    "the host: CPU, devices, rights": HOST,
    "the kernel and vendors' programs": KERNEL,
}
MESSAGES: tuple[Message, ...] = tuple(message for table in TABLES.values() for message in table)
