"""The manual pages: what --help and the configuration say, in markup that is right."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from generator import changelog, commandline, pages
from generator.stage import PROSE
from vfio_preflight import __version__

from .conftest import CHECKOUT

TOP = commandline.read()
PAGES = {
    "vfio-preflight.1": pages.command(TOP),
    "vfio-preflight.conf.5": pages.configuration(),
    "vfio-preflight-hook.8": pages.hook(PROSE.read_text()),
}


def rendered(page: str) -> str:
    """As a reader sees it, all white space one."""
    command = ["mandoc", "-Tutf8", "-O", "width=200"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=True)
    # Overstrikes are bold and underlined letters.
    return " ".join(re.sub(".\b", "", done.stdout).split())


@pytest.mark.parametrize("name", PAGES)
def test_markup_is_right(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(PAGES[name])
    for command in (["mandoc", "-Tlint", "-Wwarning"], ["man", "--warnings=all", "-l"]):
        done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
        # Whether the pages beside it are installed is nothing of this one.
        said = done.stderr + done.stdout * (command[0] == "mandoc")
        assert [
            line for line in said.splitlines() if "referenced manual not found" not in line
        ] == []


@pytest.mark.parametrize("name", PAGES)
def test_each_says_which_version_it_is_of(name: str) -> None:
    assert f"vfio-preflight {__version__}" in rendered(PAGES[name])


def test_all_of_help_is_in_the_page() -> None:
    page = rendered(PAGES["vfio-preflight.1"])
    for command in TOP.walk():
        assert " ".join(command.words[1:]) in page
        for part in (command.description, *(argument.help for argument in command.arguments)):
            assert " ".join(part.split()) in page
        for argument in command.arguments:
            assert all(word in page for word in (*argument.flags, *argument.values))


def test_help_has_no_more_than_the_page() -> None:
    """Word for word what argparse prints, so that the reading of its parsers leaves nothing out."""
    page = rendered(PAGES["vfio-preflight.1"])
    for command in TOP.walk():
        words = ["python3", "-m", "vfio_preflight", *command.words[1:], "--help"]
        environment = {
            "PYTHONPATH": str(CHECKOUT / "plugin"),
            "COLUMNS": "1000",
            "PATH": "/usr/bin",
        }
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            text = re.split(r"\s{2,}", line.strip())[-1]
            if (
                not line.startswith("usage:")
                and not text.endswith(":")
                and text not in ("ACTION", "COMMAND")
            ):
                assert (
                    " ".join(text.split()).lower().removeprefix("exit status: ") in page.lower()
                ), text


def test_every_setting_is_in_its_page() -> None:
    page = rendered(PAGES["vfio-preflight.conf.5"])
    shipped = (CHECKOUT / "etc/vfio-preflight.conf").read_text()
    settings = re.findall(r"(?m)^#([a-z-]+ =.*)$", shipped)
    assert len(settings) > 15
    for setting in settings:
        assert " ".join(setting.split()) in page
    comments = re.findall(r"(?m)^# (.*)$", shipped)
    for line in comments:
        assert " ".join(line.split()) in page


def test_changelogs_begin_with_this_version() -> None:
    releases = changelog.releases()
    assert releases[0].version == __version__
    assert changelog.debian(releases).startswith(f"vfio-preflight ({__version__}) unstable;")
    assert f" - {__version__}-1\n- " in changelog.rpm(releases)
    done = subprocess.run(
        ["dpkg-parsechangelog", "-l", "-", "--show-field", "Version"],
        input=changelog.debian(releases), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == __version__
    assert done.stderr == ""


@pytest.mark.parametrize(
    "text", ["- a change of nothing\n", "0.1.0 yesterday\n", "0.1.0 2026-01-01\nwhat\n"]
)
def test_changes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a release nor a change"):
        changelog.read(text)
