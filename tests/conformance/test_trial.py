"""The trial: real QEMU's verdict on one pair, and what becomes of it when something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.configs import make_config, patched
from vfio_preflight.configuration import Configuration
from vfio_preflight.hook.call import MARGIN
from vfio_preflight.osutil.executable import Executable, trusted_executable
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.model.vfio_pci import Environment
from vfio_preflight.qemu.trial import workbench
from vfio_preflight.qemu.trial.trial import DEVICE, Result, TrialUnavailable, trial
from vfio_preflight.qemu.trial.workbench import Limits, Setting

from .conftest import MACHINES_OWN
from .engine import Engine

CONFIG = make_config()
BAR0 = (Bar(0, 0x4000, "mem32"),)
PORT = Environment("root-port")
LIMITS = Limits(life=60, cpu=1)
VSC_LINE = (
    "get_pci_config_device: Bad config data: i=0x63 read: 1 device: 51 cmask: ff wmask: 0 w1cmask:0"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files; nothing of a trial is left in it, whatever happens."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    for parent in directory.parents:  # pytest's are closed to others, QEMU's user among them
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o111)
    directory.chmod(0o711)
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    yield directory
    assert list(directory.iterdir()) == []
    assert _children() == set()


def _children() -> set[str]:
    """Emulators of ours that live on."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in children}
    return {name for name in names.values() if "qemu" in name}


def state(config: bytes, bars: tuple[Bar, ...] = BAR0, evidence: str = "file") -> ConfigState:
    return ConfigState(config, bars, evidence, "test")


def try_(
    engine: Engine,
    source: ConfigState,
    destination: ConfigState,
    machine: str = "pc-q35-9.0",
    environment: Environment = PORT,
    globals_: tuple[tuple[str, str, str], ...] = (),
) -> Result:
    return trial(
        source,
        destination,
        Setting(machine, "vfio-pci", environment, globals_),
        engine.receiver.executable,
        deadline=time.monotonic() + 30,
        library=engine.library,
        limits=LIMITS,
    )


SKIP = (("vfio-pci", "skip-vsc-check", "on"),)
VSC_CASES = [
    ("pc-q35-9.0", PORT, (), VSC_LINE),
    ("pc-q35-9.1", PORT, (), ""),
    ("pc-q35-9.0", PORT._replace(properties={"skip-vsc-check": "on"}), (), ""),
    ("pc-q35-9.1", PORT._replace(properties={"skip-vsc-check": "off"}), (), VSC_LINE),
    ("pc-q35-9.0", PORT, SKIP, ""),
    ("pc-q35-9.0", Environment("root-complex"), (), VSC_LINE),
    ("pc-q35-9.0", Environment("conventional"), (), VSC_LINE),
    ("pc-i440fx-9.0", Environment("conventional", express_root=False), (), VSC_LINE),
]


@pytest.mark.parametrize(("machine", "environment", "globals_", "line"), VSC_CASES)
def test_vsc(
    engine: Engine,
    machine: str,
    environment: Environment,
    globals_: tuple[tuple[str, str, str], ...],
    line: str,
) -> None:
    other = state(patched(CONFIG, 0x63, 0x51))
    result = try_(engine, state(CONFIG), other, machine, environment, globals_)
    assert (result.outcome, result.line) == ("fail" if line else "pass", line)
    assert line in result.stderr


def test_json_form(own_engine: Engine) -> None:
    """Libvirt's form of a device: the same verdict, but QEMU minds the types there."""
    other = state(patched(CONFIG, 0x63, 0x51))
    environment = PORT._replace(properties={"skip-vsc-check": "on", "romfile": "/no/such"})
    given: dict[str, object] = {"skip-vsc-check": True, "romfile": "/no/such"}
    setting = Setting("pc-q35-9.0", "vfio-pci", environment, json=given)

    def ask(setting: Setting) -> str:
        end = time.monotonic() + 30
        library = own_engine.library
        return trial(
            state(CONFIG),
            other,
            setting,
            own_engine.receiver.executable,
            deadline=end,
            library=library,
        ).outcome

    assert ask(setting) == "pass"
    assert ask(setting._replace(json={})) == "fail"
    for value in ("on", 1):
        with pytest.raises(TrialUnavailable, match="'skip-vsc-check', expected: boolean"):
            ask(setting._replace(json={**given, "skip-vsc-check": value}))


REFUSED = [
    (patched(CONFIG, 0x79, 0x78), BAR0, "hang", ""),
    (b"\xff" * 256, BAR0, "hang", ""),
    (patched(CONFIG, 0x52, 0x8E), BAR0, "abort", "PCI_MSI_VECTORS_MAX"),
    (CONFIG, (Bar(1, 0x4000, "mem32"),), "error", "MSIX PBA outside of specified BAR"),
    (
        patched(CONFIG, 0xBC, 0x02),  # the table in BAR 2, which is not there
        BAR0,
        "crash",
        "",
    ),
    (
        patched(CONFIG, 0x7A, 0x42),
        BAR0,
        "error",
        "failed to add PCI capability 0x10[0x40]@0x78:"
        " assignment of PCIe type 0x4 devices is not currently supported",
    ),
]


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize(("config", "bars", "outcome", "text"), REFUSED)
def test_refused(
    engine: Engine, side: str, config: bytes, bars: tuple[Bar, ...], outcome: str, text: str
) -> None:
    bad, good = state(config, bars), state(CONFIG)
    pair = (bad, good) if side == "source" else (good, bad)
    result = try_(engine, *pair)
    assert (result.outcome, result.side) == (outcome, side)
    assert text in result.line


def test_sizes_differ(engine: Engine) -> None:
    small, big = state(CONFIG), state(make_config(4096))
    assert [try_(engine, *pair).outcome for pair in ((small, big), (big, small))] == ["fail"] * 2


def test_huge_bars(engine: Engine) -> None:
    """Address space is limited, and a GPU's BARs are larger: nothing is mapped."""
    config = patched(patched(CONFIG, 0x10, 0x0C), 0x18, 0x0C)
    bars = (Bar(0, 1 << 34, "mem64"), Bar(2, 1 << 47, "mem64"))
    assert try_(engine, state(config, bars), state(config, bars)).outcome == "pass"


def test_bars_that_are_not_known(own_engine: Engine) -> None:
    assert try_(own_engine, state(CONFIG, ()), state(CONFIG, ())).outcome == "pass"


def test_recorded_stream_is_sent_as_it_is(engine: Engine) -> None:
    """A recorded stream would not survive being realised: the clique would be there twice."""
    clique = PORT._replace(properties={"x-nv-gpudirect-clique": "3"})
    sent = bytearray(make_config(class_code=0x030000, caps=[("pm", 0x40)]))
    device = state(bytes(sent))
    assert try_(engine, device, device, environment=clique).outcome == "pass"
    sent[0x41], sent[0xC8:0xD0] = 0xC8, bytes((9, 0, 8, 0x50, 0x32, 0x50, 3 << 3, 0))
    recorded = state(bytes(sent), evidence="stream")
    assert try_(engine, recorded, device, environment=clique).outcome == "pass"
    other = PORT._replace(properties={"x-nv-gpudirect-clique": "4"})
    assert "i=0xce read: 18 device: 20" in try_(engine, recorded, device, environment=other).line


def test_properties_of_the_host_are_left_out(own_engine: Engine) -> None:
    properties = {"host": "0000:06:00.0", "display": "on", "romfile": "/no/such,file", "id": "x"}
    environment = PORT._replace(properties=properties)
    assert try_(own_engine, state(CONFIG), state(CONFIG), environment=environment).outcome == "pass"


UNAVAILABLE = [
    ({"machine": "pc-q35-99.0"}, "unsupported machine type|Use -machine help"),
    ({"machine": "none"}, "pcie.0"),
    ({"environment": PORT._replace(properties={"no-such": "1"})}, "no-such"),
    ({"environment": PORT._replace(properties={"x-req": "perhaps"})}, "x-req"),
]


def test_what_the_shim_refuses_is_no_verdict(own_engine: Engine) -> None:
    device = state(CONFIG, (Bar(0, 1 << 60, "mem64"),))
    with pytest.raises(TrialUnavailable, match=r"fakevfio: 0000:01:00.0: bad config or regions"):
        try_(own_engine, device, device)


def test_globals_of_the_host_are_left_out(own_engine: Engine) -> None:
    """QEMU refuses x-vga for want of a VGA region, and cannot read the guest's ROM file here."""
    given = {"x-vga": "on", "romfile": "/no/such", "enable-migration": "off"}
    globals_ = tuple(("vfio-pci", name, value) for name, value in given.items())
    assert try_(own_engine, state(CONFIG), state(CONFIG), globals_=globals_).outcome == "pass"


@pytest.mark.parametrize("both", [False, True])
def test_hang_within_the_hooks_deadline(own_engine: Engine, both: bool) -> None:
    """With the hook's own limits, of one side or of both; the destination's is told."""
    loop = state(patched(CONFIG, 0x79, 0x78))
    result = trial(
        loop if both else state(CONFIG),
        loop,
        _setting(),
        own_engine.receiver.executable,
        deadline=time.monotonic() + Configuration().deadline - MARGIN,
        library=own_engine.library,
    )
    assert (result.outcome, result.side) == ("hang", "destination")


@pytest.mark.parametrize(("changes", "text"), UNAVAILABLE)
def test_unavailable(own_engine: Engine, changes: dict[str, object], text: str) -> None:
    with pytest.raises(TrialUnavailable, match=text):
        try_(own_engine, state(CONFIG), state(CONFIG), **changes)  # type: ignore[arg-type]


def _setting() -> Setting:
    return Setting("pc-q35-9.0", "vfio-pci", PORT)


def test_without_shim(own_engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(TrialUnavailable, match=r"No such file|is not there"):
        trial(
            state(CONFIG),
            state(CONFIG),
            _setting(),
            own_engine.receiver.executable,
            deadline=time.monotonic() + 5,
            library=str(tmp_path / "no.so"),
        )


def test_shim_that_is_none(own_engine: Engine, tmp_path: Path) -> None:
    """Without the shim QEMU finds no IOMMU group; that is no verdict on the device."""
    library = tmp_path / "empty.so"
    library.write_bytes(b"")
    with pytest.raises(TrialUnavailable, match=r"iommu_group|cannot be preloaded"):
        trial(
            state(CONFIG),
            state(CONFIG),
            _setting(),
            own_engine.receiver.executable,
            deadline=time.monotonic() + 10,
            library=str(library),
        )


def test_no_time(own_engine: Engine) -> None:
    """Too little time is no hang."""
    with pytest.raises(TrialUnavailable, match="did not finish in time"):
        trial(
            state(CONFIG),
            state(CONFIG),
            _setting(),
            own_engine.receiver.executable,
            deadline=time.monotonic() + 0.01,
            library=own_engine.library,
        )


def _script(tmp_path: Path, text: str) -> Executable:
    path = tmp_path / "emulator"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    for parent in path.parents:
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o111)
    return trusted_executable(f"/{path.name}", str(tmp_path))


PROGRAMS = [
    ("exit 3", "says nothing .exit status 3"),
    ("echo hello", "not QMP"),
    ("echo broken >&2; exit 1", "broken"),
    ("kill -9 $$", "SIGKILL"),
    ("kill -SEGV $$", "accepts no VFIO device at all: it was killed by SIGSEGV"),
    ("kill -ABRT $$", "accepts no VFIO device at all: it was killed by SIGABRT"),
    (
        f"echo 'x: -device x: vfio {DEVICE}: broken' >&2; exit 1",
        "accepts no VFIO device at all: .*broken",
    ),
    ("sleep 30", "did not finish in time"),
]


@pytest.mark.parametrize(("text", "said"), PROGRAMS)
def test_programs_that_are_no_emulator(
    own_engine: Engine, tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(TrialUnavailable, match=said):
        trial(
            state(CONFIG),
            state(CONFIG),
            _setting(),
            _script(tmp_path, text),
            deadline=time.monotonic() + 1,
            library=own_engine.library,
            limits=Limits(life=3, cpu=1),
        )


def test_hang_with_any_device_is_no_verdict(own_engine: Engine, tmp_path: Path) -> None:
    """So it looks where a processor is shared with others, whose time counts as the emulator's."""
    said = "accepts no VFIO device at all: it took all the processor time that it may take"
    with pytest.raises(TrialUnavailable, match=said):
        trial(
            state(CONFIG),
            state(CONFIG),
            _setting(),
            _script(tmp_path, "while :; do :; done"),
            deadline=time.monotonic() + 30,
            library=own_engine.library,
        )


def test_wrapper_script(own_engine: Engine, tmp_path: Path) -> None:
    wrapper = _script(tmp_path, f'exec {MACHINES_OWN} "$@"')
    result = trial(
        state(CONFIG),
        state(patched(CONFIG, 0x63, 0x51)),
        _setting(),
        wrapper,
        deadline=time.monotonic() + 30,
        library=own_engine.library,
    )
    assert result.line == VSC_LINE


_CALLER = """
import sys, time
from vfio_preflight.osutil.executable import trusted_executable
from vfio_preflight.qemu.trial.workbench import Limits, Setting, arguments, workbench
from vfio_preflight.qemu.model.vfio_pci import Environment
from vfio_preflight.pci.state import ConfigState
config = bytes.fromhex(sys.argv[3])
with workbench(sys.argv[2]) as bench:
    setting = Setting("pc-q35-9.0", "vfio-pci", Environment("root-port"))
    path = bench.add_device("a", "0000:01:00.0", ConfigState(config, (), "file", ""), setting)
    options = arguments([(path, setting)], bench.directory)
    bench.start(trusted_executable(sys.argv[1]), options, "a", Limits(life=60))
    print(bench.directory, flush=True)
    time.sleep(30)
"""


def test_emulator_does_not_outlive_a_killed_caller(own_engine: Engine) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(workbench.__file__).parents[3])}
    arguments = [MACHINES_OWN, own_engine.library, CONFIG.hex()]
    caller = subprocess.Popen(
        [sys.executable, "-c", _CALLER, *arguments], stdout=subprocess.PIPE, env=environment
    )
    assert caller.stdout is not None
    directory = caller.stdout.readline().decode().strip()
    assert _users_of(directory)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    deadline = time.monotonic() + 10
    while _users_of(directory) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _users_of(directory)
    subprocess.run(["rm", "-r", directory], check=True)


def _users_of(directory: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if directory.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_runs_unprivileged_and_limited(own_engine: Engine) -> None:
    """The user, the limits, and what of the caller an emulator sees."""
    with workbench.workbench(own_engine.library) as bench:
        setting = _setting()
        path = bench.add_device("a", DEVICE, state(CONFIG), setting)
        options = workbench.arguments([(path, setting)], bench.directory)
        with bench.start(
            own_engine.receiver.executable, options, "a", Limits(30, 7, 1 << 32)
        ) as emulator:
            assert emulator.ask("qmp_capabilities", time.monotonic() + 10) is not None
            proc = Path(f"/proc/{emulator.pid}")
            limits = (proc / "limits").read_text()
            if os.geteuid() == 0:
                assert "\nUid:\t0\t" not in (proc / "status").read_text()
            assert "Max cpu time              7                    8 " in limits
            assert "Max core file size        0                    0 " in limits
            assert "Max address space         4294967296 " in limits
            environment = set((proc / "environ").read_bytes().split(b"\0"))
            names = {entry.partition(b"=")[0] for entry in environment if entry}
            assert names == {b"PATH", b"LC_ALL", *(b"LD_PRELOAD FAKEVFIO_DIR".split())} | {
                b"FAKEVFIO_LIMITS"
            }
