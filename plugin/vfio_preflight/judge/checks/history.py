"""What QEMU itself did with devices like these before."""

from __future__ import annotations

from .. import codes
from ..context import Context
from ..facts import DeviceFacts
from ..findings import Finding

REMEDY = (
    "do not migrate to this host; or, if the cause was removed there since, run there:"
    " vfio-preflight history forget {}"
)


def check_history(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    """That QEMU refused a device with these traits before, whatever the bytes say."""
    if not facts.refused or context.is_unplugged_to_migrate:
        return ()
    latest = facts.refused[-1]
    although = ", although skip-vsc-check was set" if latest.mended else ""
    text = (
        f'QEMU there refused such a device before: "{latest.line}" (at {latest.time}{although}; the'
        " same model, type, driver and firmware on both hosts, the same machine type)"
    )
    names = " ".join(refused.name for refused in facts.refused)
    return (Finding(codes.REFUSED_BEFORE, text, REMEDY.format(names)),)
