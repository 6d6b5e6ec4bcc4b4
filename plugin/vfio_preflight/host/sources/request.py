"""The one interface of all sources of evidence: what is asked of them, and what they answer.

A source is a function from :class:`Request` to :class:`Answer`. It raises ``HostError`` or another
PreflightError where what it has is wrong, so that no source after it may answer instead.
"""

from __future__ import annotations

from collections.abc import Callable

from ...guest.traits import Traits
from ...osutil.light import NamedTuple
from ...pci.state import ConfigState


class Sent(NamedTuple):
    """What the source sends for a device, and the device's traits there."""

    state: ConfigState
    traits: Traits


class Request(NamedTuple):
    """What does device ``name`` (a PCI address or mdev UUID) of this host present?

    ``states`` and ``catalogue`` are directories below ``root``; an empty ``catalogue`` is not
    asked. ``opened`` lists the devices that may be opened, as ``vendor:device``, ``vendor:*`` or
    mdev type. ``sent`` is what a state may be inferred from.
    """

    name: str
    root: str = "/"
    states: str = ""
    catalogue: str = ""
    opened: tuple[str, ...] = ()
    sent: Sent | None = None


class Answer(NamedTuple):
    """A state, or None and why (empty: the source has nothing to do with such a device).

    ``offers`` is what the device's driver offers for migration (``stop-copy p2p``, ``none``), empty
    if the source does not know.
    """

    state: ConfigState | None
    reason: str = ""
    offers: str = ""


NOTHING = Answer(None)
# How the reason begins where a device was to be opened and could not be.
FAILED = "could not be opened through VFIO"
# And where an operator's file was not taken, as another source says the same with more right.
PASSED_OVER = "not used"
Source = Callable[[Request], Answer]
