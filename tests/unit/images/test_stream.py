from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config, patched
from unit.patience import ends
from unit.streams import (
    CONFIG,
    EXPRESS,
    MSIX,
    PARTS,
    PATH,
    STREAM,
    VFIO_BEGIN,
    VFIO_END,
    Part,
    description,
    emulated,
    make_stream,
    opaque,
    pci_device,
    vfio,
    virtio,
)
from vfio_preflight.images import stream as module
from vfio_preflight.images.stream import Stream, StreamError, read_stream, read_tail
from vfio_preflight.pci.state import ConfigState, Missing, State

END = len(STREAM) - len(description(PARTS)) - 6  # of the last section
DISPLAY = b"\x05\x19VFIOPCIDevice/VFIODisplay\0\0\0\1" + bytes(30)


def read(data: bytes, start: int = 0) -> Stream:
    return read_stream(io.BytesIO(data), "made up", start)


def config_of(state: State) -> bytes:
    assert isinstance(state, ConfigState), state
    assert (state.evidence, state.bars) == ("stream", ())
    return state.config


def reason_of(state: State) -> str:
    assert isinstance(state, Missing), state
    return state.reason


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_all_devices_are_found() -> None:
    stream = read(STREAM)
    assert stream.machine == "pc-q35-9.0"
    assert [section.name for section in stream.sections] == [part.name for part in PARTS]
    assert [section.size for section in stream.sections] == [len(part.body) for part in PARTS]
    configs = {path: config_of(state) for path, state in stream.vfio.items()}
    assert configs == {PATH: CONFIG, "0000:00:01.1:00.0": EXPRESS}
    configs = {path: config_of(state) for path, state in stream.emulated.items()}
    assert configs == {"0000:00:01.0": EXPRESS, "0000:00:1f.0": CONFIG}


def test_origin_names_file_and_section() -> None:
    state = read(STREAM).vfio[PATH]
    assert isinstance(state, ConfigState)
    assert state.origin == f"made up, section {PATH}/vfio"


def test_stream_in_a_larger_file() -> None:
    assert config_of(read(b"header" * 20 + STREAM, 120).vfio[PATH]) == CONFIG


def test_tail_alone() -> None:
    stream = read_tail(io.BytesIO(STREAM[2000:]), "tail")
    assert (stream.machine, config_of(stream.vfio[PATH])) == ("", CONFIG)


def test_sections_beyond_the_tail_are_missing_not_wrong() -> None:
    keep = STREAM.index(b"0000:00:01.1:00.0/vfio") - 100
    stream = read_tail(io.BytesIO(STREAM[keep:]), "tail")
    assert config_of(stream.vfio["0000:00:01.1:00.0"]) == EXPRESS
    assert "is not where it should be" in reason_of(stream.vfio[PATH])
    assert "is not where it should be" in reason_of(stream.emulated["0000:00:1f.0"])


def test_old_stream_without_machine() -> None:
    without = STREAM[:8] + b"\x01" + STREAM[9:]
    assert read(without).machine == ""


@pytest.mark.parametrize("size", [256, 4096])
@pytest.mark.parametrize("more", [b"", DISPLAY], ids=["", "display"])
def test_vfio_layouts(size: int, more: bytes) -> None:
    config = make_config(size, caps=[("pm", 0x40), ("vsc", 0x60, b"\x55" * 16)])
    stream = read(make_stream([vfio(config, msix=b"", more=more)]))
    assert config_of(stream.vfio[PATH]) == config


def test_many_msix_vectors() -> None:
    config = patched(patched(CONFIG, 0xBA, 0xFF), 0xBB, 0x87)  # 2048, enabled
    stream = read(make_stream([vfio(config, msix=bytes(2048 * 16 + 256))]))
    assert config_of(stream.vfio[PATH]) == config


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (VFIO_END, "channels of its own"),
        (b"", "marks"),
        (VFIO_BEGIN + VFIO_END, "not as long as"),
        (VFIO_BEGIN + pci_device(CONFIG) + MSIX, "marks"),
        (pci_device(CONFIG) + MSIX + VFIO_END, "marks"),
        (VFIO_BEGIN + pci_device(CONFIG) + MSIX + b"?" + VFIO_END, "not as long as"),
        (VFIO_BEGIN + pci_device(CONFIG) + MSIX[:-1] + VFIO_END, "not as long as"),
        (VFIO_BEGIN + b"\0\0\0\3" + pci_device(CONFIG)[4:] + MSIX + VFIO_END, "not as long as"),
        (VFIO_BEGIN + pci_device(CONFIG)[:-1] + b"\2" + MSIX + VFIO_END, "not as long as"),
        (VFIO_BEGIN + bytes(2 << 20) + VFIO_END, "marks"),
    ],
    ids=range(10),
)
def test_vfio_section_that_is_not_understood_is_missing(body: bytes, why: str) -> None:
    stream = read(make_stream([opaque(f"{PATH}/vfio", body), vfio(EXPRESS, "0000:00:10.0")]))
    assert why in reason_of(stream.vfio[PATH])
    assert config_of(stream.vfio["0000:00:10.0"]) == EXPRESS


@pytest.mark.parametrize("caps", [[("pm", 0x40)], [("pm", 0x40), ("pcie", 0x78)]])
def test_virtio(caps: list[tuple[str, int]]) -> None:
    config = make_config(4096 if len(caps) > 1 else 256, vendor=0x1AF4, caps=caps)
    stream = read(make_stream([virtio(config)]))
    assert config_of(stream.emulated["0000:00:02.0"]) == config


def test_virtio_on_no_pci_bus_is_missing() -> None:
    stream = read(make_stream([virtio(make_config(vendor=0x1AF5))]))
    assert "virtio device on PCI" in reason_of(stream.emulated["0000:00:02.0"])


def test_emulated_device_of_another_version_is_missing() -> None:
    part = emulated(CONFIG)
    other = part._replace(body=part.body.replace(b"\x07\0\0\0\2", b"\x07\0\0\0\3", 1))
    assert "no PCI device" in reason_of(read(make_stream([other])).emulated["0000:00:1f.0"])


@pytest.mark.parametrize("slack", [1, 4095, 70000, 1 << 20])
def test_zeros_may_follow(slack: int) -> None:
    assert config_of(read(STREAM + bytes(slack)).vfio[PATH]) == CONFIG


@pytest.mark.parametrize("slack", [b"x", b"\0x", b"}", bytes(2 << 20), b"\n"], ids=range(5))
def test_anything_else_may_not_follow(slack: bytes) -> None:
    with pytest.raises(StreamError, match="does not end as a migration stream does"):
        read(STREAM + slack)


def test_zeros_may_be_forbidden() -> None:
    with pytest.raises(StreamError, match="does not end"):
        read_stream(io.BytesIO(STREAM + b"\0"), "device", slack=0)
    assert read_stream(io.BytesIO(STREAM), "device", slack=0).vfio


def test_stream_in_guests_ram_is_not_taken_for_the_guests() -> None:
    """A guest that holds a save image itself, and the image of this guest was cut short."""
    other = make_stream([vfio(EXPRESS)])
    outer = make_stream([vfio(CONFIG)], ram=other + b"rest of the page")
    assert config_of(read(outer).vfio[PATH]) == CONFIG
    with pytest.raises(StreamError):
        read(outer[: outer.index(b"rest") + 10])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "begins with QEVM"),
        (b"QEVN" + STREAM[4:], "begins with QEVM"),
        (b"QEVM\0\0\0\4" + STREAM[8:], "version 4"),
        (STREAM[: END + 1], "suppress-vmdesc"),
        (STREAM[:-1], "cut short"),
    ],
    ids=["empty", "magic", "version", "undescribed", "cut"],
)
def test_no_stream(data: bytes, why: str) -> None:
    with pytest.raises(StreamError, match=why):
        read(data)


def test_start_beyond_the_end() -> None:
    with pytest.raises(StreamError, match="before its migration stream begins"):
        read(b"short", 100)


@pytest.mark.parametrize(
    "described",
    [
        {"size": -1},
        {"size": "1"},
        {"size": 1 << 80},
        {"fields": [{"name": "x", "type": "buffer"}]},
        {"fields": [{"name": "x", "type": "buffer", "size": 1, "array_len": -2}]},
        {"fields": {}, "subsections": [{}]},
        {"fields": [None]},
        {"fields": 3, "size": 1},
        {"size": 1, "version": "x", "fields": []},
        {"size": 5, "fields": [{"type": "q", "size": 10**10, "array_len": "x"}]},
        {"size": 5, "fields": [{"type": "q", "size": 10**10, "array_len": [1]}]},
        {"size": 5, "fields": [{"type": "q", "size": "x", "array_len": 10**10}]},
        *(
            {"size": 5, "fields": [{"type": "virtio", "size": size}]}
            for size in (-1, 1.0, float("nan"), float("inf"), True, None, 1 << 62)
        ),
    ],
)
def test_description_that_is_not_qemus(described: dict[str, Any]) -> None:
    with pytest.raises(StreamError, match="is not as QEMU's are"):
        read(make_stream([Part("x/y", b"", described)]))


@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b'{"devices": {}}', b"{" * 5000 + b"}", b"{\xff}"], ids=range(5)
)
def test_description_that_is_other_json(text: bytes) -> None:
    with pytest.raises(StreamError, match="is not as QEMU's are"):
        read(STREAM[:60] + b"\0\6" + struct.pack(">I", len(text)) + text)


def test_deeply_nested_description() -> None:
    text = b'{"devices": [' + b'{"fields": [' * 100_000 + b"]}" * 100_000 + b"]}"
    with pytest.raises(StreamError):
        read(STREAM[:60] + b"\0\6" + struct.pack(">I", len(text)) + text)


def test_two_sections_of_one_device() -> None:
    with pytest.raises(StreamError, match="one device"):
        read(make_stream([vfio(CONFIG), vfio(EXPRESS)]))


def test_two_configuration_spaces_in_one_section() -> None:
    part = emulated(CONFIG)
    fields = part.described["fields"] * 2
    with pytest.raises(StreamError, match="two configuration spaces"):
        read(make_stream([part._replace(described={**part.described, "fields": fields})]))


def test_sizes_that_are_wrong_end_the_walk() -> None:
    parts = [vfio(CONFIG), opaque("wrong", b"12345"), vfio(EXPRESS, "0000:00:10.0")]
    data = make_stream(parts).replace(b'"size": 5, "fields"', b'"size": 6, "fields"')
    stream = read(data)
    assert config_of(stream.vfio["0000:00:10.0"]) == EXPRESS
    assert "'wrong' is not where it should be" in reason_of(stream.vfio[PATH])


def test_early_section_stands_elsewhere() -> None:
    """``virtio-mem-early`` is the first one described, and sent before RAM."""
    early = opaque("0000:00:02.0/virtio-mem-early", b"early")
    text = description([early, *PARTS])
    body = STREAM[:END]
    stream = read(body + b"\0\6" + struct.pack(">I", len(text)) + text)
    assert config_of(stream.vfio[PATH]) == CONFIG
    assert config_of(stream.emulated["0000:00:01.0"]) == EXPRESS


def test_little_is_read_of_a_large_stream() -> None:
    file = CountingFile(make_stream(PARTS, ram=bytes(64 << 20)))
    assert config_of(read_stream(file, "large").vfio[PATH]) == CONFIG
    assert file.count < 200_000


def test_large_sections_are_passed_over() -> None:
    parts = [vfio(CONFIG), *(opaque(f"vram{i}", bytes(8 << 20)) for i in range(4))]
    file = CountingFile(make_stream(parts))
    assert config_of(read_stream(file, "large").vfio[PATH]) == CONFIG
    assert file.count < 200_000


def test_long_description() -> None:
    parts = [vfio(CONFIG), *(opaque(f"cpu{i}", b"x") for i in range(20_000))]
    assert config_of(read(make_stream(parts)).vfio[PATH]) == CONFIG


def test_endless_description_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DESCRIPTION", 1 << 20)
    file = CountingFile(STREAM + b"j" * (8 << 20) + b"}")
    with pytest.raises(StreamError, match="does not end"):
        read_stream(file, "endless")
    assert file.count < 2 << 20


def test_file_that_shrinks() -> None:
    class Shrinking(io.BytesIO):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            return super().seek(offset, whence) + (1000 if whence == 2 else 0)

    with pytest.raises(StreamError, match="became shorter"):
        read_stream(Shrinking(STREAM), "shrinking")


def test_file_that_cannot_be_read() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(StreamError, match="Input/output error"):
        read_stream(Broken(STREAM), "broken")


# --- hostile input: no other exception, no long time, and no wrong bytes ----------------------

TRUE = {*read(STREAM).vfio.items()}


def judge(data: bytes) -> None:
    """What is returned as known is what stands between the marks of the device's own section."""
    try:
        with ends():
            stream = read(data)
    except StreamError as error:
        assert str(error).startswith("made up: ")
        return
    for path, state in stream.vfio.items():
        if isinstance(state, ConfigState):
            at = data.index(f"{path}/vfio".encode()) + len(path) + 5 + 8
            assert data[at : at + 8] == VFIO_BEGIN
            assert state.config == data[at + 12 : at + 12 + len(state.config)]
            assert len(state.config) in (256, 4096)


@given(st.integers(0, len(STREAM) - 1))
def test_truncated_at_the_end(length: int) -> None:
    with pytest.raises(StreamError):
        read(STREAM[:length])


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_bytes_missing_in_the_middle(at: int, count: int) -> None:
    """Whatever is lost in the devices' sections, none is found in another's place."""
    end = len(STREAM) - at
    data = STREAM[: end - count] + STREAM[end:]
    judge(data)
    try:
        found = read(data).vfio
    except StreamError:
        return
    assert {*found.items()} <= TRUE | {
        (path, state) for path, state in found.items() if isinstance(state, Missing)
    }


@given(st.lists(st.tuples(st.integers(0, len(STREAM) - 1), st.integers(0, 255)), max_size=6))
def test_mutated(changes: list[tuple[int, int]]) -> None:
    data = bytearray(STREAM)
    for at, value in changes:
        data[at] = value
    judge(bytes(data))


KEYS = st.sampled_from(
    ["name", "size", "type", "fields", "struct", "array_len", "subsections", "vmsd_name", "version"]
)
JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=4) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
DEVICE = st.dictionaries(KEYS | st.just("instance_id"), JSON, max_size=8)


NUMBER = st.integers(-1, 5000) | st.sampled_from([10**10, 1 << 61, 1 << 62, 10**300]) | JSON
FIELD = st.fixed_dictionaries(
    {"type": st.sampled_from(["pci config", "virtio", "struct", "q"]), "size": NUMBER},
    optional={"array_len": NUMBER, "struct": JSON},
)
DESCRIBED = st.fixed_dictionaries(
    {"instance_id": NUMBER, "fields": st.lists(FIELD, max_size=4)},
    optional={"size": NUMBER, "version": NUMBER, "name": st.just("0000:00:02.0/virtio-net")},
)


@given(st.lists(DESCRIBED, max_size=4))
def test_any_fields(devices: list[dict[str, Any]]) -> None:
    judge(make_stream([Part("0000:00:02.0/virtio-net", b"", device) for device in devices]))


@given(st.lists(DEVICE, max_size=4))
def test_any_description(devices: list[dict[str, Any]]) -> None:
    parts = [Part("0000:00:02.0/vfio", b"", device) for device in devices]
    judge(make_stream(parts))


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    judge(data)
    judge(STREAM[:20] + data)
    judge(data + STREAM[-300:])
