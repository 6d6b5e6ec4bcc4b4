"""``packages/changes`` as Debian's changelog and as that of a spec file.

It has a line ``VERSION DATE`` (``0.1.0 2026-11-28``) for each release, the newest first, and below
that a line ``- what changed`` for each change; lines that are indented go on.
"""

from __future__ import annotations

import re
import textwrap
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from vfio_preflight import __version__

CHANGES = Path(__file__).parents[1] / "changes"
MAINTAINER = "vfio-preflight maintainers <vfio-preflight@users.noreply.github.com>"
_RELEASE = re.compile(r"(\S+) (\d{4}-\d\d-\d\d)")


class Release(NamedTuple):
    version: str
    date: datetime
    changes: list[str]


def read(text: str) -> list[Release]:
    """The releases. Raises ValueError for what is none of the lines above."""
    releases: list[Release] = []
    for line in text.splitlines():
        head = _RELEASE.fullmatch(line)
        if head:
            noon = datetime.fromisoformat(head[2]).replace(hour=12, tzinfo=timezone.utc)
            releases.append(Release(head[1], noon, []))
        elif line.startswith("- ") and releases:
            releases[-1].changes.append(line[2:])
        elif line.startswith("  ") and releases and releases[-1].changes:
            releases[-1].changes[-1] += f" {line.strip()}"
        elif line.strip():
            raise ValueError(f"neither a release nor a change: {line}")
    return releases


def releases() -> list[Release]:
    """Those of ``packages/changes``. Raises ValueError if it does not begin with this version."""
    found = read(CHANGES.read_text())
    if not found or found[0].version != __version__:
        raise ValueError(f"{CHANGES} must begin with what is new in {__version__}")
    return found


def newest() -> Release:
    return releases()[0]


def debian(releases: list[Release]) -> str:
    """As debian/changelog: deb-changelog(5)."""
    return "\n".join(_debian(release) for release in releases)


def _debian(release: Release) -> str:
    changes = "".join(f"  * {_folded(change, '    ')}\n" for change in release.changes)
    date = release.date.strftime("%a, %d %b %Y %H:%M:%S +0000")
    return (
        f"vfio-preflight ({release.version}) unstable; urgency=medium\n\n{changes}\n"
        f" -- {MAINTAINER}  {date}\n"
    )


def rpm(releases: list[Release]) -> str:
    """As the lines below a spec file's %changelog."""
    return "\n".join(_rpm(release) for release in releases)


def _rpm(release: Release) -> str:
    changes = "".join(f"- {_folded(change, '  ')}\n" for change in release.changes)
    # rpm expands macros in a changelog as anywhere.
    changes = changes.replace("%", "%%")
    return f"* {release.date:%a %b %d %Y} {MAINTAINER} - {release.version}-1\n{changes}"


def _folded(words: str, indent: str) -> str:
    return "\n".join(textwrap.wrap(words, 74, subsequent_indent=indent))
