"""The VFIO device that is not there: ``fakevfio.c`` compiled, and the directory it answers from.

The shim is part of the product, optional, and one C file without a build system. Whoever installs
the product compiles it (:func:`build`, also ``python3 -m vfio_preflight.qemu.trial.shim``); it then
lies beside its source. Nothing is compiled while a guest waits.
"""

from __future__ import annotations

import os

from ...errors import PreflightError
from ...osutil import program
from ...osutil.leftovers import SCRATCH, sweep
from ...pci.state import ConfigState
from ..model.bars import likely_bars

_HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(_HERE, "fakevfio.c")
LIBRARY = os.path.join(_HERE, "fakevfio.so")
COMPILER = "cc"
OPTIONS = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra")
LIBRARIES = ("-ldl", "-lrt")  # timer_create() and dlsym() before glibc 2.34


class ShimError(PreflightError):
    """The shim is not there or cannot be compiled."""


def library() -> str:
    """The path of the compiled shim. Raises :class:`ShimError` if nobody compiled it."""
    if os.path.isfile(LIBRARY):
        return LIBRARY
    raise ShimError(
        f"{LIBRARY} is not there: run 'python3 -m vfio_preflight.qemu.trial.shim' as the owner of"
        " that directory (needs a C compiler and the kernel's headers)"
    )


def build(target: str = LIBRARY) -> str:
    """Compile the shim to ``target``, at once for those who are using it, and return the path.

    Raises :class:`ShimError` if there is no compiler, no kernel header, or no room.
    """
    import shutil
    import tempfile

    directory, name = os.path.split(os.path.abspath(target))
    # What an installation that was killed has left.
    sweep()
    sweep(directory, f"{name}.")
    new = os.path.join(directory, f"{name}.{os.getpid()}")
    scratch = tempfile.mkdtemp(prefix=SCRATCH)
    try:
        _compile((COMPILER, *OPTIONS, "-o", new, SOURCE, *LIBRARIES), scratch)
        # rename(2) within one directory: who starts an emulator now maps the old file or the new
        # one whole.
        os.replace(new, target)
    except OSError as error:
        raise ShimError(f"{target}: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if os.path.exists(new):
            os.unlink(new)
    return target


def _compile(command: tuple[str, ...], scratch: str) -> None:
    """Run the compiler, which ends with this process, and whose files lie in ``scratch``."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": scratch}
    try:
        started = program.start(command, None, program.Limits(), environment=environment)
    except program.ProgramError as error:
        raise ShimError(f"{' '.join(command)}: {error}") from error
    try:
        errors = started.process.communicate()[1].decode(errors="replace")
    finally:
        program.end(started)
    if started.process.returncode:
        raise ShimError(f"{SOURCE} does not compile: {errors.strip()}")


def describe(directory: str, name: str, state: ConfigState, group: int, mdev: bool = False) -> str:
    """Make ``name`` a device below ``directory`` that presents ``state``; returns its sysfsdev."""
    home = os.path.join(directory, name)
    os.mkdir(home, 0o755)
    # The guess that the model goes by, so that both judge the same device.
    regions = "".join(f"{bar.number} {bar.size} rw\n" for bar in likely_bars(state))
    files = {"config": state.config, "regions": regions.encode(), "group": b"%d\n" % group}
    if mdev:
        # QEMU tells an mdev by its sysfs: vfio_device_is_mdev().
        files["mdev"] = b""
    if state.atomics:
        files["atomics"] = b"%d\n" % state.atomics
    for file, content in files.items():
        with open(os.open(os.path.join(home, file), os.O_WRONLY | os.O_CREAT, 0o644), "wb") as out:
            out.write(content)
    return home


if __name__ == "__main__":
    print(build())
