from __future__ import annotations

import json
from pathlib import Path

import pytest

from vfio_preflight.qemu.emulator import verified
from vfio_preflight.qemu.emulator.verified import verified_versions
from vfio_preflight.qemu.model.versions import release


def test_versions_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "verified.json"
    listed = [{"version": version} for version in ("11.1.3", "10.0.13", "10.0.2")]
    path.write_text(json.dumps({"verified": listed}))
    monkeypatch.setattr(verified, "VERIFIED_FILE", str(path))
    assert verified_versions() == ("10.0.2", "10.0.13", "11.1.3")


def test_shipped_list_is_sound() -> None:
    assert verified_versions()
    assert all(release(version) > (8, 0) for version in verified_versions())
