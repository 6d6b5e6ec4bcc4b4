"""The four verdicts, and the actions configurable for each. Constants only: cheap to import."""

from __future__ import annotations

from collections.abc import Iterable

PASS = "pass"
TOLERATED = "tolerated"
UNKNOWN = "unknown"
FAIL = "fail"

# Worst last: the verdict of several findings is the last of theirs in this order.
VERDICTS = (PASS, TOLERATED, UNKNOWN, FAIL)

ALLOW = "allow"
ANNOTATE = "annotate"
BLOCK = "block"
MEND = "mend"

# The strictest last.
# MEND above ANNOTATE: a failing device is mended even if the others ask for a note only.
STRICTNESS = (ALLOW, ANNOTATE, MEND, BLOCK)

# The actions that may be configured for each verdict; the first is the default.
# UNKNOWN cannot be mended: an override is justified only by a mismatch that was found.
CHOICES = {
    PASS: (ANNOTATE, ALLOW),
    TOLERATED: (ANNOTATE, ALLOW, BLOCK),
    UNKNOWN: (ANNOTATE, ALLOW, BLOCK),
    FAIL: (BLOCK, ANNOTATE, ALLOW, MEND),
}
DEFAULT_POLICY = {verdict: choices[0] for verdict, choices in CHOICES.items()}

# When an incoming guest is judged again at started begin ([hook] second-gate).
WHEN_UNSURE = "when-unsure"
# When the emulator itself is tried ([hook] trial).
NEVER = "never"
WHEN_UNVERIFIED = "when-unverified"
ALWAYS = "always"
TRIAL_MODES = (NEVER, WHEN_UNVERIFIED, ALWAYS)
SECOND_GATES = (ALWAYS, WHEN_UNSURE, NEVER)


# What of a guest's own policy counts ([policy] guest-override).
STRICTER = "stricter"
YES, NO = "yes", "no"
OVERRIDES = (STRICTER, YES, NO)


def worst(verdicts: Iterable[str]) -> str:
    """The worst of ``verdicts``; ``pass`` if there are none."""
    return max(verdicts, key=VERDICTS.index, default=PASS)
