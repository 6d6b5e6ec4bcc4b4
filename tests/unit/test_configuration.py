from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_preflight.configuration import (
    Configuration,
    ConfigurationError,
    load,
    parse,
    parsed,
    plain,
)
from vfio_preflight.judge.verdicts import CHOICES, DEFAULT_POLICY

SHIPPED = Path(__file__).parents[2] / "etc" / "vfio-preflight.conf"


def complaint(text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "/etc/x.conf")
    assert str(caught.value).startswith("/etc/x.conf: ")
    assert "\n" not in str(caught.value)
    return caught.value


def test_missing_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(str(tmp_path / "none.conf")) == Configuration()


def test_empty_file_means_the_defaults() -> None:
    assert parse("") == Configuration()


def test_defaults() -> None:
    settings = Configuration()
    assert settings.policy == DEFAULT_POLICY
    assert (settings.on_error, settings.deadline, settings.annotate) == ("allow", 10.0, "always")
    assert settings.guest_override == "stricter" and settings.vsc_tolerant == ()


def test_shipped_file_is_the_defaults() -> None:
    assert parse(SHIPPED.read_text()) == Configuration()


def test_shipped_file_shows_every_setting_with_its_default() -> None:
    text = SHIPPED.read_text()
    shown = "".join(
        line[1:] if line.startswith("#") and " = " in line[:20] else line
        for line in text.splitlines(keepends=True)
    )
    assert parse(shown) == Configuration()
    keys = {line.partition("=")[0].strip("# ") for line in text.splitlines() if " =" in line}
    assert keys >= {*CHOICES, "vsc-tolerant", "guest-override", "on-error", "deadline", "annotate"}
    assert keys >= {"log", "states", "cache", "catalogue", "evidence", "vendor-rules"}


def test_every_setting() -> None:
    settings = parse(
        """
        [policy]
        pass = allow
        tolerated = block
        unknown = block
        fail = mend
        vsc-tolerant = 10DE:2236, 15b3:*
            8086:0001
        evidence = vfio
        guest-override = no
        [hook]
        on-error = block          # loud
        deadline = 2.5
        annotate = never
        log = /var/log/x.log
        [paths]
        states = /srv/states
        cache = /srv/cache
        catalogue = /srv/catalogue
        vendor-rules = /srv/rules
        """.replace("\n        ", "\n")
    )
    assert settings == Configuration(
        policy={"pass": "allow", "tolerated": "block", "unknown": "block", "fail": "mend"},
        guest_override="no",
        vsc_tolerant=("10de:2236", "15b3:*", "8086:0001"),
        evidence="vfio",
        on_error="block",
        deadline=2.5,
        annotate="never",
        log="/var/log/x.log",
        states="/srv/states",
        cache="/srv/cache",
        catalogue="/srv/catalogue",
        vendor_rules="/srv/rules",
    )


@pytest.mark.parametrize(
    ("verdict", "action"), [(v, a) for v, choices in CHOICES.items() for a in choices]
)
def test_policy(verdict: str, action: str) -> None:
    assert parse(f"[policy]\n{verdict} = {action}\n").policy[verdict] == action


@pytest.mark.parametrize("log", ["syslog", "none", "/x"])
def test_log(log: str) -> None:
    assert parse(f"[hook]\nlog = {log}\n").log == log


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[polcy]\nfail = allow\n", ["no section [polcy]", "hook, paths, policy"]),
        ("[DEFAULT]\ndeadline = 1\n", ["no section [DEFAULT]"]),
        ("[policy]\nfial = allow\n", ["[policy] fial: no such setting", "fail", "vsc-tolerant"]),
        ("[hook]\nfail = allow\n", ["[hook] fail: no such setting", "on-error"]),
        ("[policy]\nfail = refuse\n", ["[policy] fail: 'refuse' is none of: block, annotate"]),
        ("[policy]\npass = block\n", ["[policy] pass: 'block' is none of"]),
        ("[policy]\nunknown = mend\n", ["[policy] unknown: 'mend' is none of"]),
        ("[policy]\nfail = Block\n", ["'Block' is none of"]),
        ("[policy]\nguest-override = true\n", ["[policy] guest-override: 'true' is none of: stri"]),
        ("[policy]\nevidence = proof\n", ["[policy] evidence: 'proof' is none of: stream, vfio"]),
        ("[policy]\nvsc-tolerant = 10de\n", ["[policy] vsc-tolerant: '10de' is not vendor:device"]),
        ("[policy]\nvsc-tolerant = *:2236\n", ["'*:2236' is not vendor:device"]),
        ("[policy]\nvsc-tolerant = 10de:22\n", ["'10de:22' is not vendor:device"]),
        ("[policy]\nvsc-tolerant = 10de:22zz\n", ["is not vendor:device in hexadecimal"]),
        ("[hook]\non-error = mend\n", ["[hook] on-error: 'mend' is none of: allow, block"]),
        ("[hook]\ndeadline = soon\n", ["[hook] deadline: 'soon' is not a number of seconds"]),
        ("[hook]\ndeadline = 0\n", ["from 0.1 to 600"]),
        ("[hook]\ndeadline = 601\n", ["from 0.1 to 600"]),
        ("[hook]\ndeadline = nan\n", ["from 0.1 to 600"]),
        ("[hook]\ndeadline = -1\n", ["from 0.1 to 600"]),
        ("[hook]\nannotate = yes\n", ["[hook] annotate: 'yes' is none of: always, never"]),
        ("[hook]\nlog = x.log\n", ["[hook] log: 'x.log' is not an absolute path"]),
        ("[paths]\nstates = states\n", ["[paths] states: 'states' is not an absolute path"]),
        ("[paths]\ncache =\n", ["[paths] cache: '' is not an absolute path"]),
        ("fail = allow\n", ["no section headers"]),
        ("[policy]\nfail allow\n", ["fail allow"]),
        ("[policy]\nfail = allow\nfail = block\n", ["already exists"]),
        ("[policy]\n[policy]\n", ["already exists"]),
    ],
)
def test_typo(text: str, parts: list[str]) -> None:
    error = complaint(text)
    assert all(part in str(error) for part in parts), str(error)
    assert error.on_error == "allow"


@pytest.mark.parametrize(
    "text",
    [
        "[hook]\non-error = block\ndeadline = soon\n",
        "[hook]\ndeadline = soon\non-error=block # loud\n",
        "[hook]\non-error = block\n[polcy]\n",
        "[hook]\non-error = block\nfail allow\n",
        "fail = allow\n[hook]\non-error = block\n",
        "[hook]\non-error = block\nlog = none\nlog = none\n",
        "[hook]\nOn-Error = block\ndeadline = soon\n",
        "# caf\udce9\n[hook]\non-error = block\n",
        "[hook]\non-error = block\nlog = /x\udce9\n",
    ],
)
def test_broken_file_still_says_what_to_do_on_error(text: str) -> None:
    assert complaint(text).on_error == "block"


@pytest.mark.parametrize("line", ["# on-error = block", "on-error = blocks", "no-error = block"])
def test_what_does_not_say_block(line: str) -> None:
    assert complaint(f"[hook]\n{line}\ndeadline = soon\n").on_error == "allow"


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load(str(tmp_path))


def test_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read: line 1 is not UTF-8"):
        load(str(path))


def test_comment_in_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(b"[hook]\n# d\xe9lai\non-error = block\n")
    with pytest.raises(ConfigurationError, match="cannot be read: line 2 is not UTF-8") as caught:
        load(str(path))
    assert caught.value.on_error == "block"


def test_byte_order_mark_is_none_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(b"\xef\xbb\xbf[hook]\non-error = block\n")
    assert load(str(path)) == Configuration(on_error="block")


def test_keys_are_taken_in_any_case() -> None:
    assert parse("[hook]\nOn-Error = block\n").on_error == "block"


def test_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.conf")
    with pytest.raises(
        ConfigurationError, match=r"x\.conf: cannot be read: it is not a regular file"
    ):
        load(str(tmp_path / "x.conf"))


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["[policy]", "[hook]", "[paths]", "fail = mend", "deadline = 1", " x"]),
            st.text(max_size=20),
        ),
        max_size=6,
    )
)
def test_any_text_gives_settings_or_a_configuration_error(lines: list[str]) -> None:
    try:
        settings = parse("\n".join(lines))
    except ConfigurationError as error:
        assert str(error)
    else:
        assert 0.1 <= settings.deadline <= 600


@pytest.mark.parametrize(
    ("line", "log"),
    [
        ("log = /var/log/x y.log  # here", "/var/log/x y.log"),
        ("LOG=/a", "/a"),
        ("log = none", "syslog"),
        ("log = syslog", "syslog"),
        ("log = nonsense", "syslog"),
        ("#log = /a", "syslog"),
    ],
)
def test_error_is_told_where_the_operator_looks(line: str, log: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(f"[hook]\n{line}\ntypo = 1\n")
    assert caught.value.log == log


def test_file_that_is_not_read_to_its_end_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_text(
        "[policy]\nfail = allow\n" + "#\n" * (1 << 19) + "fail = block"
    )
    with pytest.raises(ConfigurationError, match="it has over 1048576 bytes"):
        load(str(tmp_path / "x.conf"))


PIECES = (
    *("[hook]", "[paths]", "log", "LOG", "=", "none", "a = b\n", "[x]\n"),
    *(" ", "\t", "#", ";", "\n", "]", "[", ":", "\r\n", "\x0b", "\xa0"),
)


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_plain_text_is_read_as_configparser_reads_it(text: str) -> None:
    found = plain(text)
    assert found is None or found == parsed(text, "x")


def test_the_usual_file_needs_no_configparser() -> None:
    assert plain("# comment\n\n[hook]\nLog = none\n ; another\n[policy]\nfail=mend\n") == {
        "hook": {"log": "none"},
        "policy": {"fail": "mend"},
    }
    assert plain("[hook]\nlog = none # quiet\n") is None
