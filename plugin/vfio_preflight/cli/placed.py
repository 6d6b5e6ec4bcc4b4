"""Single files of an installation: put in place, recognised by their digests, and removed.

All paths are relative to the root that is installed to.
"""

from __future__ import annotations

import hashlib
import os

from .payload import InstallError, Payload


def digest(data: bytes) -> str:
    """The digest by which the manifest knows a file."""
    return hashlib.sha256(data).hexdigest()


def digest_at(path: str) -> str | None:
    """The digest of a file; None if it is not there. Raises InstallError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return digest(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{path}: cannot be read: {error.strerror}") from error


def write(root: str, item: Payload) -> None:
    """Write beside the target and rename: libvirt may run the hook at any moment.

    Raises InstallError.
    """
    path = os.path.join(root, item.path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # A dot file, because libvirt runs whatever else is executable in qemu.d; and it runs hidden
    # files too, so the mode comes last.
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        with open(temporary, "wb", opener=_create) as file:
            file.write(item.data)
        os.rename(temporary, path)
        os.chmod(path, item.mode)
    except OSError as error:
        raise InstallError(f"{path}: cannot be written: {error.strerror}") from error


def _create(path: str, flags: int) -> int:
    # 0600 until it is complete: libvirt runs every executable file in qemu.d.
    return os.open(path, flags, 0o600)


def remove(root: str, path: str, shipped: str) -> bool:
    """Remove a file that still has the digest ``shipped``; whether nothing is there any more."""
    full = os.path.join(root, path)
    # A link in place of our file is not from install, so it is left alone.
    if os.path.islink(full):
        return False
    found = digest_at(full)
    if found == shipped:
        os.unlink(full)
    return found in (None, shipped)


def remove_empty(path: str) -> None:
    """Remove a directory in which nothing is left."""
    try:
        os.rmdir(path)
    except OSError:
        # It has other files in it, or does not exist.
        return
