"""The hierarchy that errors.py draws is the one there is."""

from __future__ import annotations

import importlib
import pkgutil
import re

import vfio_preflight
from vfio_preflight import errors

# "│   └─ Name      meaning      (module)", with the depth as its indentation
ROW = re.compile(
    r"^ {5}(?P<indent>[│ ]*)[├└]─ (?P<name>\w+) .*\((?P<module>[\w.]+)\)$", re.MULTILINE
)


def drawn() -> dict[tuple[str, str], str]:
    """Module and name of every class that is drawn, with the name of its base."""
    found: dict[tuple[str, str], str] = {}
    above = ["PreflightError"]
    for match in ROW.finditer(errors.__doc__ or ""):
        depth = len(match["indent"]) // 4 + 1
        above[depth:] = [match["name"]]
        found[match["module"], match["name"]] = above[depth - 1]
    return found


def subclasses(base: type) -> dict[tuple[str, str], str]:
    found = {}
    for each in base.__subclasses__():
        if each.__module__.startswith("vfio_preflight."):
            found[each.__module__.partition(".")[2], each.__name__] = base.__name__
            found.update(subclasses(each))
    return found


def test_the_hierarchy_is_as_drawn() -> None:
    for module in pkgutil.walk_packages(vfio_preflight.__path__, "vfio_preflight."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert drawn() == subclasses(errors.PreflightError)
