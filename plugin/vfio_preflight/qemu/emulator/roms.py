"""Option ROMs: which file a device type takes where nobody names another, and how large its BAR is.

The ROM of a device is a block of the guest's RAM, which the destination must have in the same size:
"Size mismatch: 0000:00:03.0/virtio-net-pci.rom: 0x40000 != 0x80000". Its contents are sent.

Source: ``romfile`` of the classes in QEMU 10.0.2 (hw/net, hw/display); ``pci_add_option_rom()``,
hw/pci/pci.c.
"""

from __future__ import annotations

from collections.abc import Mapping

# romsize where nobody sets one: the size of the file, rounded up.
_UNSET = ("4294967295", "")
_MAX = 2 << 30

ROMS: Mapping[str, str] = {
    **dict.fromkeys(
        (*("virtio-net-pci", "virtio-net-pci-transitional", "virtio-net-pci-non-transitional"),),
        "efi-virtio.rom",
    ),
    "e1000": "efi-e1000.rom",
    "e1000-82544gc": "efi-e1000.rom",
    "e1000-82545em": "efi-e1000.rom",
    "e1000e": "efi-e1000e.rom",
    "ne2k_pci": "efi-ne2k_pci.rom",
    "pcnet": "efi-pcnet.rom",
    "rtl8139": "efi-rtl8139.rom",
    "vmxnet3": "efi-vmxnet3.rom",
    **dict.fromkeys(
        (
            *("i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a", "i82558b"),
            *("i82559a", "i82559b", "i82559c", "i82559er", "i82562", "i82801"),
        ),
        "pxe-eepro100.rom",
    ),
    "VGA": "vgabios-stdvga.bin",
    "cirrus-vga": "vgabios-cirrus.bin",
    "qxl-vga": "vgabios-qxl.bin",
    "vmware-svga": "vgabios-vmware.bin",
    **dict.fromkeys(("virtio-vga", "virtio-vga-gl", "vhost-user-vga"), "vgabios-virtio.bin"),
    "ati-vga": "vgabios-ati.bin",
}
"""The file by type."""


def bar_size(file_size: int, romsize: str) -> int | None:
    """The size in bytes of the BAR for a file; None for one that QEMU does not take.

    ``romsize`` is the property in the notation of ``types.normal``.

    >>> bar_size(160768, "4294967295"), bar_size(160768, "524288")
    (262144, 524288)
    """
    if not 0 < file_size <= _MAX:
        return None
    if romsize in _UNSET:
        return 1 << (file_size - 1).bit_length()
    wanted = int(romsize) if romsize.isdecimal() else 0
    return wanted if file_size <= wanted else None
