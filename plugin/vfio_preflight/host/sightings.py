"""Adding to the catalogue what this host's devices were seen to present."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ..errors import PreflightError
from ..osutil.light import TYPE_CHECKING
from ..pci.state import ConfigState, State
from . import sysfs

if TYPE_CHECKING:
    from .catalogue import Same


def remember(name: str, state: ConfigState, directory: str, same: Same, root: str = "/") -> bool:
    """Put what device ``name`` of this host was seen to present into the catalogue ``directory``.

    Return whether that added anything: the catalogue takes no device that sysfs shows, whose traits
    do not determine it, or whose state was not read from the device itself (evidence ``vfio``).
    ``same`` compares two states. Raises CatalogueError where the catalogue cannot be written.
    """
    from . import catalogue
    from .traits import read_traits

    # sysfs would be read first in any case; the catalogue is for what it does not show.
    if state.evidence not in catalogue.SEEN or sysfs.shows_config(name, root):
        return False
    traits = read_traits(name, root)
    # Without a type the entry would be for a plain PCI device, which sysfs shows.
    if not traits.determined or not traits.type:
        return False
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = catalogue.Entry(traits, (state,), os.uname().nodename, now)
    return catalogue.add(catalogue.under(root, directory), entry, same)


def remember_all(
    seen: Iterable[tuple[str | None, State]], directory: str, same: Same, root: str = "/"
) -> None:
    """Remember the states of those devices that were read through VFIO.

    Failures are ignored: nothing depends on it, and the catalogue may not be writable.
    """
    for name, state in seen:
        # Only evidence read from a device now; a file or a catalogue entry proves nothing new.
        if name is None or not isinstance(state, ConfigState) or state.evidence != "vfio":
            continue
        try:
            remember(name, state, directory, same, root)
        except (PreflightError, OSError):
            continue
