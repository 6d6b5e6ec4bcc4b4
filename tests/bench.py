"""``make bench``: what the hook costs a host, as ratios between commands timed in turn in one run;
and how many verdicts the model gives in a second.

Runs on a private host of the Lab, with the hook installed as an operator would. Each round runs
every command once, so that a machine that grows slower meanwhile slows them all; medians are
compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, product
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vfio_preflight.guest.build import RecordedBuild
    from vfio_preflight.pci.state import ConfigState

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

ROUNDS = 25
# Seconds in which what a hook left to a process of its own is done, so that it slows no other.
SETTLE = 0.08
HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
CACHE = Path("/var/cache/vfio-preflight")
QEMU = "/usr/bin/qemu-system-x86_64"
# What the hook asks an emulator that it does not know yet.
QUERIES = """\
{"execute": "qmp_capabilities"}
{"execute": "query-machines", "arguments": {"compat-props": true}}
{"execute": "device-list-properties", "arguments": {"typename": "vfio-pci"}}
{"execute": "quit"}
"""
UUIDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(8)]

# What reads foreign bytes, in a process without privilege and in the hook's own.
APART = """\
import sys, time
sys.path.append("/usr/lib/vfio-preflight")
from vfio_preflight.errors import PreflightError
from vfio_preflight.osutil.apart import apart
work = lambda: {"x": "ff" * 4096}
apart(work, time.monotonic() + 60, PreflightError) if sys.argv[1:] else work()
"""

# A guest as many run one, and its twin in two processes of this host's emulator.
RUNNING = "twin"
TWIN = f"vfio-preflight twin save {RUNNING} | vfio-preflight twin load -"
OF_TWIN = (
    "<controller type='scsi' model='virtio-scsi'/>",
    "<controller type='virtio-serial'/>",
    "<interface type='user'><model type='virtio'/></interface>",
    "<interface type='user'><model type='e1000e'/></interface>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<video><model type='virtio'/></video>",
)

QUIET = "[hook]\nlog = none\ntrial = never\n"
TRIED = "[hook]\nlog = none\ntrial = always\n"
CONFIGURATION = Path("/etc/vfio-preflight.conf")

PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")

# name, command, document on standard input, whether emulator facts are forgotten first
COMMANDS: tuple[tuple[str, list[str], str, bool], ...] = (
    ("sh -c 'exit 0'", ["/bin/sh", "-c", "exit 0"], "", False),
    ("hook, ignored operation", [HOOK, "g", "stopped", "end", "-"], "8", False),
    ("hook, start of a guest without devices", [HOOK, "g0", "started", "begin", "-"], "0", False),
    ("hook, start of a guest with 8 devices", [HOOK, "g8", "started", "begin", "-"], "8", False),
    ("python3 -I -S -c pass", ["/usr/bin/python3", "-I", "-S", "-c", "pass"], "", False),
    ("python3 -c 'import lxml.etree'", ["/usr/bin/python3", "-c", "import lxml.etree"], "", False),
    ("hook, 0 devices", [HOOK, "g", "migrate", "begin", "-"], "0", False),
    ("hook, 1 device", [HOOK, "g", "migrate", "begin", "-"], "1", False),
    ("hook, 8 devices", [HOOK, "g", "migrate", "begin", "-"], "8", False),
    ("hook, 1 device, builds compared", [HOOK, "g", "migrate", "begin", "-"], "built", False),
    ("hook, 1 device, emulator not cached", [HOOK, "g", "migrate", "begin", "-"], "1", True),
    ("hook, 8 devices, emulator not cached", [HOOK, "g", "migrate", "begin", "-"], "8", True),
    ("hook, 1 device, with a trial", [HOOK, "g", "migrate", "begin", "-"], "1", False),
    ("a reader in a process of its own", [*PYTHON, APART, "apart"], "", False),
    ("a reader in the hook's process", [*PYTHON, APART], "", False),
    ("a check of XML with 1 device", ["vfio-preflight", "check", "/dev/stdin"], "1", False),
    ("a guest's twin, saved and loaded", ["/bin/sh", "-c", TWIN], "", False),
    (
        "one emulator start",
        [QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"],
        "qmp",
        False,
    ),
)

# what is compared with what
RATIOS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("hook, ignored operation", ("sh -c 'exit 0'",)),
    ("hook, start of a guest without devices", ("hook, ignored operation",)),
    ("hook, start of a guest with 8 devices", ("hook, ignored operation",)),
    ("hook, 0 devices", ("python3 -I -S -c pass",)),
    ("hook, 1 device", ("python3 -c 'import lxml.etree'",)),
    ("hook, 8 devices", ("python3 -c 'import lxml.etree'",)),
    ("hook, 1 device, builds compared", ("hook, 1 device",)),
    (
        "hook, 1 device, emulator not cached",
        ("hook, 1 device", "one emulator start"),
    ),
    (
        "hook, 8 devices, emulator not cached",
        ("hook, 8 devices", "one emulator start"),
    ),
    ("hook, 1 device, with a trial", ("hook, 1 device",)),
    ("a reader in a process of its own", ("a reader in the hook's process",)),
    ("a guest's twin, saved and loaded", ("a check of XML with 1 device",)),
)


# A guest of the usual sort, beside its vGPU.
TYPES = (
    *("pcie-root-port", "virtio-net-pci", "virtio-blk-pci", "virtio-scsi-pci", "scsi-cd"),
    *("virtio-serial-pci", "qemu-xhci", "usb-tablet", "virtio-balloon-pci", "virtio-rng-pci"),
    *("virtio-vga", "ich9-intel-hda", "hda-duplex", "isa-serial", "vfio-pci", "host-x86_64-cpu"),
)


def build(machine: str) -> RecordedBuild:
    """What the record says of the source's QEMU."""
    from vfio_preflight.guest.build import RecordedBuild
    from vfio_preflight.qemu.emulator.onboard import onboard
    from vfio_preflight.qemu.emulator.sent import ENCODING, describe, pack
    from vfio_preflight.qemu.emulator.typefacts import type_facts

    facts = type_facts(QEMU, cache_dir=None, deadline=time.monotonic() + 60)
    uses = dict.fromkeys((*TYPES, *onboard("pc-q35", True, {})), frozenset[str]())
    sent = describe(facts, machine, uses, {})
    text = pack(sent)
    print(
        f"what the record says of the source's QEMU: {len(text)} bytes, of {len(sent.types)} types"
    )
    return RecordedBuild("10.0.2", "", machine, "a", "2026-01-01T00:00:00Z", "1", ENCODING, text)


def guest(devices: int, config: bytes, *, built: bool = False) -> bytes:
    """Domain XML as the destination gets it, with a record of ``devices`` vGPUs; ``built``: and of
    the source's QEMU."""
    from lab import guest_xml, hostdev_mdev
    from vfio_preflight.guest.domain import parse_domain, read_guest, to_bytes
    from vfio_preflight.guest.metadata import Record, RecordEntry, set_record, write_record
    from vfio_preflight.pci.state import ConfigState

    ports = ["<controller type='pci' index='0' model='pcie-root'/>"]
    ports += [f"<controller type='pci' index='{n + 1}' model='pcie-root-port'/>" for n in range(8)]
    hostdevs = [
        hostdev_mdev(uuid, f"<address type='pci' domain='0' bus='{n + 1}' slot='0' function='0'/>")
        for n, uuid in enumerate(UUIDS[:devices])
    ]
    xml = guest_xml("g", "pc-q35-9.1", [*ports, *hostdevs])
    xml = xml.replace("<name>", "<uuid>11111111-2222-4333-8444-555555555555</uuid><name>")
    root = parse_domain(xml.encode())
    state = ConfigState(config, (), "file", "bench")
    entries = {device.key: RecordEntry(state) for device in read_guest(root).devices}
    if entries:
        record = Record(entries, "a", "2026-01-01T00:00:00Z")
        record = record._replace(build=build("pc-q35-9.1") if built else None)
        set_record(root, write_record(record))
    return to_bytes(root)


@contextmanager
def qemu_without_devices() -> Iterator[None]:
    """A process that passes for guest g0's QEMU: libvirt gives it a /dev of its own."""
    script = "mount -t tmpfs tmpfs /dev && exec sleep 600"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script]) as process:
        Path("/run/libvirt/qemu").mkdir(parents=True, exist_ok=True)
        Path("/run/libvirt/qemu/g0.pid").write_text(f"{process.pid}\n")
        try:
            yield
        finally:
            process.kill()


def timings(directory: Path) -> dict[str, float]:
    """Median wall-clock seconds of every command; runs in the Lab's host."""
    seen: dict[str, list[float]] = {name: [] for name, *_ in COMMANDS}
    for _ in range(ROUNDS + 1):
        for name, command, document, forget in COMMANDS:
            # What it says of all its device types is in a directory there, and stays.
            for file in CACHE.glob("*.json") if forget else ():
                file.unlink()
            CONFIGURATION.write_text(TRIED if name.endswith("trial") else QUIET)
            with (directory / document if document else Path("/dev/null")).open("rb") as stdin:
                begun = time.perf_counter()
                done = subprocess.run(command, stdin=stdin, capture_output=True, check=False)
                seen[name].append(time.perf_counter() - begun)
            time.sleep(SETTLE)
            if done.returncode != 0:
                raise SystemExit(f"{name}: exit status {done.returncode}: {done.stderr.decode()}")
    # The first round warms caches of every sort and does not count.
    return {name: sorted(values[1:])[ROUNDS // 2] for name, values in seen.items()}


def measure() -> dict[str, float]:
    """Set a host up, and time the commands there."""
    from lab import FakeDevice, Lab, guest_xml, make_config
    from lab.configs import patched
    from system.pair import Pair

    config = make_config()
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as work:
        directory = Path(work)
        for devices in (0, 1, 8):
            (directory / str(devices)).write_bytes(guest(devices, config))
        (directory / "built").write_bytes(guest(1, config, built=True))
        (directory / "qmp").write_text(QUERIES)
        with Lab(directory / "logs") as lab:
            pair = Pair(lab)
            pair.install(lab.b)
            for uuid in UUIDS:
                lab.b.add_device(FakeDevice(uuid, "mdev", config))
                state = lab.b.path(f"/var/lib/vfio-preflight/states/{uuid}.bin")
                state.write_bytes(patched(config, 0x63, 0x51))
            lab.b.start_guest(guest_xml(RUNNING, "pc-q35-9.1", OF_TWIN))
            command = ["/usr/bin/python3", "-I", __file__, "--inside", str(directory)]
            result = lab.b.run(command, timeout=600)
            if result.returncode != 0:
                raise SystemExit(result.stderr)
            return dict(json.loads(result.stdout))


# Devices of a fleet that differ in a byte that is compared, each with each.
FLEET = 64
LEAST = 1.0  # seconds


def rates() -> dict[str, float]:
    """Verdicts a second, both sides realised and compared: states seen before, and new ones."""
    from lab.configs import make_config, patched
    from vfio_preflight.pci.state import ConfigState

    def device(config: bytes, number: int) -> ConfigState:
        # The subsystem's IDs are not compared: one more number, by which states are new ones.
        other = patched(patched(config, 0x2C, number & 0xFF), 0x2D, number >> 8 & 0xFF)
        return ConfigState(patched(other, 0x63, number & 0x3F), (), "file", "bench")

    found = {}
    for size in (4096, 256):
        config = make_config(size)
        fleet = [device(config, number) for number in range(FLEET)]
        every = list(product(fleet, fleet))
        found[f"{size} bytes, states seen before"] = _rate(every for _ in count())
        new = ([(device(config, n), device(config, n + 1))] for n in count(FLEET, 2))
        found[f"{size} bytes, states never seen"] = _rate(new)
    return found


def _rate(rounds: Iterator[list[tuple[ConfigState, ConfigState]]]) -> float:
    from vfio_preflight.qemu.model.vfio_pci import Environment, VirtualConfig, compare, realise

    environment = Environment("root-port", skip_vsc_check=False)
    verdicts, begun = 0, time.perf_counter()
    for pairs in rounds:
        for source, destination in pairs:
            sent, there = realise(source, environment), realise(destination, environment)
            assert isinstance(sent, VirtualConfig)
            assert isinstance(there, VirtualConfig)
            compare(sent.config, there)
        verdicts += len(pairs)
        if time.perf_counter() - begun > LEAST:
            break
    return verdicts / (time.perf_counter() - begun)


def report(seconds: dict[str, float], write: Callable[[str], object] = print) -> None:
    """Print medians and ratios."""
    write(f"median of {ROUNDS} runs, in turn")
    for name, value in seconds.items():
        write(f"  {value * 1000:7.1f} ms  {name}")
    write("ratios")
    for name, references in RATIOS:
        ratio = seconds[name] / sum(seconds[reference] for reference in references)
        write(f"  {ratio:7.2f}     {name} : {' + '.join(references)}")
    write("verdicts of the model, in a second")
    for name, rate in rates().items():
        write(f"  {rate:7.0f}     {name}")


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        with qemu_without_devices():
            print(json.dumps(timings(Path(sys.argv[2]))))
    else:
        report(measure())


if __name__ == "__main__":
    main()
