"""The stand-ins behave as the classes of typing that type checkers take them for."""

from __future__ import annotations

import typing

import pytest

from vfio_preflight.osutil import light


class Ours(light.NamedTuple):
    """A tuple."""

    number: int
    size: int = 4096
    name: str = ""

    @property
    def end(self) -> int:
        return self.number + self.size


class Theirs(typing.NamedTuple):
    """A tuple."""

    number: int
    size: int = 4096
    name: str = ""

    @property
    def end(self) -> int:
        return self.number + self.size


def same(ours: tuple[object, ...], theirs: tuple[object, ...]) -> bool:
    names = repr(ours).replace("Ours", "Theirs") == repr(theirs)
    return names and tuple(ours) == tuple(theirs)


def test_construction() -> None:
    assert same(Ours(1), Theirs(1))
    assert same(Ours(1, 2, "x"), Theirs(1, 2, "x"))
    assert same(Ours(name="x", number=1), Theirs(name="x", number=1))
    assert Ours(1, 2).end == Theirs(1, 2).end == 3


def test_it_is_an_immutable_tuple() -> None:
    one = Ours(1, 2)
    assert one == (1, 2, "") and hash(one) == hash((1, 2, ""))
    with pytest.raises(AttributeError):
        one.size = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        one.other = 3  # type: ignore[attr-defined]


def test_replace_and_asdict() -> None:
    assert same(Ours(1)._replace(size=3), Theirs(1)._replace(size=3))
    assert Ours(1)._asdict() == Theirs(1)._asdict()
    assert (Ours.__doc__, Ours._fields, Ours._field_defaults) == (
        Theirs.__doc__,
        Theirs._fields,
        Theirs._field_defaults,
    )


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, 2, "x", 3), {}), ((1,), {"number": 2}), ((1,), {"other": 2})],
)
def test_wrong_fields_are_a_type_error(values: tuple[int, ...], named: dict[str, int]) -> None:
    for made in (Ours, Theirs):
        with pytest.raises(TypeError):
            made(*values, **named)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Ours(1)._replace(other=2)  # type: ignore[call-arg]


def test_a_field_without_default_after_one_with_a_default_is_refused() -> None:
    meta: typing.Any = type(light.NamedTuple)
    body = {"__annotations__": {"a": "int", "b": "int"}, "a": 1}
    with pytest.raises(TypeError, match="without a default"):
        meta("Wrong", (light.NamedTuple,), body)


def test_a_typed_dict_is_a_dictionary() -> None:
    class Entry(light.TypedDict, total=False):
        key: str

    assert type(Entry(key="x")) in (dict, Entry) and Entry(key="x") == {"key": "x"}
