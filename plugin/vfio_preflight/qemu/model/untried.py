"""Properties of a VFIO device that change no byte of its configuration space.

They name something of the host or of the guest that a trial does not have, or decide about
migration as a whole; a trial leaves them out.
"""

from __future__ import annotations

UNTRIED = frozenset(
    (
        *("host", "sysfsdev", "fd", "iommufd", "vf-token", "id", "bus", "addr"),
        *("bootindex", "acpi-index", "failover_pair_id", "enable-migration", "display", "ramfb"),
        *("xres", "yres", "x-ramfb-migrate", "x-vga", "x-igd-opregion", "x-igd-lpc"),
        *("x-igd-legacy-mode", "x-balloon-allowed", "x-pre-copy-dirty-page-tracking"),
        *("x-device-dirty-page-tracking", "x-migration-multifd-transfer", "migration-events"),
    )
)
