from __future__ import annotations

import pytest

from vfio_preflight.pci.atomics import completed, devcap2_bits, from_text, to_text


@pytest.mark.parametrize(
    ("widths", "text", "bits"),
    [(0, "none", 0), (1, "32", 0x80), (3, "32 64", 0x180), (7, "32 64 128", 0x380)],
)
def test_widths(widths: int, text: str, bits: int) -> None:
    assert to_text(widths) == text
    assert from_text(text) == widths
    assert devcap2_bits(widths) == bits
    assert completed(bits | 0xFFFFFC7F & ~0x380) == widths


@pytest.mark.parametrize("text", [None, "", "64 32", "32 64 256", "3", 3, ["32"], "32\n"])
def test_what_nobody_wrote_is_not_known(text: object) -> None:
    assert from_text(text) is None
