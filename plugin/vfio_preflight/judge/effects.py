"""What is known of properties that two builds set to other values: does QEMU refuse the guest?

One row for each property and kind of device. What is not in here is not known, and is told as such.

Rows of verdict FAIL were seen: the property was set on one side alone, of two QEMUs that were the
same otherwise, with a guest that had the device, and QEMU refused it. The conformance suite does it
anew with each build (``tests/conformance/test_effects.py``). Rows of UNKNOWN hang on what is not
known of the guest: whether its driver uses a feature, or on which bus the device is. Rows of PASS
say why it does not matter, and the difference is not told.

Of a running guest's virtio features: one that its driver has taken and the destination does not
offer is refused, "Features 0x... unsupported. Allowed features: 0x..."; the other way round the
guest goes on without it (``virtio_load()`` and ``virtio_set_features_nocheck()``,
hw/virtio/virtio.c).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..osutil.light import NamedTuple
from ..qemu.emulator.drift import Change
from .verdicts import FAIL, PASS, UNKNOWN

SEEN = "seen with QEMU 10.0.2 and 11.1.3, 2026-11-28"
READ = "by QEMU's source, 2026-11-28"
# Conditions that the judge knows of.
INTEL_DISPLAY = "an Intel display device"

_ON_EXPRESS = "; not where it is on a conventional PCI bus"


class Effect(NamedTuple):
    """What becomes of a guest where ``property`` differs on a device that is or descends from one
    of ``types``.

    ``source`` is where that is known from, with the date. ``there`` is the destination's value that
    it holds for, empty for any. ``only`` names what the guest must have for it to matter.
    """

    verdict: str
    property: str
    types: tuple[str, ...]
    text: str
    source: str
    there: str = ""
    only: str = ""


_CONFIG = 'QEMU refuses it: "get_pci_config_device: Bad config data: i={}"'
_CONFIG_ANY = 'QEMU refuses it: "get_pci_config_device: Bad config data"'
_FOOTER = 'QEMU refuses it: "Missing section footer for .../{}"'
_QUOTED = 'QEMU refuses it: "{}"'
_VIRTIO_BUS = "QEMU compares the bytes that it decides about" + _ON_EXPRESS
_FEATURE = (
    "QEMU refuses it if the guest's driver uses the feature: \"Features 0x... unsupported. Allowed"
    ' features: 0x..."'
)
_NO_LOSS = "the destination offers a feature more, which the guest's driver does not use"

# Bits that a virtio device offers; on and off.
_NET = (
    *("csum", "guest_csum", "gso", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo"),
    *("guest_announce", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "mrg_rxbuf", "status"),
    *("ctrl_vq", "ctrl_rx", "ctrl_vlan", "ctrl_rx_extra", "ctrl_mac_addr", "rss", "hash"),
    *("ctrl_guest_offloads", "mq", "guest_rsc_ext", "guest_uso4", "guest_uso6", "host_uso"),
    *("guest_tunnel", "guest_tunnel_csum", "host_tunnel", "host_tunnel_csum"),
)
_OTHERS = (
    *("indirect_desc", "event_idx", "notify_on_empty", "any_layout", "iommu_platform", "packed"),
    *("queue_reset", "in_order", "discard", "write-zeroes", "config-wce", "edid", "page-poison"),
    *("free-page-hint", "free-page-reporting", "deflate-on-oom", "hotplug", "param_change"),
    *("seqpacket", "emergency-write"),
)
_FEATURES = tuple(
    effect
    for name in (*_NET, *_OTHERS)
    for effect in (
        Effect(UNKNOWN, name, ("virtio-pci", "virtio-device"), _FEATURE, READ, there="off"),
        Effect(PASS, name, ("virtio-pci", "virtio-device"), _NO_LOSS, READ, there="on"),
    )
)

_PORTS = ("pcie-port",)
_VMXNET3, _PVSCSI = ("vmxnet3",), ("pvscsi",)

EFFECTS: tuple[Effect, ...] = (
    # --- PCI in general ---
    Effect(FAIL, "x-pcie-ext-tag", _PORTS, _CONFIG.format("0x58"), SEEN),
    Effect(UNKNOWN, "x-pcie-ext-tag", ("virtio-pci",), _VIRTIO_BUS, SEEN),
    Effect(FAIL, "x-pcie-err-unc-mask", _PORTS, _CONFIG.format("0x10a"), SEEN, there="off"),
    Effect(PASS, "x-pcie-err-unc-mask", _PORTS, "QEMU takes it this way round", SEEN, there="on"),
    Effect(FAIL, "x-pcie-ari-nextfn-1", ("igb",), _CONFIG.format("0x155"), SEEN),
    # --- ports and bridges ---
    Effect(FAIL, "x-speed", ("pcie-root-port",), _CONFIG.format("0x60"), SEEN),
    Effect(FAIL, "x-width", ("pcie-root-port",), _CONFIG.format("0x60"), SEEN),
    Effect(FAIL, "disable-acs", ("pcie-root-port-base",), _CONFIG.format("0x102"), SEEN),
    Effect(FAIL, "x-migrate-msix", ("pcie-root-port",), _FOOTER.format("pcie-root-port"), SEEN),
    Effect(FAIL, "shpc", ("pci-bridge",), _CONFIG_ANY, SEEN),
    Effect(
        *(UNKNOWN, "x-keep-pci-slot-hpc", ("ICH9-LPC",)),
        "QEMU refuses a root port that devices can be plugged into: "
        '"get_pci_config_device: Bad config data: i=0x34"',
        SEEN,
    ),
    # --- virtio ---
    Effect(FAIL, "vectors", ("virtio-balloon-pci", "virtio-rng-pci"), _CONFIG.format("0x34"), SEEN),
    Effect(
        *(UNKNOWN, "vectors", ("virtio-pci",)),
        "QEMU compares the number of MSI-X vectors, which may come to the same by other ways",
        SEEN,
    ),
    Effect(UNKNOWN, "x-pcie-flr-init", ("virtio-pci",), _VIRTIO_BUS, SEEN),
    Effect(UNKNOWN, "x-disable-pcie", ("virtio-pci",), _VIRTIO_BUS, SEEN),
    Effect(UNKNOWN, "page-per-vq", ("virtio-pci",), _VIRTIO_BUS, SEEN),
    Effect(
        *(FAIL, "x-scanout-vmstate-version", ("virtio-gpu-device",)),
        _FOOTER.format("virtio-gpu"),
        SEEN,
    ),
    *_FEATURES,
    # --- network cards, disks, graphics ---
    Effect(FAIL, "x-pcie-flr-init", ("igb",), _CONFIG.format("0xa7"), SEEN),
    Effect(FAIL, "migrate-timadj", ("e1000e",), _FOOTER.format("e1000e"), SEEN),
    Effect(FAIL, "x-old-msi-offsets", _VMXNET3, _CONFIG.format("0x34"), SEEN),
    Effect(FAIL, "x-old-pci-configuration", _PVSCSI, _CONFIG.format("0x8"), SEEN),
    Effect(FAIL, "x-disable-pcie", _PVSCSI, _QUOTED.format("load of migration failed"), SEEN),
    Effect(
        *(FAIL, "global-vmstate", ("VGA", "cirrus-vga")),
        _QUOTED.format("Unknown ramblock ..., cannot accept migration"),
        SEEN,
    ),
    Effect(
        *(FAIL, "vgamem_mb", ("cirrus-vga", "pci-vga")),
        _QUOTED.format("Size mismatch: .../vga.vram"),
        SEEN,
    ),
    # --- VFIO ---
    Effect(
        *(UNKNOWN, "x-igd-opregion", ("vfio-pci",)),
        "QEMU gives an Intel display device its OpRegion, and its registers another shape, or not",
        "by QEMU's source, hw/vfio/igd.c, 2026-11-28",
        only=INTEL_DISPLAY,
    ),
    Effect(
        *(PASS, "skip-vsc-check", ("vfio-pci",)),
        "judged of each device by its bytes",
        READ,
    ),
)


def effect_of(change: Change) -> Effect | None:
    """The gravest thing that is known of a change; None where nothing is."""
    found = sorted(_applying(change), key=lambda effect: _GRAVITY.index(effect.verdict))
    return found[0] if found else None


_GRAVITY = (FAIL, UNKNOWN, PASS)


def _applying(change: Change) -> Iterator[Effect]:
    for effect in EFFECTS:
        concerned = effect.there in ("", change.destination.text) and (
            effect.property == change.property
        )
        if concerned and change.lineages.intersection(effect.types):
            yield effect
