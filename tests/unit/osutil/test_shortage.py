"""Who is to end where memory runs out."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vfio_preflight.osutil.shortage import offer


def test_process_is_ended_first() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        offer(process.pid)
        told = Path(f"/proc/{process.pid}/oom_score_adj").read_text()
        process.kill()
    assert told == "1000\n"


def test_process_that_is_gone_or_is_not_ours_is_left() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    offer(process.pid)
    assert Path("/proc/self/oom_score_adj").read_text() != "1000\n"
