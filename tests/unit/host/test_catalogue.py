from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.host.hosts import MDEV, VGPU
from unit.makers import VSC_BODY, differing, make_state
from vfio_preflight.guest.traits import Traits
from vfio_preflight.host import catalogue
from vfio_preflight.host.catalogue import (
    MAX_STATES,
    CatalogueError,
    Entry,
    add,
    entries,
    find,
    forget,
    from_json,
    merged,
    name_of,
    to_json,
)
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.model.equivalence import equivalent_to_qemu as same

SEEN = make_state(evidence="vfio", bars=(Bar(0, 1 << 24, "mem64", True), Bar(3, 128, "io")))
OTHER = differing(VSC_BODY)._replace(evidence="vfio")
OLD, NEW = "2026-11-23T12:00:00Z", "2026-11-24T12:00:00Z"


def make_entry(
    *states: ConfigState, traits: Traits = MDEV, time: str = OLD, host: str = "a"
) -> Entry:
    return Entry(traits, states or (SEEN,), host, time)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "catalogue")


# --- files ---------------------------------------------------------------------------------------


def test_add_find(directory: str) -> None:
    assert find(directory, MDEV) is None
    assert add(directory, make_entry(), same)
    assert find(directory, MDEV) == make_entry()
    assert find(directory, VGPU) is None
    assert entries(directory) == [(name_of(MDEV), make_entry())]


def test_adding_twice_changes_nothing(directory: str) -> None:
    add(directory, make_entry(), same)
    assert not add(directory, make_entry(SEEN._replace(origin="x"), time=NEW, host="b"), same)
    assert find(directory, MDEV) == make_entry()


@pytest.mark.parametrize("name", ["device", "type", "driver_version", "firmware", "subsystem"])
def test_every_trait_counts(name: str, directory: str) -> None:
    add(directory, make_entry(), same)
    assert find(directory, MDEV._replace(**{name: "x"})) is None


def test_names_are_files_names() -> None:
    assert name_of(MDEV).startswith("10de-1e30-nvidia-63-nvidia-550.54.16-")
    strange = Traits("../..", "/etc", "", "..", "\0", "ü" * 900)
    assert "/" not in name_of(strange) and not name_of(strange).startswith(".")
    assert len(name_of(strange)) < 100
    assert name_of(strange) != name_of(strange._replace(type="...")) != name_of(MDEV)


def test_bytes_that_traits_do_not_determine_are_both_kept(directory: str) -> None:
    add(directory, make_entry(), same)
    assert add(directory, make_entry(OTHER, time=NEW, host="b"), same)
    assert find(directory, MDEV) == make_entry(OTHER, SEEN, time=NEW, host="b")


def test_states_that_qemu_takes_for_one_are_one() -> None:
    enabled = bytearray(SEEN.config)
    enabled[0x04] = 0x06  # memory and bus master: what a running guest turns on
    one = merged(make_entry(), make_entry(SEEN._replace(config=bytes(enabled)), time=NEW), same)
    assert one == make_entry()


def test_latest_state_comes_first() -> None:
    both = merged(make_entry(SEEN), make_entry(OTHER, time=NEW), same)
    assert both.states == (OTHER, SEEN)
    assert merged(make_entry(SEEN, time=NEW), make_entry(OTHER), same).states == (
        SEEN,
        OTHER,
    )
    assert merged(None, both, same) == both


def test_number_of_states_is_bounded() -> None:
    entry = make_entry()
    for offset in range(1, 12):
        entry = merged(entry, make_entry(differing(VSC_BODY + offset), time=NEW), same)
    assert len(entry.states) == MAX_STATES


@pytest.mark.parametrize("evidence", ["catalogue", "inferred", "sysfs", "file"])
def test_what_nobody_saw_does_not_get_in(evidence: str, directory: str) -> None:
    with pytest.raises(CatalogueError, match=f"evidence '{evidence}' was not seen"):
        add(directory, make_entry(make_state(evidence=evidence)), same)
    assert entries(directory) == []


def test_what_qemu_made_of_a_device_does_not_get_in(directory: str) -> None:
    """It depends on where the device was in the guest, which no trait tells."""
    with pytest.raises(CatalogueError, match="'stream' is what QEMU made of a device at its place"):
        add(directory, make_entry(make_state(evidence="stream")), same)
    assert entries(directory) == []


def test_traits_that_determine_nothing_do_not_get_in(directory: str) -> None:
    bare = MDEV._replace(driver_version="")
    with pytest.raises(CatalogueError, match="traits"):
        add(directory, make_entry(traits=bare), same)
    assert find(directory, bare) is None


def test_catalogue_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CatalogueError, match="cannot be written"):
        add(str(tmp_path / "file"), make_entry(), same)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": 2}', '"' * 2000])
def test_damaged_entry_is_none(content: str, directory: str) -> None:
    add(directory, make_entry(), same)
    (Path(directory) / f"{name_of(MDEV)}.json").write_text(content)
    assert find(directory, MDEV) is None
    assert entries(directory) == []
    assert add(directory, make_entry(), same)
    assert find(directory, MDEV) == make_entry()


def test_entry_under_anothers_name_is_none(directory: str) -> None:
    add(directory, make_entry(), same)
    home = Path(directory)
    (home / f"{name_of(MDEV)}.json").rename(home / f"{name_of(VGPU)}.json")
    assert find(directory, VGPU) is None


def test_directory_that_others_can_write_is_not_read(directory: str) -> None:
    add(directory, make_entry(), same)
    os.chmod(directory, 0o777)
    assert find(directory, MDEV) is None
    with pytest.raises(CatalogueError, match="others can write it"):
        add(directory, make_entry(), same)


def test_entries_that_are_not_used_go_first(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MAX_ENTRIES", 3)
    for number in range(3):
        traits = MDEV._replace(type=f"nvidia-{number}")
        add(directory, make_entry(traits=traits), same)
        os.utime(Path(directory) / f"{name_of(traits)}.json", (number, number))
    assert find(directory, MDEV._replace(type="nvidia-0")) is not None
    add(directory, make_entry(), same)
    assert {entry.traits.type for _, entry in entries(directory)} == {
        "nvidia-0", "nvidia-2", "nvidia-63",
    }  # fmt: skip


def test_forget(directory: str) -> None:
    add(directory, make_entry(), same)
    add(directory, make_entry(traits=VGPU), same)
    assert forget(directory, ["x", "../x", name_of(MDEV)]) == [name_of(MDEV)]
    assert [entry.traits for _, entry in entries(directory)] == [VGPU]
    assert forget(directory, [name_of(MDEV)]) == []


def test_parallel_hooks(directory: str) -> None:
    made = [make_entry(traits=MDEV._replace(type=f"nvidia-{n}")) for n in range(6)]

    def work(number: int) -> bool:
        add(directory, made[number % 6], same)
        return find(directory, made[number % 6].traits) == made[number % 6]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(120)))
    assert sorted(entry for _, entry in entries(directory)) == sorted(made)


# --- JSON ----------------------------------------------------------------------------------------


def made_json(**changes: Any) -> Any:  # noqa: ANN401
    value = {**to_json(make_entry()), **changes}
    return json.loads(json.dumps(value))


def made_state(**changes: Any) -> Any:  # noqa: ANN401
    value = made_json()
    value["states"][0].update(changes)
    return value


def test_json_round_trip() -> None:
    both = make_entry(SEEN, make_state(b"\xff" * 4096, (), "vfio"), traits=VGPU)
    assert from_json(json.loads(json.dumps(to_json(both)))) == both


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (None, "schema"),
        ([], "schema"),
        (made_json(schema=2), "schema"),
        (made_json(states=[]), "1 to 4 states"),
        (made_json(states=[{}] * 5), "1 to 4 states"),
        (made_json(states={}), "1 to 4 states"),
        (made_json(states=[1]), "not an object"),
        (made_json(traits=[]), '"traits" is not an object'),
        (made_json(traits={}), '"traits" lack'),
        (made_json(traits={"colour": "red"}), "'colour'; known are: vendor"),
        (made_json(traits={**MDEV.facts(), "vendor": "10DE"}), "four hexadecimal digits"),
        (made_json(traits={**MDEV.facts(), "vendor": 1}), '"vendor" is not a printable string'),
        (made_json(traits={**MDEV.facts(), "type": "x" * 129}), '"type" is not a printable'),
        (made_json(traits={**MDEV.facts(), "type": "x\n"}), '"type" is not a printable'),
        (made_json(host=None), '"host" is not'),
        (made_json(time="yesterday"), '"time" is'),
        (made_json(time="9999-99-99T99:99:99ZZ"), '"time" is'),
        (made_state(evidence="file"), "was not seen"),
        (made_state(evidence="hearsay"), "is none of"),
        (made_state(evidence="stream"), "takes one of: vfio"),
        (made_state(config="00"), "1 bytes are not"),
        (made_state(config="zz" * 256), '"config" is not'),
        (made_state(config="00" * 257), "257 bytes"),
        (made_state(config=5), '"config" is not'),
        (made_state(bars=5), '"bars" is not'),
        (made_state(bars=[[0, 16, "io", False]] * 8), '"bars" is not'),
        (made_state(bars=[[0, 16, "io", False]] * 2), "names a BAR twice"),
        (made_state(bars=[[7, 16, "io", False]]), "a BAR has number"),
        (made_state(bars=[[True, 16, "io", False]]), "a BAR has number"),
        (made_state(bars=[[0, 16, "rom", False]]), "kind 'rom'"),
        (made_state(bars=[[0, 17, "io", False]]), "not a power of two"),
        (made_state(bars=[[0, 1 << 64, "io", False]]), "not a power of two"),
        (made_state(bars=[[0, 0, "io", False]]), "not a power of two"),
        (made_state(bars=[[0, 16, "io", 1]]), "not true or false"),
        (made_state(bars=[{}]), "a BAR is {}"),
        (made_state(origin="x" * 1025), '"origin" is not'),
    ],
)
def test_json_that_is_no_entry(value: object, part: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        from_json(value)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = ("schema", "traits", "host", "time", "states")
STATE_KEYS = ("evidence", "origin", "bars", "config")


@given(st.sampled_from(KEYS), JSON)
def test_any_json_in_place_of_a_part(key: str, value: object) -> None:
    with contextlib.suppress(CatalogueError):
        assert from_json({**to_json(make_entry()), key: value}).traits.determined


@given(st.sampled_from(STATE_KEYS), JSON)
def test_any_json_in_place_of_a_part_of_a_state(key: str, value: object) -> None:
    changed = to_json(make_entry())
    changed["states"][0][key] = value
    with contextlib.suppress(CatalogueError):
        assert len(from_json(changed).states[0].config) == 256
