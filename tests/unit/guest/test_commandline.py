"""<qemu:commandline> (guest.commandline)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from vfio_preflight.guest.commandline import (
    CommandLine,
    Global,
    Setting,
    from_option,
    parse_device,
    parse_options,
    read_command_line,
)
from vfio_preflight.guest.xml import QEMU_NS, GuestError


def read(*arguments: str) -> CommandLine:
    root = etree.Element("domain")
    line = etree.SubElement(root, f"{{{QEMU_NS}}}commandline")
    for argument in arguments:
        etree.SubElement(line, f"{{{QEMU_NS}}}arg", value=argument)
    return read_command_line(root)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("vfio-pci", {"driver": "vfio-pci"}),
        ("vfio-pci,host=06:00.0", {"driver": "vfio-pci", "host": "06:00.0"}),
        ("id=x,driver=vfio-pci", {"driver": "vfio-pci", "id": "x"}),
        ("a,sysfsdev=/no,,pe", {"driver": "a", "sysfsdev": "/no,pe"}),
        ("a,x=1,,,y=2", {"driver": "a", "x": "1,", "y": "2"}),
        ("a,x=1,x=2,", {"driver": "a", "x": "2"}),
        ("a,x=b=c", {"driver": "a", "x": "b=c"}),
        ("a,flag,noother", {"driver": "a", "flag": "on", "other": "off"}),
        ("", {}),
    ],
)
def test_options(text: str, options: dict[str, str]) -> None:
    assert parse_options(text, implied="driver") == options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (
            '{"driver":"vfio-pci","a":true,"b":false,"c":5}',
            {"driver": "vfio-pci", "a": "on", "b": "off", "c": "5"},
        ),
        ("{'driver': 'it\\'s', \"q\": \"don't\"}", {"driver": "it's", "q": "don't"}),
        ("{'a': 'say \"x\"'}", {"a": 'say "x"'}),
        ('{"a": {"nested": 1}, "b": [1]}', {}),
        ('{"a": null, "b": 1.5}', {"a": "null", "b": "1.5"}),
        ("{not JSON", {}),
    ],
)
def test_device_json(text: str, options: dict[str, str]) -> None:
    assert parse_device(text) == options


def test_device_json_keeps_its_types() -> None:
    text = '{"driver":"vfio-pci","a":true,"b":-5,"c":"5","d":null,"e":1.5}'
    (device,) = read("-device", text).devices
    forms = [device.forms[name] for name in "abcde"]
    assert forms == ["boolean", "number", "string", "null", "number"]
    values = [from_option(device.options[name], device.forms[name]) for name in "abcde"]
    assert values == [True, -5, "5", None, 1.5]


def test_device_in_options_has_no_types() -> None:
    (device,) = read("-device", "vfio-pci,skip-vsc-check=on").devices
    assert device.forms == {}


@pytest.mark.parametrize("text", ["{'driver':'vfio-pci'", '{"vfio":' + "[" * 100_000])
def test_device_json_of_vfio_must_be_readable(text: str) -> None:
    with pytest.raises(GuestError, match="not JSON"):
        parse_device(text)


def test_read_takes_one_dash_or_two() -> None:
    line = read("-device", "a", "--device", "b", "-devices", "c", "device", "d", "-device=e")
    assert [device.options["driver"] for device in line.devices] == ["a", "b"]


def test_read_option_without_argument() -> None:
    assert read("-global").globals == ()


@pytest.mark.parametrize(
    "text",
    [
        "vfio-pci.skip-vsc-check=on",
        "driver=vfio-pci,property=skip-vsc-check,value=on",
        "value=on,property=skip-vsc-check,driver=vfio-pci",
    ],
)
def test_global(text: str) -> None:
    assert read("-global", text).globals == (Global("vfio-pci", "skip-vsc-check", "on"),)


def test_global_value_is_taken_as_it_is() -> None:
    assert read("-global", "d.p=a,,b=c").globals == (Global("d", "p", "a,,b=c"),)


def test_set() -> None:
    line = read("-set", "device.hostdev0.x-y=1=2", "-set", "drive.d0.file=x", "-set", "nonsense")
    assert line.settings == (Setting("hostdev0", "x-y", "1=2"),)


@given(
    st.lists(
        st.sampled_from(["-device", "-set", "-global"])
        | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
    )
)
def test_read_any_arguments(arguments: list[str]) -> None:
    line = read(*arguments)
    assert len(line.devices) + len(line.settings) + len(line.globals) <= len(arguments)
