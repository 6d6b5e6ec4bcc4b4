from __future__ import annotations

import pytest

from vfio_preflight.cli.arguments import device_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000:06:00.4", "0000:06:00.4"),
        ("06:00.4", "0000:06:00.4"),
        ("10000:E1:1F.7", "10000:e1:1f.7"),
        ("C2177883-F1BB-47F0-914D-32A22E3A8804", "c2177883-f1bb-47f0-914d-32a22e3a8804"),
    ],
)
def test_device_name(text: str, expected: str) -> None:
    assert device_name(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "hostdev0", "06:00", "06:20.0", "06:00.8", "6:0.4", "06:00.4 ", "../06:00.4", "06:00.4\n"],
)
def test_what_names_no_device(text: str) -> None:
    assert device_name(text) is None
