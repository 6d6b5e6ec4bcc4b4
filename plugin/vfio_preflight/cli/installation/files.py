"""Single files of an installation: recognised by their digests, and removed.

All paths are relative to the root that is installed to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection

from .payload import InstallError


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


def is_as_shipped(path: str, shipped: Collection[str]) -> bool:
    """Whether a file is there that still has one of the digests ``shipped``."""
    # A link in place of our file is not from install, so it is left alone.
    return not os.path.islink(path) and digest_at(path) in shipped


def remove(root: str, path: str, shipped: Collection[str]) -> bool:
    """Remove a file that is as it was shipped; whether nothing is there any more."""
    full = os.path.join(root, path)
    if is_as_shipped(full, shipped):
        os.unlink(full)
    return not os.path.lexists(full)


def remove_empty(path: str) -> None:
    """Remove a directory in which nothing is left."""
    try:
        os.rmdir(path)
    except OSError:
        # It has other files in it, or does not exist.
        return
