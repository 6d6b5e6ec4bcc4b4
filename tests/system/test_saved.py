"""What a restore will load is read from the image itself: no record is needed, none is believed."""

from __future__ import annotations

import json

import pytest

from lab import guest_xml, hostdev_mdev, hostdev_pci

from .pair import CONFIG, MDEV, NEW, OLD, OTHER_VSC, QEMU_LINE, VF, Pair


def save_without_record(pair: Pair, name: str, *options: str, machine: str = OLD) -> str:
    """A guest that nobody recorded, saved; its image on host a."""
    pair.a.start_guest(guest_xml(name, machine, [hostdev_pci(VF), hostdev_mdev(MDEV)]))
    image = f"/var/lib/libvirt/{name}.img"
    done = pair.a.virsh("save", name, image, *options)
    assert done.returncode == 0, done.stderr
    return image


@pytest.mark.parametrize(
    "options", [(), ("--image-format", "zstd"), ("--bypass-cache",)], ids=["raw", "zstd", "direct"]
)
def test_check_predicts_a_restore_from_the_image_alone(
    pair: Pair, options: tuple[str, ...]
) -> None:
    image = save_without_record(pair, "alone", *options)
    for name, status in ((CONFIG, 0), (OTHER_VSC, 1)):
        pair.present(pair.a, VF, name)
        result = pair.a.run(["vfio-preflight", "check", "--image", image, "--format", "json"])
        report = json.loads(result.stdout)
        assert result.returncode == status
        assert {device["source"]["evidence"] for device in report["devices"]} == {"stream"}
    assert report["devices"][0]["qemu"] == QEMU_LINE


def test_restore_of_a_file_is_judged_by_its_bytes(pair: Pair) -> None:
    image = save_without_record(pair, "bytes")
    pair.present(pair.a, VF, OTHER_VSC)

    refused = pair.a.virsh("restore", image)

    assert "vfio-preflight: restore blocked" in refused.stderr
    assert QEMU_LINE in refused.stderr
    assert pair.a.path(image).exists()

    (pair.a.hooks / "qemu.d/50-vfio-preflight").chmod(0o644)
    try:
        assert pair.a.virsh("restore", image).returncode != 0
    finally:
        (pair.a.hooks / "qemu.d/50-vfio-preflight").chmod(0o755)
    assert QEMU_LINE in pair.a.guest_log("bytes")

    pair.present(pair.a, VF, CONFIG)
    assert pair.a.virsh("restore", image).returncode == 0
    assert pair.annotation("bytes", pair.a).get("verdict") == "pass"


def test_restore_of_edited_xml_is_judged_by_the_image(pair: Pair) -> None:
    image = save_without_record(pair, "edited")
    xml = pair.a.virsh("save-image-dumpxml", image).stdout
    pair.a.path("/var/lib/libvirt/edited.xml").write_text(
        xml.replace("</name>", "</name><title>edited</title>")
    )
    pair.present(pair.a, VF, OTHER_VSC)
    edited = ("restore", image, "--xml", "/var/lib/libvirt/edited.xml")
    assert QEMU_LINE in pair.a.virsh(*edited).stderr
    pair.present(pair.a, VF, CONFIG)
    assert pair.a.virsh(*edited).returncode == 0
    report = pair.annotation("edited", pair.a)
    assert [device.get("source") for device in report.findall("device")] == ["stream"] * 2


def test_restore_whose_image_a_helper_holds_says_so(pair: Pair) -> None:
    image = save_without_record(pair, "direct")
    assert pair.a.virsh("restore", image, "--bypass-cache").returncode == 0
    report = pair.annotation("direct", pair.a)
    assert report.get("verdict") == "unknown"
    (finding,) = report.findall("finding")
    assert finding.get("code") == "image-unread"


def test_managed_save_is_judged_by_its_bytes(pair: Pair) -> None:
    pair.a.start_guest(guest_xml("managed", OLD, [hostdev_pci(VF)]))
    pair.a.virsh("managedsave", "managed").check_returncode()
    pair.present(pair.a, VF, OTHER_VSC)
    refused = pair.a.virsh("start", "managed")
    assert QEMU_LINE in refused.stderr
    assert (pair.a.var_lib / "qemu/save/managed.save").exists()


def test_image_is_judged_for_another_host(pair: Pair) -> None:
    image = save_without_record(pair, "away", machine=NEW)
    pair.present(pair.b, VF, OTHER_VSC)
    command = ["vfio-preflight", "check", "--image", image, "--to", pair.b.uri, "--format", "json"]
    result = pair.a.run(command)
    report = json.loads(result.stdout)
    assert (result.returncode, report["verdict"]) == (0, "tolerated")


def test_state_lists_the_devices_of_an_image(pair: Pair) -> None:
    image = save_without_record(pair, "listed")
    result = pair.a.run(["vfio-preflight", "state", "--image", image])
    assert result.returncode == 0, result.stderr
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert lines["0000:00:01.0:00.0/vfio"].startswith("10de:1eb8, 256 bytes: PM@40")
    assert any(key.endswith("1f.0") for key in lines)  # the ICH9 bridge, emulated


def test_state_of_a_cut_image_is_an_error_that_says_so(pair: Pair) -> None:
    image = pair.a.path(save_without_record(pair, "cut"))
    image.write_bytes(image.read_bytes()[:-1000])
    result = pair.a.run(["vfio-preflight", "state", "--image", "/var/lib/libvirt/cut.img"])
    assert result.returncode == 2
    assert result.stderr.startswith("vfio-preflight: /var/lib/libvirt/cut.img: ")
