"""Takes an installation away: the hook first, from then on libvirt runs as before.

The manifests go last, so that what was killed or failed in between can be repeated.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from ...configuration import Configuration, ConfigurationError, load
from ...osutil.light import TYPE_CHECKING
from ..export import FILE
from . import owner, rules, versions
from .files import remove, remove_empty
from .manifest import Ours, read_all
from .payload import (
    CACHE,
    COMMAND,
    CONFIGURATION,
    CURRENT,
    HOOK,
    LIBRARY,
    PACKAGE_LINK,
    RULE_FILES,
    RULES,
    STATES,
    UNIT,
    WANTED,
    InstallError,
)
from .transaction import explain, signals_noted, sweep_beside

if TYPE_CHECKING:
    from typing import Any

# Beside these, an installation that is killed can leave something.
PLACES = [HOOK, COMMAND, UNIT, CONFIGURATION, CURRENT, PACKAGE_LINK]
PLACES += [f"{RULES}/{name}" for name in RULE_FILES]


def sweep(root: str) -> None:
    """Remove what installations that were killed have left, as far as that is possible."""
    sweep_beside(root, PLACES)
    versions.sweep_staged(root)


def take_away(root: str) -> dict[str, Any]:
    """Remove every version, and what is as it was shipped; returns what is left.

    Raises InstallError, before anything is removed where that can be told.
    """
    owner.refuse_uninstall(root)
    ours = read_all(root)
    if not ours.manifests:
        sweep(root)
        remove_empty(os.path.join(root, LIBRARY))
        raise InstallError(f"nothing to remove: no version is installed in {root}")
    known = ours.entries()
    # The hook first: from then on libvirt runs as before.
    paths = sorted(known, key=lambda path: path != HOOK)
    _require_writable(root, paths, ours)
    try:
        with signals_noted():
            return _remove(root, ours, paths)
    except OSError as error:
        raise InstallError(f"{explain(error)}; then run uninstall again for the rest") from error


def _remove(root: str, ours: Ours, paths: list[str]) -> dict[str, Any]:
    known = ours.entries()
    shown = _shown(root)
    left = [path for path in paths if not remove(root, path, known[path])]
    kept = not remove(root, CONFIGURATION, ours.configurations())
    kept_rules = rules.take_away(root, ours.rules())
    left += _remove_library(root, ours)
    # What is left there goes on being shown.
    for path in filter(os.path.lexists, shown):
        os.unlink(path)
    for directory in (STATES, os.path.dirname(STATES), os.path.dirname(HOOK)):
        remove_empty(os.path.join(root, directory))
    return {
        "left": [os.path.join(root, path) for path in left],
        "configuration": os.path.join(root, CONFIGURATION),
        "configuration_kept": kept,
        "rules_kept": [os.path.join(root, path) for path in kept_rules],
        "service_enabled": os.path.lexists(os.path.join(root, WANTED)),
    }


def _shown(root: str) -> list[str]:
    """What ``watch`` writes for the node exporter: where the configuration has it now, and where it
    was written until that was changed."""
    settings = [Configuration()]
    with suppress(ConfigurationError):
        settings.append(load(os.path.join(root, CONFIGURATION)))
    return [os.path.join(root, each.metrics.lstrip("/"), FILE) for each in settings]


def _require_writable(root: str, paths: list[str], ours: Ours) -> None:
    """Raise InstallError, before anything is removed, if something cannot be."""
    directories = {os.path.dirname(path) for path in (*paths, CONFIGURATION, *ours.rules())}
    for directory in (*sorted(directories), *ours.manifests):
        full = os.path.join(root, directory)
        # access(2) also knows of file systems that are mounted read-only.
        if os.path.isdir(full) and not os.access(full, os.W_OK):
            raise InstallError(
                f"{full}: cannot be written (mounted read-only, or not as root);"
                " nothing was removed"
            )


def _remove_library(root: str, ours: Ours) -> list[str]:
    sweep(root)
    shutil.rmtree(os.path.join(root, CACHE), ignore_errors=True)
    for path in (PACKAGE_LINK, CURRENT):
        if os.path.islink(os.path.join(root, path)):
            os.unlink(os.path.join(root, path))
    left = []
    # The manifests are what is removed last.
    for place, manifest in ours.manifests.items():
        left += versions.remove_version(root, place, manifest)
    remove_empty(os.path.join(root, LIBRARY))
    return left
