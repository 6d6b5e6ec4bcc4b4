from __future__ import annotations

from pathlib import Path

import pytest

from unit.host.hosts import MDEV, UUID, VF, make_mdev
from unit.makers import HOST, make_state
from vfio_preflight.guest.traits import Traits
from vfio_preflight.host.sources.inferred import infer, read
from vfio_preflight.host.sources.request import NOTHING, Request, Sent

SENT = make_state(evidence="vfio")


def refused(here: Traits, there: Traits = MDEV) -> str:
    answer = infer(Sent(SENT, there), here)
    assert answer.state is None
    return answer.reason


def test_same_traits_same_state() -> None:
    state = infer(Sent(SENT, MDEV), MDEV).state
    assert state is not None
    assert (state.config, state.bars, state.evidence) == (SENT.config, SENT.bars, "inferred")
    assert "type nvidia-63, driver nvidia, driver-version 550.54.16" in state.origin


def test_without_anything_to_go_by(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    assert read(Request(UUID, str(tmp_path))) == NOTHING
    assert read(Request(HOST, str(tmp_path), sent=Sent(SENT, MDEV))) == NOTHING


def test_traits_that_determine_nothing() -> None:
    bare = MDEV._replace(driver_version="")
    assert "driver and version are not known" in refused(bare, bare)


def test_nvidia_driver_that_differs_is_likely_to_show() -> None:
    why = refused(MDEV._replace(driver_version="550.90.05"))
    assert why.startswith(
        "driver-version is 550.54.16 at the source and 550.90.05 here: likely to differ, since"
    )
    assert "Vendor Specific Information" in why


@pytest.mark.parametrize("name", ["vendor", "device", "type"])
def test_another_model(name: str) -> None:
    assert "likely another device" in refused(MDEV._replace(**{name: "1111"}))


@pytest.mark.parametrize("name", ["subsystem", "driver", "firmware"])
def test_difference_of_which_nothing_is_known(name: str) -> None:
    why = refused(VF._replace(**{name: "other"}), VF)
    assert "other here" in why and "likely" not in why


@pytest.mark.parametrize("name", ["device", "driver_version", "firmware"])
def test_record_that_does_not_say(name: str) -> None:
    why = refused(VF, VF._replace(**{name: ""}))
    assert f"{name.replace('_', '-')} is not known at the source" in why and "likely" not in why
