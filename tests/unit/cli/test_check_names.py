"""``check`` of a running guest's XML whose aliases have gaps, as after a hot-unplug.

libvirt numbers anew at the destination: hostdev1 of the XML and hostdev1 there may be two devices.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.guests import guest_xml, hostdev_pci
from unit.cli.command import Out, complaint, printed_json
from vfio_preflight.cli import check
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.guest.domain import Guest
from vfio_preflight.hook.gate import decided
from vfio_preflight.judge.findings import Report
from vfio_preflight.judge.policy import Decision
from vfio_preflight.judge.verdicts import DEFAULT_POLICY

HOSTS = {"hostdev1": "0000:06:00.5", "hostdev2": "0000:06:00.6", "ua-own": "0000:06:00.7"}
USB = (
    "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source>"
    "<alias name='{}'/></hostdev>"
)


def live_guest(tmp_path: Path, aliases: dict[str, str] = HOSTS, first: str = "") -> str:
    """Path of the live XML of guest g1: hostdev0 of its run is gone."""
    path = tmp_path / "live.xml"
    devices = [
        hostdev_pci(
            host,
            f"<alias name='{alias}'/><address type='pci' bus='0' slot='{number}' function='0'/>",
        )
        for number, (alias, host) in enumerate(aliases.items(), 5)
    ]
    path.write_text(guest_xml("g1", devices=[*([first] if first else []), *devices]))
    return str(path)


def states(name: str, files: dict[str, str], destination: str = "usual") -> list[str]:
    return [
        f"--source-state={name}={files['usual']}",
        f"--destination-state={name}={files[destination]}",
    ]


def test_alias_that_means_two_devices(files: dict[str, str], tmp_path: Path, capsys: Out) -> None:
    """hostdev1 is 06:00.5 in the XML, which becomes hostdev0; 06:00.6 becomes hostdev1."""
    arguments = ["check", live_guest(tmp_path), *states("hostdev1", files)]
    assert complaint(arguments, capsys) == (
        "vfio-preflight: 'hostdev1' may mean more than one device of guest g1: 0000:06:00.5 has"
        " this alias in the XML; 0000:06:00.6 will have it at the destination, where libvirt"
        " numbers anew. Name the device by its address: 0000:06:00.5 or 0000:06:00.6\n"
    )


@pytest.mark.parametrize("alias", ["hostdev1", "hostdev0"])
def test_alias_of_a_device_that_is_not_judged(
    alias: str, files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    """Of a USB device hostdev1 and a VF hostdev2, the VF becomes hostdev1."""
    guest = live_guest(tmp_path, {"hostdev2": "0000:06:00.6"}, USB.format(alias))
    arguments = ["check", guest, *states("hostdev1", files)]
    if alias == "hostdev0":
        assert main(arguments) == 0
        return
    err = complaint(arguments, capsys)
    assert "another device, which is no VFIO device, has it in the XML" in err
    assert err.endswith(" Name the device by its address: 0000:06:00.6\n")


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("hostdev2", "0000:06:00.6"),
        ("hostdev0", "0000:06:00.5"),
        ("ua-own", "0000:06:00.7"),
        ("0000:06:00.5", "0000:06:00.5"),
        ("00:06.0", "0000:06:00.6"),
    ],
)
def test_name_that_means_one_device(
    name: str, host: str, files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    """By the XML's alias, by the destination's alone, and by either address."""
    guest = live_guest(tmp_path)
    main(["check", guest, *states(name, files), "--format", "json"])
    judged = {d["host"]: d["verdict"] for d in printed_json(capsys)["devices"]}
    assert [key for key, verdict in judged.items() if verdict == "pass"] == [host]


def test_consecutive_aliases_mean_the_same_on_both_sides(
    files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    guest = live_guest(tmp_path, {"hostdev0": "0000:06:00.5", "hostdev1": "0000:06:00.6"})
    main(["check", guest, *states("hostdev1", files), "--format", "json"])
    devices = printed_json(capsys)["devices"]
    assert [device["verdict"] for device in devices] == ["unknown", "pass"]
    assert not any("name" in device for device in devices)


def test_names_that_can_be_given(files: dict[str, str], tmp_path: Path, capsys: Out) -> None:
    err = complaint(["check", live_guest(tmp_path), *states("hostdev7", files)], capsys)
    assert "it has: hostdev1, hostdev2, ua-own" in err


@pytest.mark.parametrize("rich", [True, False])
def test_report_uses_the_names_of_the_xml(
    rich: bool,
    files: dict[str, str],
    tmp_path: Path,
    capsys: Out,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    main(["check", live_guest(tmp_path), *states("hostdev2", files)])
    out = capsys.readouterr().out
    assert "hostdev0" in out, "the alias at the destination is told"
    if rich:
        assert "hostdev2 (there hostdev1)" in out and "unknown   hostdev1: " in out
    else:
        assert "hostdev2 (hostdev1 at the destination, 0000:06:00.6, guest 0000:00:06.0)" in out
    assert "ua-own (there" not in out and "ua-own (ua-own" not in out


def test_json_has_both_names(tmp_path: Path, capsys: Out) -> None:
    main(["check", live_guest(tmp_path), "--format", "json"])
    devices = printed_json(capsys)["devices"]
    assert [(device.get("name"), device["alias"]) for device in devices] == [
        ("hostdev1", "hostdev0"),
        ("hostdev2", "hostdev1"),
        (None, "ua-own"),
    ]


def test_mend_uses_the_alias_of_the_destination(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Report, Decision]] = []

    def noted(report: Report, guest: Guest, settings: Configuration) -> tuple[Report, Decision]:
        seen.append(decided(report, guest, settings))
        return seen[-1]

    policy = {**DEFAULT_POLICY, "fail": "mend", "unknown": "annotate"}
    monkeypatch.setattr(check, "load", lambda: Configuration(policy, vsc_tolerant=("10de:*",)))
    monkeypatch.setattr(check, "decided", noted)
    main(["check", live_guest(tmp_path), *states("0000:06:00.6", files, "vsc")])
    ((_report, decision),) = seen
    assert decision.mend == ("hostdev1",)
