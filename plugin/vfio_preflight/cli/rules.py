"""The files of vendors' rules, which an operator may change: such a file is kept.

Unlike the configuration, of which every line is the operator's to set, rules are renewed by a newer
version where they are still as they were shipped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .payload import RULES, vendor_rules
from .placed import digest, digest_at, remove, remove_empty, write


def put_in_place(root: str, before: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Install the files; ``before`` are the digests of those that an earlier version shipped.

    Returns the digests of this version's, by path, and the paths of files that were changed and are
    kept. Raises InstallError.
    """
    shipped, kept = {}, []
    for item in vendor_rules():
        shipped[item.path] = digest(item.data)
        path = os.path.join(root, item.path)
        # A link is the operator's: install never makes one.
        ours = (None, shipped[item.path], before.get(item.path))
        if os.path.islink(path) or digest_at(path) not in ours:
            kept.append(item.path)
        else:
            write(root, item)
    # A rule that is no longer shipped was withdrawn, or its file has another name now.
    stale = [path for path in before if path not in shipped]
    kept += [path for path in stale if not remove(root, path, before[path])]
    return shipped, kept


def take_away(root: str, shipped: Mapping[str, str]) -> list[str]:
    """Remove the files that are as they were shipped; returns the paths of those that are kept."""
    kept = [path for path, value in shipped.items() if not remove(root, path, value)]
    for directory in (RULES, os.path.dirname(RULES)):
        remove_empty(os.path.join(root, directory))
    return kept
