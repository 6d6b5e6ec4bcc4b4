"""What a distribution's package does on a host beyond its files: its scripts call this.

    /usr/lib/vfio-preflight/VERSION/maintain configure [OLD VERSION]    the package is unpacked
    /usr/lib/vfio-preflight/VERSION/maintain remove                     it is about to go

Only a package's own directory has ``maintain``, which is no command for operators. The files of a
version lie in a directory of their own, as ``install`` has them, so that an upgrade is one rename
of the link ``current``, and an installation by ``install`` is taken over in the same way.

Debian's package has the hook's entry made here, from its own directory: dpkg would have a second,
executable copy of a file in ``qemu.d`` for as long as it unpacks (``.dpkg-new``), or for good
(``.dpkg-dist``), and libvirt runs whatever is executable there.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence

from ...errors import PreflightError
from . import interpreter, labels, launcher, proof, reload, versions
from .files import digest, digest_at, is_as_shipped, remove, remove_empty
from .manifest import Ours, read_all
from .payload import (
    COMMAND,
    CURRENT,
    ENTRY,
    HOOK,
    HOOK_NAME,
    LIBRARY,
    PACKAGE_LINK,
    UNIT,
    InstallError,
    Payload,
)
from .transaction import Transaction, alone

# What "install" and a package have in the same place.
PLACES = {HOOK, COMMAND, UNIT}
# The entries of earlier packages, by their digests: one of these was changed by nobody.
FORMER: frozenset[str] = frozenset()
# Seconds to wait for hooks that run from a version that is about to go; see their deadline.
PATIENCE = 15.0
_POLL = 0.1


def configure(root: str, version: str, old: str) -> Iterator[str]:
    """Put the unpacked ``version`` in force; ``old`` is the version configured before, if any.

    Yields what the operator is told. Raises InstallError, and changes nothing then.
    """
    with open(os.path.join(root, LIBRARY, version, HOOK_NAME), "rb") as file:
        interpreter.require(file.read())
    ours = read_all(root)
    # Of a package that was removed, dpkg remembers the version as well, but it has no link.
    upgrade = os.path.lexists(os.path.join(root, CURRENT)) and not ours.manifests
    # Whoever took our hook away wants none; to reinstall is how to have it back.
    wanted = not upgrade or old == version
    hooks = reload.hooks(root)
    if not upgrade and not ours.manifests:
        hooks = [hook for hook in hooks if hook.path != _hook(root)]
    advice = reload.advice(root, hooks, staged=False)
    with Transaction(root) as change:
        change.link(CURRENT, version)
        told = _put_entry(change, root, ours, wanted)
        problem = labels.restore(os.path.join(root, path) for path in (HOOK, CURRENT))
        runs = os.access(_hook(root), os.X_OK)
        if runs:
            proof.prove(root)
        change.check()
    yield from filter(None, (told, problem))
    yield from _take_over(root, ours)
    # In an upgrade the package before has had libvirt find the hook.
    if runs and wanted:
        yield reload.carry_out(advice, root)


def take_away(root: str, version: str) -> Iterator[str]:
    """Remove the hook, so that libvirt runs as before; what the operator changed is kept.

    A hook that still runs would leave files behind, and is waited for.
    """
    if not remove(root, HOOK, _shipped()):
        yield (
            f"{_hook(root)} was changed, and stays, so that libvirt goes on running it; remove it,"
            " or purge the package"
        )

    else:
        _wait_for_hooks([version])


def _hook(root: str) -> str:
    return os.path.join(root, HOOK)


def _shipped() -> set[str]:
    return {digest(ENTRY.encode()), *FORMER}


def _put_entry(change: Transaction, root: str, ours: Ours, wanted: bool) -> str:
    """Put the hook's entry in place; what there is to say if it is not."""
    path, item = _hook(root), Payload(HOOK, ENTRY.encode(), 0o755)
    if not os.path.lexists(path):
        if wanted:
            change.write(item)
            return ""
        return f"{path} was removed, and is not put back; to have it again: {_reinstall(root)}"
    if not is_as_shipped(path, _shipped() | ours.entries().get(HOOK, set())):
        return (
            f"{path} was changed, and is kept; to have the package's: remove it, then"
            f" {_reinstall(root)}"
        )
    if wanted or digest_at(path) != digest(item.data):
        mode = item.mode if wanted else os.stat(path).st_mode & 0o777
        change.write(item._replace(mode=mode))
    if not os.access(path, os.X_OK):
        return (
            f"{path} is not executable: libvirt does not run it; to change that: chmod 755 {path}"
        )
    return ""


def _reinstall(root: str) -> str:
    return launcher.reinstall(root, launcher.in_force(root)[1])


def _take_over(root: str, ours: Ours) -> Iterator[str]:
    """Remove what ``install`` had put on this host, and is now the package's."""
    if not ours.manifests:
        return
    _wait_for_hooks([os.path.basename(place) for place in ours.manifests])
    left = []
    for place, manifest in ours.manifests.items():
        left += versions.remove_version(root, place, manifest)
    link, known = os.path.join(root, PACKAGE_LINK), ours.entries()
    if os.path.islink(link):
        os.unlink(link)
    # What is the package's now has the same place; what earlier versions had elsewhere goes.
    for path in known.keys() - PLACES:
        if not remove(root, path, known[path]):
            left.append(path)
    remove_empty(os.path.join(root, LIBRARY))
    yield "took over from 'vfio-preflight install', whose files are removed"
    for path in left:
        yield f"left in place, changed since it was installed: {os.path.join(root, path)}"


def _wait_for_hooks(names: list[str]) -> None:
    """Wait until no hook imports from the versions ``names``, whose files are about to go."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and any(_runs_from(name) for name in names):
        time.sleep(_POLL)


def _runs_from(name: str) -> bool:
    # The program that the hook gives to Python says where it imports from.
    mark = f'/{LIBRARY}/{name}"'.encode()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if mark in file.read():
                    return True
        except OSError:
            continue
    return False


def main(arguments: Sequence[str], version: str) -> int:
    """What ``maintain`` runs, for the package of ``version``."""
    os.umask(0o022)
    try:
        with alone("/"):
            if arguments[:1] == ["configure"]:
                lines = configure("/", version, *arguments[1:2] or [""])
            elif list(arguments) == ["remove"]:
                lines = take_away("/", version)
            else:
                raise InstallError("maintain is for the scripts of the package alone")
            for line in lines:
                print(f"vfio-preflight: {line}")
    except (PreflightError, OSError) as error:
        print(f"vfio-preflight: {error}", file=sys.stderr)
        return 1
    return 0
