"""A pair of config states and what surrounds them as JSON: what a bug report is replayed from.

    python -m conformance --emulator PATH --case FILE

The conformance suite (tests/conformance) keeps its regressions in this form, and reads it.
"""

from __future__ import annotations

import json

from ...osutil.light import TYPE_CHECKING
from ...pci.atomics import to_text
from ...pci.state import ConfigState
from ..model.properties import UNTRIED
from .setting import Setting

if TYPE_CHECKING:
    from typing import Any

ROW = 32
ANCESTORS = ("device", "pci-device")  # of QOM types whose names begin with vfio


def to_case(
    source: ConfigState, sender: Setting, destination: ConfigState, setting: Setting
) -> dict[str, Any]:
    """The case, to be written by ``json.dumps``; ``sender`` is the source's setting.

    Bytes stand by offset, in hexadecimal lines of 32; lines of zeros are left out. So are
    properties that a trial leaves out, some of them secret, and what is set of other devices.
    """
    express = setting.environment.express_root
    board = "pc-q35-" if express else "pc-i440fx-"
    known = setting.machine.startswith(board)
    return {
        "source": _device(source, sender),
        "destination": _device(destination, setting),
        "machine": setting.machine[len(board) :] if known else setting.machine,
        "placement": setting.environment.placement if express else "i440fx",
        "globals": [
            entry
            for entry in setting.globals
            if entry[1] not in UNTRIED and (entry[0] in ANCESTORS or entry[0].startswith("vfio"))
        ],
    }


def _device(state: ConfigState, setting: Setting) -> dict[str, Any]:
    config, properties = state.config, setting.environment.properties
    rows = {at: config[at : at + ROW] for at in range(0, len(config), ROW)}
    return {
        "config": {f"{at:03x}": row.hex() for at, row in rows.items() if any(row)},
        "bars": [json.dumps(bar) for bar in state.bars],
        # A report leaves the host, and UNTRIED has secrets: vf-token among them.
        "properties": [entry for entry in properties.items() if entry[0] not in UNTRIED],
        "driver": setting.driver,
        "mdev": setting.environment.mdev,
        **({} if state.atomics is None else {"atomic_ops": to_text(state.atomics)}),
        # Lines of zeros are left out, so the lines do not tell 256 from 4096 bytes.
        "size": len(config),
    }
