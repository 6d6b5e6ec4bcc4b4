"""What counts as a proof; tests/system/test_install.py has the real hook."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfio_preflight.cli.installation import proof
from vfio_preflight.cli.installation.payload import HOOK, InstallError
from vfio_preflight.guest.domain import read_guest
from vfio_preflight.guest.metadata import read_probe
from vfio_preflight.guest.xml import parse_domain
from vfio_preflight.hook.entry import may_have_vfio
from vfio_preflight.hook.probe import encode
from vfio_preflight.judge import codes
from vfio_preflight.judge.findings import Finding, Report
from vfio_preflight.judge.policy import Decision
from vfio_preflight.report.schema import as_dict


def answer(*findings: Finding) -> str:
    report = Report("g", proof.UUID, "pc-q35-9.0", "/nonexistent", findings, ())
    return encode(as_dict(report, Decision("annotate")))


def make_hook(root: Path, judging: str, otherwise: str = "exit 0") -> None:
    path = root / HOOK
    path.parent.mkdir(parents=True)
    text = f'case $2 in\nmigrate) {judging} ;;\n*) cat >>"{root}/seen"; {otherwise} ;;\nesac\n'
    path.write_text(f'#!/bin/sh\necho "$@" >>"{root}/calls"\nenv >"{root}/environment"\n{text}')
    path.chmod(0o755)


def judging(*parts: str) -> str:
    """A hook that answers in so many parts."""
    replies = " ".join(
        f"*part=\\'{n}\\'*) echo vfio-preflight-reply {n} {len(parts)} {text} >&2 ;;"
        for n, text in enumerate(parts)
    )
    return f"case $(cat) in {replies} esac; exit 1"


def test_every_operation_is_called(tmp_path: Path) -> None:
    text = answer()
    make_hook(tmp_path, judging(text[:20], text[20:]))
    proved = proof.prove(str(tmp_path))
    assert [each.call for each in proved if each.did == proof.PROVED] == ["migrate begin"]
    assert len(proved) == len(proof.CALLS)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[:2] == [f"{proof.STAND_IN_NAME} migrate begin -"] * 2
    assert calls[2:] == [f"{proof.PLAIN_NAME} {' '.join(call)}" for call in proof.CALLS[1:]]
    seen = (tmp_path / "environment").read_text().splitlines()
    names = {line.partition("=")[0] for line in seen} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert names == {"LC_ALL", "PATH", "HOME"}


@pytest.mark.parametrize(
    ("judges", "otherwise", "said"),
    [
        ("exit 0", "exit 0", "does not judge a made-up guest at migrate begin: it ended with 0"),
        ("echo no >&2; exit 1", "exit 0", "it ended with 1 and said 'no'"),
        ("kill -9 $$", "exit 0", "it ended with -9 and was silent"),
        ("", "exit 1", "pass at restore begin: it ended with 1"),
        ("", "echo x", "pass at restore begin: it ended with 0 and said 'x'"),
        ("", "echo y >&2", "pass at restore begin: it ended with 0 and said 'y'"),
    ],
)
def test_hook_that_does_not_answer(judges: str, otherwise: str, said: str, tmp_path: Path) -> None:
    make_hook(tmp_path, judges or judging(answer()), otherwise)
    with pytest.raises(InstallError) as caught:
        proof.prove(str(tmp_path))
    assert said in str(caught.value)


def test_hook_that_checks_nothing(tmp_path: Path) -> None:
    reason = "the check could not be made: /etc/vfio-preflight.conf: [policy] fial: no such setting"
    make_hook(tmp_path, judging(answer(Finding(codes.NOT_CHECKED, reason))))
    with pytest.raises(InstallError, match="judges no guest: the check could not be made: /etc"):
        proof.prove(str(tmp_path))


def test_answer_that_cannot_be_read(tmp_path: Path) -> None:
    make_hook(tmp_path, judging("nonsense"))
    with pytest.raises(InstallError, match="cannot be read"):
        proof.prove(str(tmp_path))


def test_hook_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "SECONDS", 0.2)
    make_hook(tmp_path, "exec sleep 5")
    with pytest.raises(InstallError, match=r"did not answer at migrate begin in 0\.2 seconds"):
        proof.prove(str(tmp_path))


def test_no_hook(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="cannot be executed: No such file"):
        proof.prove(str(tmp_path))


def test_guests_are_what_they_should_be() -> None:
    """One is a dry run's stand-in with a device, the other is let pass without a closer look."""
    guest = read_guest(parse_domain(proof.STAND_IN.replace("PART", "3").encode()))
    probe = read_probe(guest.name, guest.metadata)
    assert probe is not None and probe.part == 3
    assert guest.name == proof.STAND_IN_NAME and len(guest.devices) == 1
    assert not may_have_vfio(proof.PLAIN.encode())
    plain = read_guest(parse_domain(proof.PLAIN.encode()))
    assert plain.name == proof.PLAIN_NAME and not plain.devices
