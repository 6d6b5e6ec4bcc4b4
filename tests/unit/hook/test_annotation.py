"""What the hook puts into the XML and finds in it again (hook.annotation)."""

from __future__ import annotations

import pytest

from unit.domains import make_domain
from vfio_preflight.guest.metadata import NAMESPACE
from vfio_preflight.hook.annotation import token_of


@pytest.mark.parametrize(
    ("children", "token"),
    [
        ("<report token='t'/>", "t"),
        ("<record/><report token='t'/><report token='u'/>", "t"),
        ("<stray token='s'/><report token='t'/>", "t"),
        ("<stray token='s'/>", None),
        ("<report/>", None),
    ],
)
def test_token_of(children: str, token: str | None) -> None:
    ours = f"<p:preflight xmlns:p='{NAMESPACE}'>{children}</p:preflight>"
    assert token_of(make_domain(metadata=ours)) == token


def test_token_of_a_guest_without_metadata() -> None:
    assert token_of(make_domain()) is None
