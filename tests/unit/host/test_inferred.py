from __future__ import annotations

import pytest

from unit.host.hosts import MDEV, VF
from unit.makers import make_state
from vfio_preflight.host.inferred import infer
from vfio_preflight.host.traits import Traits

SENT = make_state(evidence="vfio")


def refused(here: Traits, there: Traits = MDEV) -> str:
    state, why = infer(SENT, there.facts(), here)
    assert state is None
    return why


def test_same_traits_same_state() -> None:
    state, basis = infer(SENT, {**MDEV.facts(), "host": "x", "qemu": "10.0.2"}, MDEV)
    assert state is not None
    assert (state.config, state.bars, state.evidence) == (SENT.config, SENT.bars, "inferred")
    assert state.origin == f"the source's, with {basis}"
    assert "type nvidia-63, driver nvidia, driver-version 550.54.16" in basis


def test_without_anything_to_go_by() -> None:
    assert infer(None, MDEV.facts(), MDEV) == (None, "")
    assert infer(SENT, {}, MDEV) == (None, "")


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
