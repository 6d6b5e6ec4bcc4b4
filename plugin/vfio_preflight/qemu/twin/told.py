"""What came of a guest's twin, in words that are kept, sent and judged; without what runs it."""

from __future__ import annotations

from ...osutil.light import NamedTuple

ACCEPTED, REFUSED, CRASHED, HUNG, NOT_RUN = "accepted", "refused", "crashed", "hung", "not-run"
BLOCKED, LOST = "blocked", "lost"
UNMADE, OUTDATED = "unmade", "outdated"
OUTCOMES = (ACCEPTED, REFUSED, CRASHED, HUNG, NOT_RUN, BLOCKED, LOST, UNMADE, OUTDATED)
# How the names of files in ``uncovered`` end that may be others than the guest was started with.
SINCE = " as when the guest started"


class Told(NamedTuple):
    """What the destination's QEMU made of what the source's sent.

    ``outcome`` is one of :data:`OUTCOMES`: ``blocked`` is the source's QEMU, which refuses to send,
    ``lost`` one that crashes as it sends; ``not-run`` says nothing of the guest. Two do not decide:
    with ``unmade`` the destination's QEMU does not realise the machine of the arguments that the
    source's libvirt gave, where its own may give others; ``outdated`` is a refusal over the size of
    a file that changed on the source since the guest started. ``line`` is QEMU's
    own, or why it was not run; ``device`` the section that it could not load, or empty. ``source``
    and ``destination`` are the QEMU builds in words; ``uncovered`` is what of the guest was not in
    the twin. ``time`` is when it was had (ISO 8601, UTC), empty if that was just now.
    """

    outcome: str
    line: str = ""
    device: str = ""
    source: str = ""
    destination: str = ""
    uncovered: tuple[str, ...] = ()
    time: str = ""


def build(version: str, package: str) -> str:
    """A QEMU build in words."""
    named = f"QEMU {version}" if version else "QEMU"
    return f"{named} ({package})" if package else named
