from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.makers import VSC_BODY, differing, make_facts
from vfio_preflight.hook.probe import MARK, PART, decode, encode, reply
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import Decision
from vfio_preflight.report.schema import ReportDict, as_dict

TOLD = as_dict(preflight(make_facts(None, differing(VSC_BODY))), Decision("block"))


def answer(part: int, told: ReportDict) -> tuple[int, int, str]:
    text = reply(part, told).decode()
    match = re.fullmatch(rf"{MARK} (\d+) (\d+) (\S+)\n", text)
    assert match is not None
    return int(match[1]), int(match[2]), match[3]


def test_round_trip() -> None:
    assert decode(encode(TOLD)) == TOLD
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", encode(TOLD))


def test_answer_in_parts() -> None:
    told: ReportDict = {**TOLD, "note": "".join(chr(0x4E00 + 7 * n % 20000) for n in range(2000))}
    _, parts, _ = answer(0, told)
    assert parts > 1
    pieces = [answer(n, told) for n in range(parts)]
    assert [piece[0] for piece in pieces] == list(range(parts))
    assert all(len(piece[2]) <= PART for piece in pieces)
    assert decode("".join(piece[2] for piece in pieces)) == told


def test_part_that_there_is_not_is_the_last() -> None:
    number, parts, _ = answer(99999, TOLD)
    assert number == parts - 1


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda b: b.decode("latin-1"))))
def test_decode_of_anything_is_a_report_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(decode(text), dict)
    except ValueError:
        return


def test_decode_of_json_that_is_no_report() -> None:
    with pytest.raises(ValueError, match="not a report"):
        decode(encode([]))  # type: ignore[arg-type]
