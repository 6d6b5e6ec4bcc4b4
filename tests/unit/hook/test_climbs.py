"""The way of the XML from standard input to the verdict goes down the floors.

Counted are calls, while the gate judges a guest, from a room into one that stands higher: those
are callbacks, for imports never run that way (test_floors). A function that calls two rooms below
it in turn does not climb in between: it has not been left.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import FrameType

import pytest

import vfio_preflight
from unit.domains import KEY, make_domain
from unit.makers import HOST, VSC_BODY, differing, make_emulator, make_state
from unit.test_floors import floor
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import here
from vfio_preflight.hook.gate import Gate
from vfio_preflight.judge.verdicts import DEFAULT_POLICY
from vfio_preflight.pci.formats import to_json

PACKAGE = f"{Path(vfio_preflight.__file__).parent}/"
MOST = 5
# Whether it hands out VFIO devices is asked of the host, while the guest's devices are read.
INTERFACE = b"<interface type='network'><source network='other'/></interface></devices>"


def module_of(frame: FrameType | None) -> str:
    """The module of a frame, as FLOORS names it; empty outside the package."""
    file = frame.f_code.co_filename if frame is not None else ""
    if not file.startswith(PACKAGE):
        return ""
    return file[len(PACKAGE) : -len(".py")].replace("/", ".")


class Climbs:
    """Profiles calls while it is entered; ``made`` are those that went up, caller and callee."""

    def __init__(self) -> None:
        self.calls = 0
        self.made: list[tuple[str, str]] = []

    def __enter__(self) -> Climbs:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        caller, callee = module_of(frame.f_back), module_of(frame)
        if event != "call" or not caller or not callee:
            return
        self.calls += 1
        if floor(callee) > floor(caller):
            self.made.append((caller, callee))


@pytest.mark.parametrize("machine", ["pc-q35-9.0", "pc-q35-9.1"])
@pytest.mark.parametrize("fail", ["block", "annotate", "mend"])
def test_the_way_of_the_xml_climbs_for_two_callbacks_alone(
    fail: str, machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "emulator_facts", lambda *_args, **_options: make_emulator())
    (tmp_path / f"{HOST}.json").write_text(to_json(differing(VSC_BODY)))
    settings = Configuration(
        policy={**DEFAULT_POLICY, "fail": fail},
        vsc_tolerant=("10de:*",),
        states=str(tmp_path),
        runtime=str(tmp_path),
        log="none",
        trial="always",
    )
    xml = make_domain({KEY: make_state()}, machine=machine)
    # Time enough to judge, and too little for a trial, which would need a real emulator.
    gate = Gate("g1", settings, time.monotonic() + 2)
    with Climbs() as climbs:
        gate.judge("migrate", xml.replace(b"</devices>", INTERFACE))
    assert set(climbs.made) <= {
        ("guest.domain", "host.networks"),
        ("judge.confirm", "gather.trials"),
    }
    assert climbs.calls > 500, "the profile saw the judgement"
    assert 1 <= len(climbs.made) <= MOST
