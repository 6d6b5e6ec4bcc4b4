"""The directories of versions below the library: staged, put in force, removed.

A version is prepared under a hidden name and renamed when it is complete, so that what has its own
name is whole. The version before the last installation stays until the next one: a hook or the
service that is running may still import from it.
"""

from __future__ import annotations

import compileall
import errno
import os
import re
import shutil
from contextlib import suppress

from ...qemu.trial import shim
from .files import digest_at, is_as_shipped, remove, remove_empty
from .manifest import Manifest, Ours
from .payload import (
    CURRENT,
    LIBRARY,
    MANIFEST_NAME,
    PACKAGE_LINK,
    SHIM_NAME,
    InstallError,
    Payload,
)
from .transaction import Transaction, naming

PACKAGE_TARGET = f"{os.path.basename(CURRENT)}/vfio_preflight"
# What staging leaves when it is killed; see version_name().
STAGED = re.compile(r"\.\d[\w.+]*-[0-9a-f]{8}")
# Less room than this, in bytes, and a compiler fails for that alone.
ROOM = 1 << 18
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def in_force(root: str, ours: Ours) -> str:
    """The directory that the hook imports from, relative to the root; empty where there is none."""
    link = os.path.join(root, CURRENT)
    if os.path.islink(link):
        return f"{LIBRARY}/{os.readlink(link)}"
    # The package lies there itself where it was installed before versions had directories.
    return LIBRARY if LIBRARY in ours.manifests else ""


def refuse_changed(root: str, ours: Ours) -> None:
    """Raise InstallError if a file of the version in force was changed, or is none of ours."""
    current = in_force(root, ours)
    manifest = ours.manifests.get(current)
    for path, shipped in manifest.files.items() if manifest else ():
        full = os.path.join(root, path)
        if path.startswith(f"{LIBRARY}/") and os.path.lexists(full):
            require(is_as_shipped(full, {shipped}), full, "was changed since it was installed")
    link, package = (os.path.join(root, path) for path in (CURRENT, PACKAGE_LINK))
    require(os.path.islink(link) or not os.path.lexists(link), link, "is not ours")
    if os.path.islink(package):
        require(os.readlink(package) == PACKAGE_TARGET, package, "is not ours")
    elif os.path.lexists(package):
        # The package itself, as it was installed before versions had directories.
        require(LIBRARY in ours.manifests, package, "is not ours")


def require(condition: bool, path: str, problem: str) -> None:
    """Raise InstallError about a file that is in the way, unless ``condition`` holds."""
    if condition:
        return
    if os.path.islink(path):
        problem = "is a symbolic link, which install never makes there"
    raise InstallError(f"{path} {problem}; move it away and run install again")


def stage(
    change: Transaction, root: str, version: str, files: list[Payload], manifest: Manifest
) -> str:
    """Make the directory of ``version``, whole, without putting it in force.

    Returns why there will be no trials, or nothing. Raises InstallError, OSError.
    """
    staged, final = f"{LIBRARY}/.{version}", f"{LIBRARY}/{version}"
    change.directory(LIBRARY)
    change.tree(final)
    change.tree(staged)
    top = os.path.join(root, staged)
    for item in (*files, Payload(MANIFEST_NAME, manifest.to_json())):
        path = os.path.join(top, item.path)
        with naming(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(item.data)
            os.chmod(path, item.mode)
    change.check()
    problem = _build_shim(os.path.join(top, SHIM_NAME))
    change.check()
    _compile(top, f"/{final}")
    change.check()
    os.rename(top, os.path.join(root, final))
    return problem


def _build_shim(target: str) -> str:
    """Compile the trial's fake device for this host; return the error, or nothing."""
    try:
        shim.build(target)
    except shim.ShimError as error:
        # A host without a compiler is complete without; one that cannot be written is not.
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise error.__cause__ from error
        free = os.statvfs(os.path.dirname(target))
        if free.f_bavail * free.f_frsize < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target) from error
        return str(error)
    return ""


def _compile(top: str, final: str) -> None:
    # Compiled here: the hook may run under SELinux or AppArmor without write access to /usr/lib.
    whole = compileall.compile_dir(top, quiet=2, stripdir=top, prependdir=final, force=True)
    if not whole:
        raise InstallError(f"{top}: not all of it can be compiled; make room there")


def put_in_force(change: Transaction, root: str, version: str) -> None:
    """Have the hook and the command go by ``version``. Raises OSError."""
    change.link(CURRENT, version)
    # A directory there is an older version's, which goes with the installation after this one.
    if not os.path.isdir(os.path.join(root, PACKAGE_LINK)):
        change.link(PACKAGE_LINK, PACKAGE_TARGET)


def sweep_staged(root: str) -> None:
    """Remove what installations that were killed have staged."""
    library = os.path.join(root, LIBRARY)
    for name in os.listdir(library) if os.path.isdir(library) else ():
        if STAGED.fullmatch(name):
            shutil.rmtree(os.path.join(library, name), ignore_errors=True)


def retire(root: str, ours: Ours, kept: set[str]) -> list[str]:
    """Remove all versions but those in the directories ``kept``.

    Returns the paths of files that are left because they were changed.
    """
    left = []
    for place, manifest in ours.manifests.items():
        if place not in kept:
            with suppress(OSError):
                left += remove_version(root, place, manifest)
    link = os.path.join(root, PACKAGE_LINK)
    if not os.path.lexists(link):
        with suppress(OSError):
            os.symlink(PACKAGE_TARGET, link)
    return left


def remove_version(root: str, place: str, manifest: Manifest) -> list[str]:
    """Remove a version's directory; returns the paths of files that were changed, and stay.

    Raises OSError.
    """
    top = os.path.join(root, place)
    package, left = os.path.join(top, "vfio_preflight"), []
    # Of an older version, in the library itself, this can be the link to one that stays.
    if not os.path.islink(package):
        inside = [path for path in manifest.files if path.startswith(f"{LIBRARY}/")]
        left = [path for path in inside if not remove(root, path, {manifest.files[path]})]
        _remove_made_here(package)
    # Last: of who is killed before that, the rest can be taken away by the next one.
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(top, MANIFEST_NAME))
    remove_empty(top)
    return left


def _remove_made_here(package: str) -> None:
    """Remove what Python and the compiler made, and every directory that is empty then."""
    made = re.compile(rf"{re.escape(os.path.basename(SHIM_NAME))}(\.\d+)?")
    for directory, _subdirectories, files in os.walk(package, topdown=False):
        for name in files:
            if os.path.basename(directory) == "__pycache__" or made.fullmatch(name):
                os.unlink(os.path.join(directory, name))
        remove_empty(directory)


def configuration_digest(root: str, path: str, shipped: str, ours: Ours) -> str:
    """The digest of an unchanged configuration: this version's, or that of the installed one."""
    found = digest_at(os.path.join(root, path))
    # An operator's edit keeps the digest of a file as it was shipped, so it is never removed.
    return found if found is not None and found in ours.configurations() else shipped
