"""Files of vendors' rules, read (host.vendor_rules)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.host.hosts import MDEV, SHIPPED_RULES, VF, make_rules
from unit.makers import make_rule
from vfio_preflight.guest.traits import Traits
from vfio_preflight.host.sysfs import HostError
from vfio_preflight.host.vendor_rules import Rules, parse_rules, read_rules

RULE = """\
[firmware]
drivers = mlx5-vfio-pci
vendor = 15B3
trait = firmware
condition = differs
text = the destination may
    refuse it
remedy = use equal firmware
source = DOCA 2.9.3
date = 2026
"""
DRIVERS = ("mlx5_vfio_pci",)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir(mode=0o755)
    return tmp_path / "rules"


def read(place: Path, *drivers: str) -> Rules:
    return read_rules(drivers or DRIVERS, "/rules", str(place.parent))


def complaint(text: str) -> str:
    with pytest.raises(HostError) as caught:
        parse_rules(text, "/x.ini")
    assert str(caught.value).startswith("/x.ini: ") and "\n" not in str(caught.value)
    return str(caught.value)


# --- the shipped files ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SHIPPED_RULES.iterdir()), ids=lambda path: path.name)
def test_shipped_file(path: Path) -> None:
    rules = parse_rules(path.read_text(), str(path))
    assert rules
    for rule in rules:
        # Of what is shipped, nothing turns an answer by the bytes into "unknown".
        assert not rule.undecided
        # A sentence goes on after a colon, and before the source.
        assert not rule.text.endswith(".") and not rule.text[0].isspace()
        assert "://" not in rule.source


@pytest.mark.parametrize(
    ("traits", "trait_names"),
    [
        (MDEV, ["driver-version", "driver-version", "", "device"]),
        (VF, ["firmware", "", "driver-version", ""]),
        (Traits("8086", "4943", driver="qat_vfio_pci"), [""]),
        (Traits("8086", "e20b", driver="xe-vfio-pci"), ["device", ""]),
        (Traits("19e5", "a251", driver="hisi_acc_vfio_pci"), ["device", ""]),
        (Traits("8086", "154c", driver="vfio-pci"), []),
    ],
)
def test_shipped_rules_on_devices(traits: Traits, trait_names: list[str], tmp_path: Path) -> None:
    found = read_rules((traits.driver,), str(make_rules(tmp_path)))
    assert found.problems == ()
    assert [rule.trait for rule in found.rules if rule.concerns(traits)] == trait_names


# --- one file ------------------------------------------------------------------------------------


def test_rule() -> None:
    assert parse_rules(RULE, "/x.ini") == (make_rule(),)


def test_rule_with_everything() -> None:
    text = RULE.replace("mlx5-vfio-pci", "mlx5_vfio_pci mlx5_core")
    text += "devices = 101E 1018\nverdict = unknown\n"
    drivers, devices = ("mlx5_vfio_pci", "mlx5_core"), ("101e", "1018")
    expected = make_rule(drivers=drivers, devices=devices, undecided=True)
    assert parse_rules(text, "/x.ini") == (expected,)


def test_reminder_needs_no_trait() -> None:
    text = RULE.replace("differs", "always").replace("trait = firmware\n", "")
    assert parse_rules(text, "/x.ini") == (make_rule(trait="", condition="always"),)


def test_fail_is_no_verdict_of_a_rule() -> None:
    told = complaint(f"{RULE}verdict = fail\n")
    assert told == "/x.ini: [firmware] verdict: 'fail' is none of: pass, unknown"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("trait = firmware\n", "", "[firmware] has no trait, which condition = differs compares"),
        ("trait = firmware", "trait = ecc", "[firmware] trait: 'ecc' is none of: vendor, device"),
        ("trait = firmware", "trait =", "[firmware] trait: '' is none of"),
        ("= differs", "= equals", "[firmware] condition: 'equals' is none of: differs, branch-"),
        ("15B3", "nvidia", "[firmware]: 'nvidia' is not an ID of four hexadecimal digits"),
        ("15B3", "15b3\ndevices = 101e x", "[firmware]: 'x' is not an ID"),
        ("date = 2026\n", "", "[firmware] has no date"),
        ("date = 2026", "date =", "[firmware] has no date"),
        ("drivers = mlx5-vfio-pci", "drivers =", "[firmware] has no drivers"),
        ("date = 2026", "date = 2026\nurl = x", "[firmware] url: no such key; known: drivers"),
        ("[firmware]\n", "", "no section headers"),
        ("[firmware]\n", "[DEFAULT]\n", "vendor = 15B3"),
        ("date = 2026", "date = 2026\ndate = 2025", "already exists"),
        ("date = 2026\n", f"date = 2026\n{RULE}", "already exists"),
    ],
)
def test_rule_that_is_wrong(old: str, new: str, told: str) -> None:
    assert old in RULE
    text = RULE.replace(old, new)
    if "DEFAULT" in new:
        # A section like any other: nothing is inherited from it.
        text = text.replace("date = 2026\n", "date = 2026\n[b]\n")
        told = "[b] has no drivers"
    assert told in complaint(text)


@given(
    st.lists(
        st.one_of(st.sampled_from([*RULE.splitlines(), "[b]", " x"]), st.text(max_size=20)),
        max_size=14,
    )
)
def test_any_text_gives_rules_or_an_error(lines: list[str]) -> None:
    try:
        rules = parse_rules("\n".join(lines), "/x.ini")
    except HostError as error:
        assert str(error).startswith("/x.ini: ")
    else:
        assert all(rule.text.isprintable() for rule in rules)


# --- the directory -------------------------------------------------------------------------------


def test_files_in_the_order_of_their_names(place: Path) -> None:
    (place / "b.ini").write_text(RULE)
    (place / "a.ini").write_text(RULE.replace("DOCA 2.9.3", "A"))
    (place / ".c.ini").write_text("hidden, mlx5_vfio_pci")
    (place / "README").write_text("mlx5_vfio_pci")
    assert [rule.source for rule in read(place).rules] == ["A", "DOCA 2.9.3"]
    assert read(place).problems == ()


def test_driver_in_either_spelling(place: Path) -> None:
    (place / "a.ini").write_text(RULE)
    assert read(place, "mlx5-vfio-pci").rules == read(place).rules == (make_rule(),)


def test_file_that_does_not_name_the_driver_is_not_parsed(place: Path) -> None:
    (place / "a.ini").write_text("damaged")
    assert read(place) == Rules()


def test_no_directory(tmp_path: Path) -> None:
    assert read(tmp_path / "rules") == Rules()


def test_damaged_file_costs_only_its_own_rules(place: Path) -> None:
    (place / "a.ini").write_text(f"{RULE}verdict = fail\n")
    (place / "b.ini").write_text(RULE)
    (place / "c.ini").write_bytes(b"\xff mlx5_vfio_pci")
    os.mkfifo(place / "d.ini")
    (place / "e.ini").symlink_to("nowhere")
    found = read(place)
    assert found.rules == (make_rule(),)
    fail, text, fifo, link = found.problems
    assert fail.startswith(f"{place}/a.ini: [firmware] verdict: 'fail'")
    assert text == f"{place}/c.ini: cannot be read: it is not UTF-8 text"
    assert "not a regular file" in fifo
    assert link == f"{place}/e.ini: cannot be read: No such file or directory"


def test_file_of_somebody_else(place: Path) -> None:
    (place / "a.ini").write_text(RULE)
    (place / "a.ini").chmod(0o664)
    found = read(place)
    assert found.rules == ()
    assert f"{place}/a.ini is writable by users other than root" in found.problems[0]


def test_directory_of_somebody_else(place: Path) -> None:
    (place / "a.ini").write_text(RULE)
    place.chmod(0o777)
    found = read(place)
    assert found.rules == ()
    assert f"{place} is writable by users other than root" in found.problems[0]


def test_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(RULE)
    (problem,) = read(tmp_path / "rules").problems
    assert problem == f"{tmp_path}/rules: cannot be read: Not a directory"
