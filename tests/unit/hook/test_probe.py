from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from unit.makers import VSC_BODY, differing, make_facts, make_guest
from vfio_preflight.guest.domain import Guest
from vfio_preflight.guest.metadata import NAMESPACE
from vfio_preflight.hook.probe import MARK, NAME_PREFIX, PART, decode, encode, is_probe, reply
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import Decision
from vfio_preflight.report.schema import ReportDict, as_dict

TOLD = as_dict(preflight(make_facts(None, differing(VSC_BODY))), Decision("block"))


def make_probe(part: str | None = "0", name: str = f"{NAME_PREFIX}x") -> Guest:
    metadata = etree.Element(f"{{{NAMESPACE}}}preflight")
    if part is not None:
        etree.SubElement(metadata, f"{{{NAMESPACE}}}probe", part=part)
    return make_guest()._replace(name=name, metadata=metadata)


def answer(guest: Guest, told: ReportDict) -> tuple[int, int, str]:
    text = reply(guest, told).decode()
    match = re.fullmatch(rf"{MARK} (\d+) (\d+) (\S+)\n", text)
    assert match is not None
    return int(match[1]), int(match[2]), match[3]


def test_is_probe() -> None:
    assert is_probe(make_probe())
    assert not is_probe(make_probe(part=None))
    assert not is_probe(make_probe(name="g1"))
    assert not is_probe(make_guest()._replace(name=f"{NAME_PREFIX}x"))


def test_round_trip() -> None:
    assert decode(encode(TOLD)) == TOLD
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", encode(TOLD))


def test_answer_in_parts() -> None:
    told: ReportDict = {**TOLD, "note": "".join(chr(0x4E00 + 7 * n % 20000) for n in range(2000))}
    _, parts, _ = answer(make_probe("0"), told)
    assert parts > 1
    pieces = [answer(make_probe(str(n)), told) for n in range(parts)]
    assert [piece[0] for piece in pieces] == list(range(parts))
    assert all(len(piece[2]) <= PART for piece in pieces)
    assert decode("".join(piece[2] for piece in pieces)) == told


@pytest.mark.parametrize("part", ["999", "-1", "x", "", "9" * 50, "\u0661"])
def test_part_that_there_is_not(part: str) -> None:
    number, parts, _ = answer(make_probe(part), TOLD)
    assert 0 <= number < parts


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda b: b.decode("latin-1"))))
def test_decode_of_anything_is_a_report_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(decode(text), dict)
    except ValueError:
        return


def test_decode_of_json_that_is_no_report() -> None:
    with pytest.raises(ValueError, match="not a report"):
        decode(encode([]))  # type: ignore[arg-type]
