"""QEMU's lines, old and new, and what is made of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab import make_config
from messages.scan import RELEASES
from unit.patience import ends
from vfio_preflight.qemu.messages.explain import explain, guest_device
from vfio_preflight.qemu.messages.message import CLASSES, ROLES, core, parts, whole
from vfio_preflight.qemu.messages.table import MESSAGES

BAD = (
    "get_pci_config_device: Bad config data: i=0x{:x} read: {:x} device: {:x}"
    " cmask: ff wmask: 0 w1cmask:0"
)
CONFIG = make_config()


def first(text: str, config: bytes | None = None) -> tuple[str, str, str, str]:
    found = next(explain(text, config))
    return found.kind, found.what, found.why, found.remedy


def test_bad_config_data_in_vsc_body_names_register_and_the_way_out() -> None:
    kind, what, why, remedy = first(BAD.format(0x63, 0xA1, 0xF1), CONFIG)
    assert kind == "bad-config-data"
    assert "VSC at 0x60, Vendor Specific Information" in what
    assert "the source sent a1, the destination's device has f1" in what
    assert "skip-vsc-check" in why
    assert "mend" in remedy


def test_bad_config_data_in_link_status_names_fields() -> None:
    _, what, why, remedy = first(BAD.format(0x8A, 0x03, 0x01), CONFIG)
    assert "PCIe at 0x78, LNKSTA (current link speed)" in what
    assert "mend" not in why + remedy


def test_bad_config_data_without_state_names_header_and_asks_for_the_rest() -> None:
    assert "header, Revision ID" in first(BAD.format(0x08, 1, 2))[1]
    _, what, _, remedy = first(BAD.format(0x63, 1, 2))
    assert "among the capabilities" in what
    assert "--state" in remedy


def test_vsc_header_is_not_called_exempt() -> None:
    assert "skip-vsc-check" not in first(BAD.format(0x62, 1, 2), CONFIG)[2]


@pytest.mark.parametrize("quote", ["'0000:00:01.0:00.0/vfio'", "'0000:00:01.0:00.0/vfio'\n"])
def test_device_is_taken_from_the_line_behind(quote: str) -> None:
    text = f"{BAD.format(0x63, 1, 2)}\nFailed to load PCIDevice:config\nqemu: error while loading"
    text += f" state for instance 0x0 of device {quote}"
    assert "slot 00.0 behind 01.0 of root bus 0000:00" in first(text, CONFIG)[1]


def test_device_of_the_next_failure_is_not_taken() -> None:
    text = f"{BAD.format(0x63, 1, 2)}\n{BAD.format(0x08, 1, 2)}\nerror while loading state for"
    text += " instance 0x0 of device '0000:00:02.0/vfio'"
    found = list(explain(text, CONFIG))
    assert "root bus" not in found[0].what
    assert "slot 02.0 of root bus 0000:00" in found[1].what


@pytest.mark.parametrize(
    ("line", "kind", "part"),
    [
        (
            "Unknown savevm section or instance '0000:00:02.0/vfio' 0. Make sure that your current",
            "unknown-section",
            "0000:00:02.0/vfio",
        ),
        (
            "error: 0000:06:00.4: VFIO migration is not supported in kernel",
            "vfio-not-supported",
            "0000:06:00.4",
        ),
        ("VFIO migration is not supported in kernel", "vfio-not-supported", "the kernel driver"),
        ("VFIO device doesn't support migration", "vfio-not-supported", "first VFIO migration"),
        (
            "0000:06:00.4: Migration is disabled for VFIO device",
            "vfio-disabled",
            "enable-migration",
        ),
        (
            "0000:06:00.4: VFIO device doesn't support device and IOMMU dirty tracking",
            "vfio-no-dirty-tracking",
            "neither VFIO device 0000:06:00.4 nor the IOMMU",
        ),
        (
            "0000:06:00.4: VFIO device doesn't support device dirty tracking",
            "vfio-no-dirty-tracking",
            "neither VFIO device 0000:06:00.4 nor the IOMMU",
        ),
        (
            "0000:06:00.4: VFIO migration is not supported with postcopy migration",
            "vfio-mode",
            "0000:06:00.4 by postcopy migration",
        ),
        (
            "0000:06:00.4: VFIO migration is not supported with background snapshot",
            "vfio-mode",
            "0000:06:00.4 by background snapshot",
        ),
        (
            "0000:06:00.4: VFIO migration init failed: migration is not supported in kernel:"
            " Inappropriate ioctl for device",
            "vfio-not-supported",
            "the kernel driver of VFIO device 0000:06:00.4",
        ),
        (
            "0000:06:00.4: Migration is currently not supported with vIOMMU enabled",
            "vfio-viommu",
            "0000:06:00.4: it is behind a virtual IOMMU",
        ),
        (
            "Multiple VFIO devices migration is supported only if all of them support P2P"
            " migration",
            "vfio-several",
            "no peer-to-peer state",
        ),
        (
            "Migration is currently not supported with multiple VFIO devices",
            "vfio-several",
            "one VFIO device at most",
        ),
        (
            "Machine type received is 'pc-q35-9.0' and local is 'pc-q35-8.2'",
            "machine-differs",
            "pc-q35-9.0 on the source and pc-q35-8.2",
        ),
        (
            "Emulator '/usr/bin/qemu-system-x86_64' does not support machine type 'pc-q35-11.1'",
            "machine-missing",
            "pc-q35-11.1",
        ),
        ("qemu: unsupported machine type: 'pc-q35-99'", "machine-missing", "type pc-q35-99"),
        ('qemu: unsupported machine type: "pc-q35-99"', "machine-missing", "type pc-q35-99"),
        (
            "kvm: -machine pc-q35-99,accel=kvm,usb=off: Unsupported machine type Use -machine help",
            "machine-missing",
            "has no machine type pc-q35-99",
        ),
        ("qemu: unsupported machine type", "machine-missing", "lacks the guest's machine type"),
        ("q: -machine accel=kvm: unsupported machine type", "machine-missing", "its accelerator"),
        (
            "qemu: -device vfio-pci,host=06:00.4: vfio 0000:06:00.4: failed to add PCI capability"
            " 0x10[0x40]@0x78: assignment of PCIe type 0x4 devices is not currently supported",
            "not-realised",
            "0000:06:00.4 for its PCI capability 0x10 at 0x78: assignment of PCIe type 0x4",
        ),
        ("qemu: Failed to load PCIDevice:config", "load-failed", "PCIDevice:config"),
        ("Failed to load vmstate version_id: 1, ret: -22", "load-failed", "version_id: 1"),
        ("x: load of migration failed: Invalid argument", "migration-failed", "kept running"),
    ],
)
def test_known_lines(line: str, kind: str, part: str) -> None:
    found = list(explain(f"2026-01-01 12:00:00.000+0000: {line}"))
    assert [entry.kind for entry in found] == [kind]
    assert part in f"{found[0].what} {found[0].why}"


LINES = [(message, line) for message in MESSAGES for line in message.lines]


def test_texts_take_only_what_lines_name() -> None:
    """And what no line of theirs names is a device, which the words before it tell."""
    for message in MESSAGES:
        named = {part.name for line in message.lines for part in parts(line.template)}
        for text in (message.what, message.why, message.remedy):
            wanted = {part.name for part in parts(text) if part.name}
            assert wanted <= {*named, "device"}, message
            assert text.strip()
        assert message.role in ROLES


def test_no_repetition_is_without_a_bound() -> None:
    for pattern in CLASSES.values():
        assert not re.search(r"(?<!\\)[*+](?!\])", re.sub(r"\[[^]]*\]", "x", pattern))
    for _, line in LINES:
        for part in parts(line.template):
            assert not part.name or part.text in CLASSES.values()


def test_every_line_can_be_told_by_its_longest_piece() -> None:
    for _, line in LINES:
        assert len(core(line.template)) >= 8
        assert whole(line.template)


def test_releases_are_ones() -> None:
    for _, line in LINES:
        assert line.since in ("", *RELEASES)
        assert line.until in ("", *RELEASES)
        assert bool(line.since) or not line.until


LONG = 1 << 20
UNBOUNDED = ("0", "a:", "-M a,", "' ", "(", "\x0b", "error while loading state section id 1 (")


@pytest.mark.parametrize("filling", [*UNBOUNDED, *(line.template for _, line in LINES[::40])])
def test_long_lines_take_no_time(filling: str) -> None:
    text = filling * (LONG // len(filling))
    with ends():
        list(explain(f"{text}\n{text}{LINES[0][1].template}\n{LINES[-1][1].template}{text}"))


def test_only_line_feeds_end_lines() -> None:
    text = f"a\x0bb\x0cc\x1cd\x85e\u2028f\rg\r\n\n{BAD.format(0x63, 1, 2)}\r\n"
    (found,) = explain(text)
    assert (found.line, found.quote) == (3, BAD.format(0x63, 1, 2))


def test_nothing_known_yields_nothing() -> None:
    assert list(explain("all is well\n\n")) == []


def test_guest_device_on_root_bus_and_unknown_form() -> None:
    assert guest_device("0000:00:02.0/vfio").startswith("the vfio device in slot 02.0 of root bus")
    assert guest_device("ram") == "'ram'"


@example("\\", b"")
@given(st.text(), st.binary(max_size=300))
def test_any_text_is_survived(text: str, config: bytes) -> None:
    lines = f"{text}\n{BAD.format(0x63, 1, 2)} {text}"
    assert list(explain(lines, config.ljust(256, b"\0")[:256]))
