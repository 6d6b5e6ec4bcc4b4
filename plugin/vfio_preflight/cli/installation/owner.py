"""Whether a distribution's package has put vfio-preflight onto this host.

The manifest of a package's version has a ``package`` key. ``install`` puts nothing beside such a
version and ``uninstall`` takes nothing of it away: a file with two owners is removed by one of them
while the other counts on it. The file is read, rather than the package manager asked, so that the
same holds below ``--root``.
"""

from __future__ import annotations

import json
import os

from ...osutil.light import NamedTuple
from .launcher import DEB, DPKG, PACKAGES, RPM
from .payload import LIBRARY, MANIFEST_NAME, InstallError

NAME = "vfio-preflight"


class Commands(NamedTuple):
    """What an operator does with a package manager, as shell commands."""

    upgrade: str
    remove: str
    reinstall: str


COMMANDS = {
    DEB: Commands(f"apt install {NAME}", f"apt remove {NAME}", PACKAGES[DEB]),
    RPM: Commands(f"dnf upgrade {NAME}", f"dnf remove {NAME}", PACKAGES[RPM]),
}


class Owner(NamedTuple):
    """A package: ``deb`` or ``rpm``, its version, and whether it is removed but for its
    configuration."""

    kind: str
    version: str
    removed: bool = False


def of(manifest: str) -> str:
    """The kind of package that the manifest with this path came with; empty for one of install's.

    A manifest that cannot be read is none of a package's: reading it as another says what is wrong.
    """
    return str(_value(manifest).get("package", ""))


def find(root: str) -> Owner | None:
    """The package that is in ``root``, if there is one."""
    library = os.path.join(root, LIBRARY)
    for name in sorted(os.listdir(library)) if os.path.isdir(library) else ():
        # The link, "current", is one of the others again.
        if not os.path.islink(os.path.join(library, name)):
            value = _value(os.path.join(library, name, MANIFEST_NAME))
            if value.get("package") in COMMANDS:
                return Owner(str(value["package"]), str(value.get("version", "")))
    # Removed but not purged: the files in /etc are still the package's own.
    if os.path.exists(os.path.join(root, DPKG)):
        return Owner(DEB, "", removed=True)
    return None


def _value(path: str) -> dict[str, object]:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def refuse_install(root: str) -> None:
    """Raise InstallError if a package owns what ``install`` would put in place."""
    owner = find(root)
    if owner is None:
        return
    if owner.removed:
        raise InstallError(
            f"the package {NAME} was removed here, but its configuration is still dpkg's, which"
            f" would take it away together with what install puts there. Run 'apt purge {NAME}'"
            " first (keep a copy of /etc/vfio-preflight.conf if you changed it);"
            " nothing was changed"
        )
    commands = COMMANDS[owner.kind]
    raise InstallError(
        f"the package {NAME} {owner.version} is installed here: upgrade it with"
        f" '{commands.upgrade}', or take it away first with '{commands.remove}';"
        " nothing was changed"
    )


def refuse_uninstall(root: str) -> None:
    """Raise InstallError if it is a package that would have to be removed."""
    owner = find(root)
    if owner is not None and not owner.removed:
        raise InstallError(
            f"the package {NAME} {owner.version} is installed here: remove it with"
            f" '{COMMANDS[owner.kind].remove}'; nothing was removed"
        )
