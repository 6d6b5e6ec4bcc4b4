"""How much device state is sent while the guest stands still."""

from __future__ import annotations

import pytest

from unit.makers import make_context, make_device, make_state
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.judge.checks.downtime import check_downtime
from vfio_preflight.judge.facts import DeviceFacts


def texts(length: str, bandwidth: int = 0) -> list[str]:
    entry = RecordEntry(make_state(), stop_copy_length=length)
    facts = DeviceFacts(make_device(), make_state(), make_state(), entry)
    context = make_context()._replace(bandwidth=bandwidth)
    found = check_downtime(context, facts)
    assert all(finding.code == "stop-time" for finding in found)
    return [finding.text for finding in found]


def test_amount_alone_where_the_bandwidth_is_not_known() -> None:
    assert texts(str(3 << 19)) == ["1.5 MiB of device state are sent while the guest stands still"]


def test_time_by_the_bandwidth() -> None:
    (text,) = texts(str(1 << 30), bandwidth=128)
    assert text.startswith("1024.0 MiB ") and text.endswith(": about 8.00 s at 128 MiB/s")


@pytest.mark.parametrize("length", ["", "x", "-1", "1.5", "\u0661", "9" * 16])
def test_what_is_no_length_says_nothing(length: str) -> None:
    assert texts(length) == []


def test_device_without_a_record() -> None:
    facts = DeviceFacts(make_device(), make_state(), make_state())
    assert check_downtime(make_context(), facts) == ()
