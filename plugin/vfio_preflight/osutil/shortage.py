"""Who is to end where the host's memory runs out: a process of ours, and no guest.

The kernel ends the process with most memory, which on a host of guests is a guest.

Source: Linux, Documentation/filesystems/proc.rst, ``/proc/<pid>/oom_score_adj``.
"""

from __future__ import annotations

import contextlib

_FIRST = b"1000"


def offer(pid: int) -> None:
    """Have the kernel end process ``pid`` before any other, as far as the caller may say so."""
    # A service that may not is told by its unit (OOMScoreAdjust=), which its children inherit.
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as own:
        own.write(_FIRST)
