"""``make bench-images``: ``check --image`` on raw save images of guests with more and more memory.

The guests' memory is full of random bytes, so that the images are as large as they. Needs 6 GiB of
memory and of /tmp. Exit status 1 if more than a megabyte is read of any. The time that QEMU's own
``scripts/analyze-migration.py`` takes to find the description of the same stream is shown beside;
its dump of the states breaks off at a VFIO device's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab import FakeDevice, Lab, guest_xml, hostdev_pci  # noqa: E402
from system.pair import CONFIG, OLD, VF, Pair  # noqa: E402

SIZES = (64, 1024, 4096)  # MiB
ROUNDS = 9
MOST = 1 << 20  # bytes read of an image
LOW = 0x100000  # where memory is free for us to fill: above the first MiB


def save(pair: Pair, size: int, directory: Path) -> Path:
    """The image of a guest with ``size`` MiB of random bytes."""
    content = directory / "content"
    part = min(size, 2048)  # a PC has its memory below 4 GiB only up to 2 GiB
    chunks = [(LOW, part - 8), (1 << 32, size - part)]
    arguments: list[str] = []
    for number, (address, mebibytes) in enumerate(chunks):
        if mebibytes > 0:
            file = Path(f"{content}{number}")
            with file.open("wb") as out:
                for _ in range(mebibytes):
                    out.write(os.urandom(1 << 20))
            file.chmod(0o644)
            arguments += ["-device", f"loader,file={file},addr={address:#x},force-raw=on"]
    name = f"bench{size}"
    pair.a.start_guest(guest_xml(name, OLD, [hostdev_pci(VF)], arguments, memory=size))
    image = directory / f"{name}.img"
    saved = pair.a.virsh("save", name, str(image), timeout=600)
    if saved.returncode:
        raise SystemExit(saved.stderr)
    for file in directory.glob("content*"):
        file.unlink()
    return image


def bytes_read(pair: Pair, image: Path) -> int:
    """What one run reads of the image, by strace."""
    command = ["strace", "-f", "-y", "-e", "trace=read,pread64", *check(image)]
    trace = pair.a.run(command).stderr
    sizes = re.findall(rf"read\w*\(\d+<{re.escape(str(image))}>.* = (\d+)$", trace, re.MULTILINE)
    if not sizes:
        raise SystemExit(f"strace saw nothing read of {image}: {trace[-500:]}")
    return sum(map(int, sizes))


def check(image: Path) -> list[str]:
    return ["vfio-preflight", "check", "--image", str(image)]


def seconds(pair: Pair, command: list[str]) -> float:
    """Median of several runs in the host."""
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        done = pair.a.run(command, timeout=600)
        found.append(time.perf_counter() - begun)
        if done.returncode:
            raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
    return sorted(found)[ROUNDS // 2]


def qemus_script() -> str:
    """The path of QEMU's script; empty, the reason on standard error, if it is not to be had."""
    command = [str(CHECKOUT / "tests/qemu-script"), "analyze-migration.py"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


def analysed(script: str, image: Path) -> float:
    """How long QEMU's own script takes for the stream in the image, once."""
    data = image.read_bytes()
    stream = image.with_suffix(".stream")
    stream.write_bytes(data[92 + int.from_bytes(data[20:24], "little") :])
    begun = time.perf_counter()
    command = [sys.executable, script, "-f", str(stream), "-d", "desc"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    stream.unlink()
    return time.perf_counter() - begun


def main() -> int:
    """Print a line for each size; return the exit status."""
    most = 0
    script = qemus_script()
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as work:
        directory = Path(work)
        directory.chmod(0o755)
        with Lab(directory / "logs") as lab:
            pair = Pair(lab)
            lab.a.add_device(FakeDevice(VF, "vf", CONFIG))
            pair.install(lab.a)
            first = 0.0
            print(f"check --image, median of {ROUNDS} runs")
            for size in SIZES:
                image = save(pair, size, directory)
                median = seconds(pair, check(image))
                first = first or median
                line = f"  {size:5} MiB of memory, image of {image.stat().st_size >> 20:5} MiB:"
                line += f" {median * 1000:6.1f} ms ({median / first:.2f} of the first)"
                read = bytes_read(pair, image)
                most = max(most, read)
                line += f", {read:7} bytes of it read"
                if script:
                    theirs = analysed(script, image)
                    line += f"; analyze-migration.py takes {theirs / median:.1f} times as long"
                print(line, flush=True)
                image.unlink()
    if not script:
        print("  not compared: analyze-migration.py is not to be had (see above)")
    if most > MOST:
        print(f"  FAILED: {most} bytes of an image read; the most is {MOST}", file=sys.stderr)
    return 1 if most > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
