"""The arguments that libvirt 11.3 gave a guest with one of everything, one option a line."""

from __future__ import annotations

from pathlib import Path

GUEST = Path(__file__).with_name("guest.args")


def arguments(text: str = "") -> list[str]:
    """The arguments, the program first; with more of them in ``text``, in the same form."""
    lines = (GUEST.read_text() + text).splitlines()
    return [word for line in lines for word in line.strip().split(" ", 1)]
