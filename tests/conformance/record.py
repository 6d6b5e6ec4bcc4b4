"""The list of QEMU versions on which the model was verified: part of the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vfio_preflight.qemu.machines import EmulatorFacts
from vfio_preflight.qemu.versions import VERIFIED_FILE, numbers


def record(facts: EmulatorFacts, pairs: int, seed: int, path: Path = Path(VERIFIED_FILE)) -> None:
    """Enter an emulator that agreed on all of its pairs; of a version, the last run stands."""
    own = {"version": facts.version, "package": facts.package, "pairs": pairs, "seed": seed}
    entries = [entry for entry in _read(path) if entry["version"] != facts.version]
    entries.append(own)
    entries.sort(key=lambda entry: numbers(entry["version"]))
    path.write_text(json.dumps({"verified": entries}, indent=1) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["verified"]) if path.exists() else []
