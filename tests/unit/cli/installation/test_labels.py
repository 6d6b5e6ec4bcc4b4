from __future__ import annotations

from pathlib import Path

import pytest

from vfio_preflight.cli.installation import labels


@pytest.fixture
def selinux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with SELinux, whose restorecon is a script to be written."""
    (tmp_path / "enforce").write_text("1")
    program = tmp_path / "restorecon"
    monkeypatch.setattr(labels, "SELINUX", str(tmp_path / "enforce"))
    monkeypatch.setattr(labels, "RESTORECON", (str(tmp_path / "none"), str(program)))
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    program.chmod(0o755)
    return program


def test_labels_of_what_is_there_are_restored(selinux: Path, tmp_path: Path) -> None:
    assert labels.restore([str(selinux), str(tmp_path / "missing")]) == ""
    assert (tmp_path / "calls").read_text() == f"-R {selinux}\n"


def test_host_without_selinux(
    selinux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "SELINUX", str(tmp_path / "none"))
    assert labels.restore([str(selinux)]) == ""
    assert not (tmp_path / "calls").exists()


def test_no_restorecon(selinux: Path) -> None:
    selinux.chmod(0o644)
    assert "there is no restorecon" in labels.restore([str(selinux)])


def test_restorecon_that_fails(selinux: Path) -> None:
    selinux.write_text("#!/bin/sh\necho Operation not supported >&2\nexit 255\n")
    assert labels.restore([str(selinux)]).endswith("restorecon: Operation not supported")
