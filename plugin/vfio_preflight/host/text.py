"""Small files and links of sysfs and /proc, read without a chance to fail."""

from __future__ import annotations

import os

from ..osutil.regular import read_start
from ..osutil.text import printable

MAX_LENGTH = 128


def text(path: str, limit: int = MAX_LENGTH) -> str:
    """What the file has, in one printable line; empty where it cannot be read."""
    try:
        found = read_start(path, limit).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    # It comes from a driver, a firmware or a process, and goes to terminals and logs.
    return printable(found.replace("\N{REPLACEMENT CHARACTER}", "?"))


def number(path: str, digits: int) -> str:
    """The hexadecimal number in a file (``0x030200``), with that many digits; empty for none."""
    try:
        return f"{int(text(path), 16):0{digits}x}"[-digits:]
    except ValueError:
        return ""


def target(link: str) -> str:
    """The last part of what a link leads to; empty where there is none."""
    try:
        return printable(os.path.basename(os.readlink(link)))
    except OSError:
        return ""


def names_in(root: str, directory: str) -> list[str]:
    """What a directory below ``root`` has, sorted; nothing where it cannot be read."""
    try:
        return sorted(os.listdir(os.path.join(root, directory)))
    except OSError:
        return []
