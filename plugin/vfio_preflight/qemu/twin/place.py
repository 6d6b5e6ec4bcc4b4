"""Where a half of the twin is run: a directory for what is made up, and who is to run QEMU."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from ...osutil.executable import Executable, unprivileged_user
from ...osutil.leftovers import SCRATCH, sweep
from ...osutil.light import NamedTuple
from ...osutil.shortage import offer
from ...pci.state import ConfigState
from ..emulator.client import Emulator
from ..trial import shim
from ..trial.workbench import Limits, Workbench
from .arguments import Surroundings, Transformed, transform
from .ends import CPU

# Processor time for a machine with many devices; and seconds of life, if nobody saw to that.
LIMITS = Limits(life=60, cpu=CPU)
# TCG needs nothing of the host; KVM is for builds without it. No instruction is executed.
_DRIVEN = (
    *("-accel", "tcg,tb-size=1,thread=single", "-accel", "kvm"),
    *("-display", "none", "-S", "-qmp", "stdio"),
)
_SIDE = "devices"


class Place(NamedTuple):
    """A directory for what is made up, and the devices that are; ``bench`` is there with a shim."""

    directory: str
    bench: Workbench | None
    presented: Mapping[str, ConfigState]

    def transformed(
        self, argv: Sequence[str], size_of: Callable[[str, bool], int | None]
    ) -> Transformed:
        """The twin's arguments, with the files that they name."""
        vfio = {host: self._sysfsdev(number) for number, host in enumerate(self.presented)}
        made = transform(argv[1:], Surroundings(size_of, self.directory, vfio))
        for path, size in made.files.items():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
                file.truncate(size)
        return made

    def add_devices(self) -> None:
        """Make the VFIO devices up."""
        os.mkdir(os.path.join(self.directory, _SIDE), 0o755)
        for number, (host, state) in enumerate(self.presented.items()):
            home = os.path.join(self.directory, _SIDE)
            # A PCI address has colons, an mdev's UUID has none.
            shim.describe(home, _address(number), state, number + 1, mdev=":" not in host)

    def _sysfsdev(self, number: int) -> str:
        return os.path.join(self.directory, _SIDE, _address(number))

    def start(
        self,
        emulator: Executable,
        arguments: Sequence[str],
        limits: Limits,
        descriptors: Sequence[int] = (),
    ) -> Emulator:
        """Start a half, as the user that guests run as."""
        half = self._started(emulator, (*_DRIVEN, *arguments), limits, descriptors)
        # Of hundreds of devices QEMU takes gigabytes while it starts.
        offer(half.pid)
        return half

    def _started(
        self,
        emulator: Executable,
        argv: Sequence[str],
        limits: Limits,
        descriptors: Sequence[int],
    ) -> Emulator:
        if self.bench is not None:
            return self.bench.start(emulator, argv, _SIDE, limits, descriptors)
        user = unprivileged_user()
        command = (emulator.realpath, *argv)
        # Whose end by such a limit would not say what it was: the deadline comes before.
        return Emulator(command, user=user, descriptors=descriptors, cpu=limits.life)


def _address(number: int) -> str:
    return f"0000:{number + 1:02x}:00.0"


@contextmanager
def place_for(states: Mapping[str, ConfigState], library: str | None) -> Iterator[Place]:
    # What a command that was killed has left.
    sweep()
    with ExitStack() as ends:
        directory = tempfile.mkdtemp(prefix=SCRATCH)
        ends.callback(shutil.rmtree, directory, ignore_errors=True)
        os.chmod(directory, 0o711)  # noqa: S103 - to be passed through by the emulators' user
        bench = _bench(directory, library, ends) if states else None
        place = Place(directory, bench, states if bench else {})
        if bench:
            place.add_devices()
        yield place


def _bench(directory: str, library: str | None, ends: ExitStack) -> Workbench | None:
    """None where nobody compiled the shim."""
    try:
        path = library or shim.library()
    except shim.ShimError:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    ends.callback(os.close, descriptor)
    return Workbench(directory, descriptor, unprivileged_user())


def size_of(path: str) -> int | None:
    """A file's size, which is asked for without opening it; of a device nothing is said."""
    try:
        info = os.stat(path)
    # A name with NUL, or of half a character, is no file's.
    except (OSError, ValueError):
        return None
    return info.st_size or None
