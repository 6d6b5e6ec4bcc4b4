"""Runs trials for the pipeline: the emulator of this host, asked about a pair of config states."""

from __future__ import annotations

import time

from ..osutil.light import TYPE_CHECKING

if TYPE_CHECKING:
    from ..judge.confirm import Attempt, TryStates
    from ..pci.state import ConfigState
    from ..qemu.trial.setting import Setting

# Seconds of the deadline that must be left to begin a trial: a device that hangs QEMU takes one
# second of processor time until the limit of the trial ends it, and a busy host triples that.
LEAST = 3.0


def trials(path: str, end: float, sender: str = "") -> TryStates:
    """The function that tries the emulator at ``path``; no trial is begun too late before ``end``.

    ``end`` is on the clock of ``time.monotonic()``. ``sender`` is the path of the source's
    emulator, if that is another.
    """

    def try_states(source: ConfigState, destination: ConfigState, setting: Setting) -> Attempt:
        # Imported here: a trial needs modules that most checks never load.
        from ..judge.confirm import Attempt
        from ..osutil.executable import ExecutableError, trusted_executable
        from ..qemu.trial.trial import TrialUnavailable, trial

        if end - time.monotonic() < LEAST:
            return Attempt(None, "no time was left")
        try:
            # Checked each time: the path comes from a guest's XML.
            executable = trusted_executable(path)
            theirs = trusted_executable(sender) if sender else None
            result = trial(source, destination, setting, executable, deadline=end, sender=theirs)
            return Attempt(result)
        except (ExecutableError, TrialUnavailable) as error:
            return Attempt(None, str(error))

    return try_states
