"""Boots the virtual machine, runs a script in it, and gives its output and exit status.

    python -m vm.run KERNEL_DIR [SCRIPT [ARGUMENT...]]

KERNEL_DIR is what ``tests/vm/kernel`` prints. SCRIPT is an executable anywhere on this machine; in
the virtual machine it finds itself and all other files at the same paths, except for /run, /dev,
/proc and /sys. What it writes is gone afterwards, except what it writes below ``$SHARED``.
``$KERNEL_DIR`` is there as well. Without SCRIPT: a shell.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from .initramfs import make_initramfs

# What follows -device: two network cards on one wire, with SR-IOV, which needs a root port.
DEVICES = (
    "pcie-root-port,id=port1,chassis=1,slot=1",
    "igb,bus=port1,netdev=net1",
    "pcie-root-port,id=port2,chassis=2,slot=2",
    "igb,bus=port2,netdev=net2",
)
NETWORK = ("-netdev", "hubport,id=net1,hubid=1", "-netdev", "hubport,id=net2,hubid=1")

# On a busy machine TCG's timer may be late in the kernel's test of it, which is a panic.
KERNEL_ARGUMENTS = "console=ttyS0 intel_iommu=on panic=-1 loglevel=4 mitigations=off no_timer_check"

TIMEOUT = 600.0
MEMORY = "2G"
LOG_TAIL = 4000  # characters
LOG = "qemu.log"
CONSOLE = "console"
STATUS = ".status"  # in the shared directory, by init
NO_STATUS = 125


class VmError(Exception):
    """The virtual machine gave no exit status: it did not end in time, or broke down."""


class Result(NamedTuple):
    """What the script left: its exit status, and stdout and stderr together."""

    status: int
    output: str


# --- the command line -------------------------------------------------------------------------


def kernel_image(kernel: Path) -> Path:
    """The bzImage: below /boot, in newer packages beside the modules."""
    release = (kernel / "release").read_text().strip()
    root = kernel / "root"
    places = root / f"boot/vmlinuz-{release}", root / f"lib/modules/{release}/vmlinuz"
    for place in places:
        if place.is_file():
            return place
    raise VmError(f"no kernel in {kernel}: none of {', '.join(map(str, places))}")


def share(tag: str, path: Path, options: str) -> list[str]:
    """A directory of this machine's as a 9p file system ``tag``, with owners and modes as here."""
    return [
        *("-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{options}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    ]


def qemu(
    kernel: Path, at: Directories, devices: Sequence[str], kernel_arguments: str = ""
) -> list[str]:
    """The command line. QEMU goes when we do, even if we are killed."""
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        # One thread: with several, QEMU 10.0.13 aborts when the IOMMU changes the memory map while
        # another processor looks something up in it (iotlb_to_section, system/physmem.c).
        *("-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2"),
        *("-m", MEMORY),
        *("-kernel", str(kernel_image(kernel)), "-initrd", str(at.work / "initramfs")),
        *("-append", f"{KERNEL_ARGUMENTS} {kernel_arguments}"),
        *("-device", "intel-iommu,intremap=on,caching-mode=on"),
        *share("root", Path("/"), ",readonly=on"),
        *share("shared", at.shared, ""),
        *NETWORK,
        *(part for device in devices for part in ("-device", device)),
        *("-serial", f"file:{at.work / CONSOLE}"),
        *("-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"),
    ]


def settings(command: Sequence[str]) -> dict[str, str]:
    """What ``init`` has to know; ``command`` is empty for a shell."""
    size = shutil.get_terminal_size()
    return {
        "SCRIPT": shlex.join(command),
        "TERMINAL": os.environ.get("TERM", "dumb"),
        "ROWS": str(size.lines),
        "COLUMNS": str(size.columns),
    }


# --- running ----------------------------------------------------------------------------------


class Directories(NamedTuple):
    """Our own files, and what the virtual machine sees as ``$SHARED``."""

    work: Path
    shared: Path


@contextlib.contextmanager
def directories(kernel: Path, command: Sequence[str], shared: Path | None) -> Iterator[Directories]:
    """A temporary directory with the initramfs in it, and one to share unless there is one."""
    with tempfile.TemporaryDirectory(prefix="vm-") as temporary:
        work = Path(temporary)
        (work / "initramfs").write_bytes(make_initramfs(kernel, settings(command)))
        if shared is None:
            shared = work / "shared"
            shared.mkdir()
        (shared / STATUS).unlink(missing_ok=True)
        yield Directories(work, shared.resolve())


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output is to be read; it does not outlive the block."""
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **environment},
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def output_of(process: subprocess.Popen[bytes], timeout: float) -> Iterator[bytes]:
    """What the process prints, as it comes. VmError if it goes on for ``timeout`` seconds."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    end = time.monotonic() + timeout
    while select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
        data = os.read(descriptor, 65536)
        if not data:
            return
        yield data
    raise VmError(f"the virtual machine did not end in {timeout:g} seconds")


def exit_status(at: Directories) -> int:
    """What ``init`` wrote at the end. VmError with the kernel's last messages if it did not."""
    with contextlib.suppress(OSError, ValueError):
        return int((at.shared / STATUS).read_text())
    raise VmError("the virtual machine gave no exit status")


def logs(work: Path) -> str:
    """What QEMU said, and the end of what the kernel and ``init`` said."""
    files = (path for path in (work / LOG, work / CONSOLE) if path.exists())
    return "\n".join(path.read_text(errors="replace")[-LOG_TAIL:] for path in files)


def run_in_vm(
    kernel_dir: Path,
    script: Path,
    *arguments: str,
    timeout: float = TIMEOUT,
    devices: Sequence[str] = DEVICES,
    shared: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    kernel_arguments: str = "",
    on_output: Callable[[bytes], object] = lambda data: None,
) -> Result:
    """Boot the kernel of ``kernel_dir``, run ``script`` as root, switch off.

    ``devices`` are arguments for -device, ``environment`` is what QEMU gets of it besides ours, and
    ``kernel_arguments`` are the kernel's. A file ``policy`` in ``shared`` is SELinux's.
    Files that the script leaves below ``$SHARED`` are in ``shared`` afterwards. ``on_output`` gets
    the output as it comes. VmError if the virtual machine does not end in ``timeout`` seconds, or
    without an exit status.
    """
    output = bytearray()
    with directories(kernel_dir, [str(script.absolute()), *arguments], shared) as at:
        try:
            command = qemu(kernel_dir, at, devices, kernel_arguments)
            with running(command, at.work / LOG, environment) as process:
                for data in output_of(process, timeout):
                    on_output(data)
                    output += data
            return Result(exit_status(at), output.decode(errors="replace"))
        except VmError as error:
            raise VmError(f"{error}\n{output.decode(errors='replace')}\n{logs(at.work)}") from None


def shell_in_vm(kernel_dir: Path, devices: Sequence[str] = DEVICES) -> int:
    """A shell on this terminal; the exit status is the shell's. VmError as above."""
    with directories(kernel_dir, [], None) as at:
        subprocess.run(qemu(kernel_dir, at, devices), check=False)
        return exit_status(at)


# --- the command ------------------------------------------------------------------------------


def write_out(data: bytes) -> None:
    """Print bytes at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def parsed() -> argparse.Namespace:
    """The arguments."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="vm.run", description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=TIMEOUT, metavar="SECONDS")
    parser.add_argument("--shared", type=Path, metavar="DIRECTORY", help="is $SHARED there")
    parser.add_argument("kernel_dir", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="script and arguments")
    return parser.parse_args()


def run(options: argparse.Namespace) -> int:
    """The exit status of the script or shell. VmError as above."""
    if not options.command:
        return shell_in_vm(options.kernel_dir)
    script, *arguments = options.command
    return run_in_vm(
        options.kernel_dir,
        Path(script),
        *arguments,
        timeout=options.timeout,
        shared=options.shared,
        on_output=write_out,
    ).status


def main() -> int:
    """The exit status is the script's; 125 if there is none."""
    # As for Ctrl-C: nothing of ours is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run(parsed())
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return NO_STATUS
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
