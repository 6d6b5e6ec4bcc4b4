"""An operator's file in the states directory.

It is named by PCI address, mdev UUID, or mdev or vGPU type, with any of the suffixes in
:data:`SUFFIXES`, in any format of ``pci.formats``. It takes precedence over all other sources,
because the operator put it there; its evidence is ``file``, whatever it claims, as nothing proves
that it is still right.

Not so a dump of the physical device: it says no more than sysfs, which says it of now. It is for a
device that is not here; its evidence is then ``sysfs``. What sysfs does not show, an mdev or a
vGPU, has no physical view, so that a dump is what VFIO presents.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...guest.addresses import is_mdev
from ...osutil.light import TYPE_CHECKING
from ...osutil.regular import read_regular, whose
from ...pci.state import ConfigState
from .. import sysfs
from .request import NOTHING, PASSED_OVER, Answer, Request

if TYPE_CHECKING:
    from ...pci.formats import Reading

SUFFIXES = ("", ".json", ".txt", ".bin")


def read(request: Request) -> Answer:
    """The file's state. Raises ``HostError``, ``FormatError``, ``ConfigSpaceError``."""
    path = find_file(request.name, request.states, request.root)
    if path is None:
        return NOTHING
    reading = _read(path)
    # A word in our own form, or of a device that sysfs shows nothing of.
    if _is_presented(reading, request):
        return Answer(_as_word(reading.state))
    if sysfs.has_pci(request.name, request.root):
        return Answer(None, f"{PASSED_OVER}: {path}, a dump of the physical device, as sysfs shows")
    from .physical import presented

    return Answer(presented(reading))


def _is_presented(reading: Reading, request: Request) -> bool:
    from ...pci.formats import VFIO
    from ...pci.space import reads_as_vf

    if reading.view == VFIO:
        return True
    shown = sysfs.shows_config(request.name, request.root)
    # A VF's own IDs are of the VF below a vGPU, which VFIO does not present.
    return not shown and not reads_as_vf(reading.state.config)


def find_file(name: str, states: str, root: str = "/") -> str | None:
    """The operator's file for a device, or for its mdev or vGPU type."""
    directory = os.path.join(root, states.lstrip("/"))
    kind = sysfs.mdev_type(name, root) if is_mdev(name) else sysfs.vgpu_type(name, root)
    # The device's own file before that of its type: the more specific one wins.
    paths = _candidates(directory, (name, kind))
    # A dangling link is a file that cannot be read, not one that is not there.
    return next((path for path in paths if os.path.lexists(path)), None)


def _candidates(directory: str, names: tuple[str | None, ...]) -> Iterator[str]:
    for name in names:
        for suffix in SUFFIXES if name else ():
            yield os.path.join(directory, f"{name}{suffix}")


def _read(path: str) -> Reading:
    from ...pci.formats import MAX_FILE, parse

    require_operators(path)
    try:
        data = read_regular(path, MAX_FILE)
    except OSError as error:
        raise sysfs.HostError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(data, path)


def _as_word(state: ConfigState) -> ConfigState:
    if state.evidence == "file":
        return state
    # Its claimed evidence is kept as part of the origin, for the operator to see.
    return state._replace(evidence="file", origin=f"{state.evidence} evidence by {state.origin}")


def require_operators(place: str) -> None:
    """Raise HostError if a user other than root or the caller could have written there."""
    try:
        problem = whose(place)
    except OSError:
        return  # reading it fails as well, and reports the reason
    if problem:
        raise sysfs.HostError(
            f"{place}: {problem}, so it may not be the operator's; chown that to root, and chmod"
            " go-w"
        )
