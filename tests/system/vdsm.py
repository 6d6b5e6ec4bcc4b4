"""Runs the executables of a VDSM hook point as VDSM 4.5 does, and prints what came of it as JSON.

    vdsm.py DIRECTORY <XML    in a host, as user vdsm

Source: VDSM, ``_runHooksDir()`` in lib/vdsm/common/hooks.py. Written anew, without VDSM's code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STOP = 2


def run_hooks(directory: Path, xml: bytes, custom: Mapping[str, str] = {}) -> dict[str, Any]:
    """``ran``: the hooks with exit status and stderr; ``error``: what VDSM gives to the engine,
    None if the migration goes on; ``xml``: what is then in the file.

    ``custom`` are the guest's custom properties.
    """
    found = sorted(p for p in directory.iterdir() if p.is_file() and os.access(p, os.X_OK))
    descriptor, name = tempfile.mkstemp()
    try:
        os.write(descriptor, xml)
        os.close(descriptor)
        environment = {**os.environ, **custom, "_hook_domxml": name}
        # VDSM adds its own module "hooking" there, and the guest's UUID as vmId.
        environment["PYTHONPATH"] = f"{environment.get('PYTHONPATH', '')}:/usr/lib/lab-hooking"
        ran: list[dict[str, Any]] = []
        for path in found:
            # communicate() waits for everybody who holds the hook's stdout or stderr.
            done = subprocess.run(
                [path], stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False
            )
            err = done.stderr.decode("utf-8", "replace")
            ran.append({"name": path.name, "status": done.returncode, "err": err})
            if done.returncode == STOP:
                break
        # Not the stderr of the hook that failed, but of the last one that ran.
        failed = any(each["status"] != 0 for each in ran)
        error = ran[-1]["err"] if failed else None
        return {"ran": ran, "error": error, "xml": Path(name).read_text()}
    finally:
        os.unlink(name)


if __name__ == "__main__":
    print(json.dumps(run_hooks(Path(sys.argv[1]), sys.stdin.buffer.read())))
