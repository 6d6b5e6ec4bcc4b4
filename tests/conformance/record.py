"""The list of QEMU versions on which the model was verified: part of the package, and a row of the
README's table "Verified on", which is made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vfio_preflight.qemu.emulator.machines import EmulatorFacts
from vfio_preflight.qemu.emulator.verified import VERIFIED_FILE
from vfio_preflight.qemu.model.versions import numbers

README = Path(__file__).parents[2] / "README.md"
_ROW = "| the model, by `make conformance` | "


def record(
    facts: EmulatorFacts,
    pairs: int,
    seed: int,
    path: Path = Path(VERIFIED_FILE),
    readme: Path = README,
) -> None:
    """Enter an emulator that agreed on all of its pairs; of a version, the last run stands."""
    own = {"version": facts.version, "package": facts.package, "pairs": pairs, "seed": seed}
    entries = [entry for entry in _read(path) if entry["version"] != facts.version]
    entries.append(own)
    entries.sort(key=lambda entry: numbers(entry["version"]))
    path.write_text(json.dumps({"verified": entries}, indent=1) + "\n")
    lines = readme.read_text().splitlines(keepends=True)
    readme.write_text(
        "".join(f"{row(path)}\n" if line.startswith(_ROW) else line for line in lines)
    )


def row(path: Path = Path(VERIFIED_FILE)) -> str:
    """The README's row."""
    entries = [f"QEMU {entry['version']} ({entry['pairs']} pairs)" for entry in _read(path)]
    return f"{_ROW}{'; '.join(entries)} |"


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["verified"]) if path.exists() else []
