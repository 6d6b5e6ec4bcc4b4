"""QEMU of another Debian release, beside the machine's own: see ``tests/other-qemu``."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from .guests import EMULATOR
from .host import Host

_SCRIPT = Path(__file__).parents[1] / "other-qemu"
OLDER, NEWEST = "bookworm", "newest"


def other_qemu(suite: str, arch: str = "x86_64") -> Path:
    """An emulator of ``suite``, a release older or newer than the machine's, or ``NEWEST``.

    ``arch`` is what it emulates. Without it the test fails in CI, and is skipped elsewhere.
    """
    path, problem = _fetch(suite, arch)
    return path or _lacks(f"QEMU for {arch} of Debian {suite}: {problem}")


def other_release(suite: str) -> Path:
    """QEMU and libvirt of ``suite``, to be laid over a host's own; without them, as above."""
    path, problem = _fetch(suite, "host")
    return path or _lacks(f"libvirt of Debian {suite}: {problem}")


def _lacks(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"lacks {what}")
    pytest.skip(f"lacks {what}")


@functools.cache
def _fetch(suite: str, arch: str) -> tuple[Path | None, str]:
    result = subprocess.run([_SCRIPT, suite, arch], capture_output=True, text=True, check=False)
    return (Path(result.stdout.strip()) if result.returncode == 0 else None), result.stderr


def exchange_emulator(host: Host, emulator: Path) -> None:
    """As a package manager does; libvirt sees that it is another, and asks it what it can do."""
    new = host.path(EMULATOR + ".new")
    new.write_bytes(emulator.read_bytes())
    new.chmod(0o755)
    new.rename(host.path(EMULATOR))
