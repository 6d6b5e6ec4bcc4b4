"""QEMU's and libvirt's lines about failed migrations, found in any text and put into plain words.

The known ones alone, in the order of the text; ``story`` says what follows from what.

Pure: text in, values out.
"""

from __future__ import annotations

from collections.abc import Iterator

from .devices import guest_device
from .entry import Explanation
from .story import read

__all__ = ["Explanation", "explain", "guest_device"]


def explain(text: str, config: bytes | None = None) -> Iterator[Explanation]:
    """Explain every line of ``text`` that is known, in order; lines end with ``\\n`` alone.

    ``config`` is the configuration space of the device in question, source's or destination's: with
    it, bytes of VFIO devices behind the header are given the names of capability and register.
    """
    found = [entry for attempt in read(text, config) for entry in attempt.explanations()]
    yield from sorted(found, key=lambda entry: entry.line)
