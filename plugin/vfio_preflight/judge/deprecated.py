"""Device types and properties that QEMU has given up or will: since when, and until when.

QMP tells machine types alone ("deprecated" of ``query-machines``). What is deprecated works for the
release in which it became so and for one more; then it may go.

Source: docs/about/deprecated.rst and removed-features.rst of QEMU 10.0.2, read 2026-11-28; for
machine types MACHINE_VER_DELETION_MAJOR, include/hw/boards.h.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..osutil.light import NamedTuple
from ..qemu.emulator.machines import parse_machine_name

# A versioned machine type is removed with the release that is six years younger.
DELETED_AFTER = 6


class Deprecation(NamedTuple):
    """``since`` is the release that deprecated it, ``removed`` the one that it is gone from, which
    is the earliest that it can be where ``certain`` is False. ``instead`` is what to use."""

    since: str
    removed: str
    instead: str = ""
    certain: bool = False


TYPES: Mapping[str, Deprecation] = {
    "ide-drive": Deprecation("4.2", "6.0", "ide-hd or ide-cd", True),
    "scsi-disk": Deprecation("4.2", "6.0", "scsi-hd or scsi-cd", True),
    "sga": Deprecation("6.2", "8.0", "SeaBIOS's own serial console", True),
    "pvrdma": Deprecation("8.2", "9.1", "", True),
    **dict.fromkeys(
        ("vfio-platform", "vfio-calxeda-xgmac", "vfio-amd-xgbe"), Deprecation("10.0", "10.2")
    ),
}
# By type and property.
PROPERTIES: Mapping[tuple[str, str], Deprecation] = {
    ("nvme", "use-intel-id"): Deprecation("7.1", "8.0"),
    ("nvme-ns", "eui64-default"): Deprecation("7.1", "8.0", "eui64"),
    ("cxl-type3", "memdev"): Deprecation("8.0", "8.2", "persistent-memdev"),
    ("sd-card", "spec_version"): Deprecation("9.1", "10.0"),
}


def machine_removed(name: str) -> str:
    """The release of QEMU that a machine type of upstream's is removed with; empty for others."""
    parsed = parse_machine_name(name)
    if parsed.vendor or parsed.variant or len(parsed.version) < 2:
        return ""
    return f"{parsed.version[0] + DELETED_AFTER}.{parsed.version[1]}"


def told(found: Deprecation) -> str:
    """In words, to follow the name of it."""
    when = f"and gone from {found.removed} on" if found.certain else (
        f"and can be gone from {found.removed} on"
    )  # fmt: skip
    use = f"; use {found.instead}" if found.instead else ""
    return f"is deprecated since QEMU {found.since} {when}{use}"
