"""S12: other hooks before and after ours, some of which edit the XML; S10: reconnect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Host, guest_xml, hostdev_pci

from .pair import MIGRATED, OLD, OTHER_VSC, STAYED, VF, Pair

# Sets an element in the XML of a migration; passes everything else through.
EDITOR = """#!/bin/sh
[ "$2" = migrate ] || exit 0
exec sed 's#<{name}>.*</{name}>##; s#</name>#</name><{name}>{mark}</{name}>#'
"""
# Notes what it was called with, and whether our report was in the XML it was given.
WITNESS = """#!/bin/sh
xml=$(cat)
case "$xml" in *"<title>first</title>"*) title=titled ;; *) title=untitled ;; esac
case "$xml" in *"<description>second</description>"*) title="$title described" ;; esac
case "$xml" in *"<report "*) report=reported ;; *) report=silent ;; esac
echo "$2 $title $report" >>/var/log/libvirt/witness
"""


@pytest.fixture
def neighbours(pair: Pair) -> Iterator[Host]:
    paths = {
        pair.b.hooks / "qemu": EDITOR.format(name="title", mark="first"),
        pair.b.hooks / "qemu.d/10-early": EDITOR.format(name="description", mark="second"),
        pair.b.hooks / "qemu.d/90-witness": WITNESS,
        pair.b.hooks / "qemu.d/95-late": EDITOR.format(name="description", mark="last"),
    }
    for path, text in paths.items():
        path.write_text(text)
        path.chmod(0o755)
    pair.b.reload()
    yield pair.b
    for path in paths:
        path.unlink()
    (pair.b.log / "witness").unlink(missing_ok=True)


def witnessed(host: Host) -> list[str]:
    return (host.log / "witness").read_text().splitlines()


def test_chain_stays_intact(pair: Pair, neighbours: Host) -> None:
    guest = pair.start(guest_xml("s12", OLD, [hostdev_pci(VF)]))
    result = pair.migrate(guest)
    assert result.returncode == 0, result.stderr
    assert pair.where(guest) == MIGRATED
    assert "migrate titled described reported" in witnessed(neighbours)
    xml = neighbours.virsh("dumpxml", guest).stdout
    assert "<title>first</title>" in xml and "<description>last</description>" in xml
    assert pair.annotation(guest).get("verdict") == "pass"


def test_chain_silent_for_guest_without_vfio(pair: Pair, neighbours: Host) -> None:
    guest = pair.a.start_guest(guest_xml("s12plain", OLD))
    assert pair.migrate(guest).returncode == 0
    assert "migrate titled described silent" in witnessed(neighbours)


def test_refusal_stands_though_later_hooks_run(pair: Pair, neighbours: Host) -> None:
    guest = pair.start(guest_xml("s12no", OLD, [hostdev_pci(VF)]))
    pair.present(pair.b, VF, OTHER_VSC)
    assert "vfio-preflight: migration blocked" in pair.migrate(guest).stderr
    assert pair.where(guest) == STAYED


def test_uninstall_leaves_the_neighbours(pair: Pair, neighbours: Host) -> None:
    pair.b.run(["vfio-preflight", "uninstall"]).check_returncode()
    try:
        assert not (pair.b.hooks / "qemu.d/50-vfio-preflight").exists()
        assert not pair.b.path("/usr/lib/vfio-preflight").exists()
        assert (pair.b.hooks / "qemu.d/90-witness").exists()
        guest = pair.a.start_guest(guest_xml("s12gone", OLD, [hostdev_pci(VF)]))
        assert pair.migrate(guest).returncode == 0
    finally:
        pair.install(pair.b)


@pytest.mark.parametrize(
    "configuration", ["[policy]\nfial = block\n", "[hook]\non-error = block\ndeadline = never\n"]
)
def test_s10_reconnect_never_harms_a_running_guest(pair: Pair, configuration: str) -> None:
    guest = pair.start(guest_xml("s10", OLD, [hostdev_pci(VF)]))
    pair.configure(configuration, pair.a)
    pair.present(pair.a, VF, OTHER_VSC)
    pair.a.stop_libvirtd()
    pair.a.start_libvirtd()
    assert pair.a.state(guest) == "running"
