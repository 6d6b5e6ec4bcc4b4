"""How long the guest stands still for a device's state.

Source: Linux, ``struct vfio_device_feature_mig_data_size``: what the driver expects to send in
STOP_COPY, of which nothing is sent while the guest runs unless the driver has PRE_COPY.
"""

from __future__ import annotations

from .. import codes
from ..context import Context
from ..facts import DeviceFacts
from ..findings import Finding

MIB = 1 << 20
# Digits of a size that can be one: 999 TiB.
_DIGITS = 15


def check_downtime(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    """The amount of device state, and the time that it takes where the bandwidth is known."""
    length = facts.entry.stop_copy_length if facts.entry is not None else ""
    if not (length.isascii() and length.isdecimal() and len(length) <= _DIGITS):
        return ()
    mib = int(length) / MIB
    text = f"{mib:.1f} MiB of device state are sent while the guest stands still"
    if context.bandwidth:
        text += f": about {mib / context.bandwidth:.2f} s at {context.bandwidth} MiB/s"
    return (Finding(codes.STOP_TIME, text),)
