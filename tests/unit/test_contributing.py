"""The recipes of CONTRIBUTING.md apply to the tree as it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
TEXT = (CHECKOUT / "CONTRIBUTING.md").read_text()
DIFFS = re.findall(r"^### (.*?)$.*?^```diff\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("recipe", "diff"), DIFFS, ids=[recipe for recipe, _ in DIFFS])
def test_recipe_applies(recipe: str, diff: str) -> None:
    done = subprocess.run(
        ["git", "apply", "--check", "--verbose", "-"],
        cwd=CHECKOUT,
        input=diff,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_there_is_a_recipe_for_each_kind_of_change() -> None:
    assert len(DIFFS) == 4
