from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config
from unit.makers import make_state
from vfio_preflight.errors import PreflightError
from vfio_preflight.pci.formats import parse, to_json
from vfio_preflight.pci.state import EVIDENCE, Bar, ConfigState

SMALL = make_config()


def read(text: str | bytes) -> ConfigState:
    return parse(text.encode() if isinstance(text, str) else text, "dump.txt").state


def complaint(text: str | bytes) -> str:
    with pytest.raises(PreflightError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("dump.txt: ")
    return message


def make_json(**changes: object) -> str:
    value: dict[str, object] = {
        "schema": 1,
        "config": SMALL.hex(),
        "evidence": "vfio",
        "origin": "host a",
        "bars": [{"number": 0, "size": 4096, "kind": "mem64", "prefetchable": True}],
    }
    value.update(changes)
    return json.dumps({name: item for name, item in value.items() if item is not None})


def test_json_says_where_it_came_from() -> None:
    bars = (Bar(0, 4096, "mem64", True),)
    assert read(make_json()) == ConfigState(SMALL, bars, "vfio", "host a (from dump.txt)")


def test_json_without_what_is_optional() -> None:
    state = read(make_json(evidence=None, origin=None, bars=None))
    assert state == ConfigState(SMALL, (), "file", "dump.txt (from dump.txt)")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not JSON"),
        ("{" * 100000, "not JSON"),
        ('{"a":' * 100000, "not JSON"),
        ("{}", '"schema" is not 1'),
        (make_json(schema=2), '"schema" is not 1'),
        (make_json(schema="1"), '"schema" is not 1'),
        (make_json(config=None), '"config" is not'),
        (make_json(config="xyz"), "not a config state"),
        (make_json(config=7), "not a config state"),
        (make_json(config="00" * 64), "64 bytes are not a PCI configuration space"),
        (make_json(evidence="hearsay"), "evidence 'hearsay' is none of: stream, vfio"),
        (make_json(evidence=["vfio"]), "is none of"),
        (make_json(bars=7), "not a config state"),
        (make_json(bars=[7]), "not a config state"),
        (make_json(bars=[{"number": 0}]), "not a config state"),
        (make_json(bars=[{"number": 7, "size": 16, "kind": "io"}]), "BAR has number 7"),
        (make_json(bars=[{"number": 0, "size": 0, "kind": "io"}]), "BAR0 has size 0"),
        (make_json(bars=[{"number": 0, "size": "16", "kind": "io"}]), "BAR0 has size '16'"),
        (make_json(bars=[{"number": 0, "size": 16, "kind": "tape"}]), "BAR0 is of kind 'tape'"),
        # A typo that QEMU would abort on is an error in the file.
        (make_json(bars=[{"number": 0, "size": 12288, "kind": "mem32"}]), "BAR0 has size 12288"),
        (make_json(bars=[{"number": True, "size": 16, "kind": "io"}]), "BAR has number True"),
        (make_json(bars=[{"number": 0, "size": 16, "kind": "io"}] * 2), "names a BAR twice"),
        (make_json(bars=[{"number": 0, "size": 16, "kind": "io", "prefetchable": 1}]), "BAR0: pre"),
    ],
)
def test_json_that_is_not_a_config_state(text: str, part: str) -> None:
    assert part in complaint(text)


def test_json_text_can_be_printed() -> None:
    read(make_json(origin="\ud800")).origin.encode()


@given(
    st.sampled_from([256, 4096]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    st.lists(
        st.builds(
            Bar,
            st.integers(0, 6),
            st.integers(4, 62).map(lambda order: 1 << order),
            st.sampled_from(["io", "mem32", "mem64"]),
            st.booleans(),
        ),
        max_size=7,
        unique_by=lambda bar: bar.number,
    ),
    st.sampled_from(EVIDENCE),
)
def test_json_round_trip(config: bytes, bars: list[Bar], evidence: str) -> None:
    state = make_state(config, tuple(bars), evidence)
    again = parse(to_json(state).encode(), "x.json").state
    assert again[:3] == state[:3]
    assert again.origin == f"{state.origin} (from x.json)"
