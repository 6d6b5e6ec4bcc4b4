"""The files of vendors' rules, which an operator may change: such a file is kept.

Unlike the configuration, of which every line is the operator's to set, rules are renewed by a newer
version where they are still as they were shipped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .files import digest, is_as_shipped, remove, remove_empty
from .payload import RULES, Payload, vendor_rules
from .transaction import Transaction


def shipped() -> dict[str, Payload]:
    """This version's files, by path. Raises InstallError."""
    return {item.path: item for item in vendor_rules()}


def put_in_place(change: Transaction, root: str, before: Mapping[str, set[str]]) -> list[str]:
    """Install the files; ``before`` are the digests of those that earlier versions shipped.

    Returns the paths of files that were changed and are kept. Raises InstallError, OSError.
    """
    files, kept = shipped(), []
    for path, item in files.items():
        full = os.path.join(root, path)
        ours = {digest(item.data), *before.get(path, ())}
        # A link is the operator's: install never makes one.
        if os.path.lexists(full) and not is_as_shipped(full, ours):
            kept.append(path)
        else:
            change.write(item)
    # A rule that is no longer shipped was withdrawn, or its file has another name now.
    for path in before.keys() - files.keys():
        full = os.path.join(root, path)
        if is_as_shipped(full, before[path]):
            change.remove(path)
        elif os.path.lexists(full):
            kept.append(path)
    return kept


def take_away(root: str, before: Mapping[str, set[str]]) -> list[str]:
    """Remove the files that are as they were shipped; returns the paths of those that are kept."""
    kept = [path for path, digests in before.items() if not remove(root, path, digests)]
    for directory in (RULES, os.path.dirname(RULES)):
        remove_empty(os.path.join(root, directory))
    return kept
