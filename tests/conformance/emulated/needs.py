"""What a device type needs to be realised: data alone.

Whatever stands behind a device is a null one, as far as QEMU has it. In the texts, ``{dut}`` is the
id of the device, ``{bus}`` the root bus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Needs(NamedTuple):
    """What comes with a device.

    ``properties`` are the device's own, ``before`` options that make what it refers to, ``after``
    those of what sits on it. ``bus`` is where it is put if not on the root bus, and ``machine``
    what is added to the machine type.
    """

    properties: str = ""
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    bus: str = ""
    machine: str = ""


NOTHING = Needs()
PCI = "PCI"
_ADDRESS = "0x8"

_DRIVE = ("-blockdev", "null-co,node-name=d0,size=1048576,read-zeroes=on")
_NETWORK = ("-netdev", "hubport,id=n0,hubid=0")
_SOUND = ("-audiodev", "none,id=a0")
_CAN = ("-object", "can-bus,id=can0")
_BMC = ("-device", "ipmi-bmc-sim,id=bmc0")
_MEMORY = ("-object", "memory-backend-ram,id=m0,size=4M")
_ROOT_PORT = ("-device", "pcie-root-port,id=rp0,bus={bus},chassis=1,slot=1,addr=0x10")
_UPSTREAM = (*_ROOT_PORT, "-device", "x3130-upstream,id=up0,bus=rp0")
_CXL = ("-device", "pxb-cxl,id=cxl0,bus={bus},bus_nr=12,addr=0x10")
_CXL_PORT = (*_CXL, "-device", "cxl-rp,id=crp0,bus=cxl0,chassis=3,slot=3,port=0")
_CXL_SWITCH = (*_CXL_PORT, "-device", "cxl-upstream,id=cup0,bus=crp0")


def _chardevs(number: int) -> tuple[str, ...]:
    options = (("-chardev", f"null,id=c{n}") for n in range(1, number + 1))
    return tuple(word for option in options for word in option)


def _variants(name: str) -> tuple[str, ...]:
    return (name, f"{name}-transitional", f"{name}-non-transitional")


_NETWORKED = Needs("netdev=n0", _NETWORK)
_SCSI = Needs(before=_DRIVE, after=("-device", "scsi-hd,bus={dut}.0,drive=d0"))
_USB = Needs(after=("-device", "usb-tablet,bus={dut}.0"))
_IDE = Needs(before=_DRIVE, after=("-device", "ide-hd,bus={dut}.0,drive=d0"))
_SOUNDING = Needs("audiodev=a0", _SOUND)
_HDA = Needs(before=_SOUND, after=("-device", "hda-duplex,bus={dut}.0,audiodev=a0"))
_ON_CHARDEV = Needs("chardev=c1", _chardevs(1))
_ONE_CAN, _TWO_CAN = Needs("canbus=can0", _CAN), Needs("canbus0=can0,canbus1=can0", _CAN)

# One row for each group of device types with the same needs; a type that is in none needs nothing.
_ROWS: Sequence[tuple[Sequence[str], Needs]] = (
    (
        (
            *("e1000", "e1000-82544gc", "e1000-82545em", "e1000e", "igb", "ne2k_pci", "pcnet"),
            *("rtl8139", "tulip", "vmxnet3", "i82550", "i82551", "i82557a", "i82557b"),
            *("i82557c", "i82558a", "i82558b", "i82559a", "i82559b", "i82559c", "i82559er"),
            *("i82562", "i82801", *_variants("virtio-net-pci")),
        ),
        _NETWORKED,
    ),
    (_variants("virtio-blk-pci"), Needs("drive=d0", _DRIVE)),
    (("nvme",), Needs("drive=d0,serial=s0", _DRIVE)),
    (("ufs",), Needs(before=_DRIVE, after=("-device", "ufs-lu,bus={dut},drive=d0,lun=0"))),
    (("sdhci-pci",), Needs(before=_DRIVE, after=("-device", "sd-card,bus=sd-bus,drive=d0"))),
    (
        (
            *("am53c974", "dc390", "lsi53c810", "lsi53c895a", "megasas", "megasas-gen2"),
            *("mptsas1068", "pvscsi", *_variants("virtio-scsi-pci")),
        ),
        _SCSI,
    ),
    (("ich9-ahci", "piix3-ide", "piix4-ide"), _IDE),
    (
        (
            *("nec-usb-xhci", "qemu-xhci", "pci-ohci", "usb-ehci", "ich9-usb-ehci1"),
            *("ich9-usb-ehci2", "piix3-usb-uhci", "piix4-usb-uhci"),
            *(f"ich9-usb-uhci{n}" for n in range(1, 7)),
        ),
        _USB,
    ),
    (("intel-hda", "ich9-intel-hda"), _HDA),
    (("AC97", "ES1370", "virtio-sound-pci"), _SOUNDING),
    (("pci-serial",), Needs("chardev=c1", _chardevs(1))),
    (("pci-serial-2x",), Needs("chardev1=c1,chardev2=c2", _chardevs(2))),
    (
        ("pci-serial-4x",),
        Needs("chardev1=c1,chardev2=c2,chardev3=c3,chardev4=c4", _chardevs(4)),
    ),
    (
        _variants("virtio-serial-pci"),
        Needs(before=_chardevs(1), after=("-device", "virtserialport,bus={dut}.0,chardev=c1")),
    ),
    (("tpci200",), Needs(after=("-device", "ipoctal232,bus={dut}.0"))),
    (("kvaser_pci",), _ONE_CAN),
    (("ctucan_pci", "mioe3680_pci", "pcm3680_pci"), _TWO_CAN),
    (("pci-ipmi-bt", "pci-ipmi-kcs"), Needs("bmc=bmc0", _BMC)),
    (("ivshmem-plain", "acpi-erst"), Needs("memdev=m0", _MEMORY)),
    (("virtio-mem-pci",), Needs("memdev=m0,block-size=2M", _MEMORY)),
    (("virtio-pmem-pci",), Needs("memdev=m0", _MEMORY)),
    (_variants("virtio-9p-pci"), Needs("fsdev=f0,mount_tag=t0", ("-fsdev", "synth,id=f0"))),
    (
        ("virtio-crypto-pci",),
        Needs("cryptodev=y0", ("-object", "cryptodev-backend-builtin,id=y0")),
    ),
    # What these stand on is not there: the reason is QEMU's.
    (_variants("vhost-scsi-pci"), Needs("wwpn=naa.5001405a5b6c7d8e")),
    (
        ("vhost-vsock-pci", "vhost-vsock-pci-non-transitional"),
        Needs("guest-cid=3"),
    ),
    (_variants("vhost-vdpa-device-pci"), Needs("vhostdev=/dev/vhost-vdpa-0")),
    (("virtio-input-host-pci",), Needs("evdev=/dev/input/event0")),
    (("vfio-pci-igd-lpc-bridge",), Needs("addr=0x1f")),
    (("pcie-root-port", "ioh3420"), Needs("chassis=1,slot=1")),
    (("x3130-upstream",), Needs(before=_ROOT_PORT, bus="rp0")),
    (("xio3130-downstream",), Needs("chassis=2,slot=2", _UPSTREAM, bus="up0")),
    (("usb-storage", "scsi-hd", "scsi-cd", "ide-hd", "ide-cd"), Needs("drive=d0", _DRIVE)),
    (("ide-cf", "sd-card", "sd-card-spi"), Needs("drive=d0", _DRIVE)),
    (("usb-serial", "usb-braille", "usb-redir", "ccid-card-passthru"), _ON_CHARDEV),
    (("virtconsole", "virtserialport", "isa-serial", "isa-parallel", "isa-debugcon"), _ON_CHARDEV),
    (("usb-net", "ne2k_isa"), _NETWORKED),
    (
        (
            *("usb-audio", "hda-duplex", "hda-micro", "hda-output", "adlib", "cs4231a", "gus"),
            "sb16",
        ),
        _SOUNDING,
    ),
    (("usb-mtp",), Needs("rootdir=/usr/share")),
    (("isa-ipmi-bt", "isa-ipmi-kcs"), Needs("bmc=bmc0", _BMC)),
    (("pc-dimm",), Needs("memdev=m0", ("-object", "memory-backend-ram,id=m0,size=128M"))),
    (
        ("nvdimm",),
        Needs(
            "memdev=m0",
            ("-object", "memory-backend-ram,id=m0,size=128M"),
            machine="nvdimm=on",
        ),
    ),
    (("pci-bridge", "pci-bridge-seat"), Needs("chassis_nr=5")),
    (("pxb", "pxb-pcie"), Needs("bus_nr=20")),
    (("pxb-cxl",), Needs("bus_nr=20", machine="cxl=on")),
    (("cxl-rp",), Needs("chassis=3,slot=3,port=0", _CXL, bus="cxl0", machine="cxl=on")),
    (("cxl-upstream",), Needs(before=_CXL_PORT, bus="crp0", machine="cxl=on")),
    (
        ("cxl-downstream",),
        Needs("chassis=4,slot=4,port=0", _CXL_SWITCH, bus="cup0", machine="cxl=on"),
    ),
    (
        ("cxl-type3",),
        Needs(
            "volatile-memdev=m0",
            ("-object", "memory-backend-ram,id=m0,size=256M", *_CXL_PORT),
            bus="crp0",
            machine="cxl=on",
        ),
    ),
    (
        ("cxl-switch-mailbox-cci",),
        Needs(
            "target=cup0,addr=0.1",
            (*_CXL_PORT, "-device", "cxl-upstream,id=cup0,bus=crp0,multifunction=on,addr=0.0"),
            bus="crp0",
            machine="cxl=on",
        ),
    ),
)
NEEDS: Mapping[str, Needs] = {name: needs for names, needs in _ROWS for name in names}


# What has the bus that a type of device sits on, as -device help calls it; and a bus there.
_XHCI = ("-device", "qemu-xhci,id=xhci0,bus={bus},addr=0x9")
BUSES: Mapping[str, tuple[Sequence[str], str]] = {
    "usb-bus": (_XHCI, "xhci0.0"),
    "ccid-bus": ((*_XHCI, "-device", "usb-ccid,id=ccid0,bus=xhci0.0"), "ccid0.0"),
    "SCSI": (("-device", "virtio-scsi-pci,id=scsi0,bus={bus},addr=0x9"), "scsi0.0"),
    "HDA": (("-device", "intel-hda,id=hda0,bus={bus},addr=0x9"), "hda0.0"),
    "virtio-serial-bus": (("-device", "virtio-serial-pci,id=vs0,bus={bus},addr=0x9"), "vs0.0"),
    "sd-bus": (("-device", "sdhci-pci,bus={bus},addr=0x9"), "sd-bus"),
    "IDE": ((), "ide.0"),
    "ISA": ((), "isa.0"),
    "System": ((), ""),
    "": ((), ""),
}


def arguments(name: str, kind: str, machine: str) -> list[str]:
    """A machine with a device ``dut`` of type ``name``, which sits on a bus of this kind; at the
    same PCI address on every board."""
    needs = NEEDS.get(name, NOTHING)
    root = "pci.0" if machine.startswith("pc-i440fx") else "pcie.0"
    parents, bus = BUSES.get(kind, ((), needs.bus or root))
    words = [f"{name},id=dut", f"bus={bus}" if bus else "", needs.properties]
    if kind == PCI and not needs.bus and "addr=" not in needs.properties:
        words.insert(2, f"addr={_ADDRESS}")
    before, after = (
        [word.replace("{bus}", root).replace("{dut}", "dut") for word in words_]
        for words_ in ((*parents, *needs.before), needs.after)
    )
    return [
        *("-machine", ",".join(filter(None, (machine, needs.machine)))),
        *("-m", "64,maxmem=2G,slots=2", *before),
        *("-device", ",".join(filter(None, words)), *after),
    ]
