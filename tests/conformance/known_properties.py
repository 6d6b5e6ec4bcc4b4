"""The properties of vfio-pci that change no byte: drawn all the same, or why they are not.

Those that may change one are ``strategies``' own. A new release's new property belongs into one of
the three, or ``test_corners`` fails.
"""

from __future__ import annotations

from collections.abc import Mapping

IDLE: Mapping[str, tuple[str, ...]] = {
    "x-no-kvm-msi": ("on",),
    "x-no-kvm-ioeventfd": ("on",),
    "x-no-vfio-ioeventfd": ("on",),
    "x-intx-mmap-timeout-ms": ("0",),
    "x-max-bounce-buffer-size": ("8192",),
    "x-pcie-ari-nextfn-1": ("on",),
    "x-pcie-err-unc-mask": ("off",),
    "x-pcie-ext-tag": ("off",),
    "x-pcie-extcap-init": ("off",),
    "x-pcie-lnksta-dllla": ("off",),
    "x-migration-load-config-after-iter": ("off",),
}

_PLACE = "says which device it is, or where the guest sees it"
_MIGRATION = "about how migration goes on, not about what is compared"
_DISPLAY = "about a display, which a made-up device has not got"
_OPREGION = "about an OpRegion or a bridge of Intel graphics, which a made-up device has not got"

NOT_DRAWN: Mapping[str, str] = {
    **dict.fromkeys(("addr", "busnr", "fd", "host", "sysfsdev", "vf-token"), _PLACE),
    **dict.fromkeys(("acpi-index", "bootindex"), "for the guest's firmware and names alone"),
    "failover_pair_id": "such a device is unplugged before migration",
    "enable-migration": "off forbids migration altogether, which has a finding of its own",
    **dict.fromkeys(("migration-events", "x-migration-multifd-transfer"), _MIGRATION),
    **dict.fromkeys(("x-migration-max-queued-buffers-size",), _MIGRATION),
    **dict.fromkeys(("x-device-dirty-page-tracking", "x-pre-copy-dirty-page-tracking"), _MIGRATION),
    **dict.fromkeys(("display", "ramfb", "x-ramfb-migrate", "xres", "yres"), _DISPLAY),
    **dict.fromkeys(("x-vga", "use-legacy-x86-rom"), "about VGA memory, or a ROM for it"),
    **dict.fromkeys(("x-igd-opregion", "x-igd-lpc", "x-igd-legacy-mode"), _OPREGION),
    "x-balloon-allowed": "about the guest's memory",
    "sriov-pf": "QEMU refuses it of a VFIO device",
    "iommufd": "needs the host's; hides ATS or adds PASID by what that reports: README, Limits",
    "x-vpasid-cap-offset": "only with iommufd, a vIOMMU and a host with PASID: README, Limits",
}
