"""lxml without inspect, and inspect where it is used after all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vfio_preflight

PLUGIN = Path(vfio_preflight.__file__).parents[1]
BEGIN = f"""
import sys
sys.path.append({str(PLUGIN)!r})
from vfio_preflight.osutil.postponed import end_postponing, postpone_inspect
postpone_inspect()
import lxml.etree
"""


def run(program: str) -> str:
    command = [sys.executable, "-c", BEGIN + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_lxml_does_without_it() -> None:
    """Were lxml to ask for more of it, it would be loaded."""
    assert run("print('ast' in sys.modules, type(sys.modules['inspect']).__name__)") == (
        "False _Inspect"
    )


@pytest.mark.parametrize("before", ["", "end_postponing()\n"])
def test_who_asks_for_it_gets_it(before: str) -> None:
    said = run(f"{before}import inspect\nprint(inspect.isfunction(run := lambda x: x))")
    assert said == "True"
    assert run(f"{before}from inspect import signature\nprint(signature(lambda x: x))") == "(x)"
    assert run(f"{before}import dataclasses\nprint(sys.modules['inspect'].__name__)") == "inspect"


def test_what_lxml_has_of_it_works() -> None:
    """Of a parser target lxml asks how many arguments its methods take."""
    program = """
class Target:
    def start(self, tag, attributes, namespaces):
        self.namespaces = namespaces
    def close(self):
        return self.namespaces
parser = lxml.etree.XMLParser(target=Target())
print(lxml.etree.fromstring("<a xmlns='u'/>", parser))
"""
    for ended in ("", "end_postponing()\n"):
        assert run(f"{ended}{program}") == "{'': 'u'}"


def test_one_that_is_loaded_is_kept() -> None:
    program = "import inspect\nkept = sys.modules['inspect']\n"
    assert run(f"end_postponing()\n{program}postpone_inspect()\nimport inspect\nend_postponing()\n"
               "print(inspect is kept and sys.modules['inspect'] is kept)") == "True"  # fmt: skip
