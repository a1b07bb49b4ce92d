from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.options import parse_flags, usage
from skiff.engine.settings import Read, Settings, reload, settings
from skiff.errors import InvalidParameter, NotFound


def file(content: Any) -> Read:
    raw = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return lambda path: raw


def no_file(path: str) -> bytes:
    raise NotFound(path)


def test_without_anything_the_defaults_hold() -> None:
    assert settings([], no_file) == Settings(config_file="/etc/skiff/daemon.json")


@pytest.mark.parametrize(
    "words",
    [
        ["--host", "unix:///a", "--host=unix:///b"],
        ["-H", "unix:///a", "-H", "unix:///b"],
        ["-Hunix:///a", "-H=unix:///b"],
    ],
)
def test_hosts_come_several_times_in_every_form(words: list[str]) -> None:
    assert settings(words, no_file).hosts == ("unix:///a", "unix:///b")


def test_joined_short_switches() -> None:
    asked = settings(["-Dl", "warn"], no_file)
    assert asked.debug and asked.log_level == "warn"


def test_switches_take_a_value_only_after_an_equals_sign() -> None:
    assert not settings(["--debug=false"], no_file).debug
    with pytest.raises(InvalidParameter, match="accepts no arguments"):
        settings(["--debug", "false"], no_file)


@pytest.mark.parametrize(("value", "seconds"), [(0, 0), ("0", 0), ("48h", 172800), ({"grace": "1m"}, 60)])
def test_the_trash_takes_a_span_alone(value: Any, seconds: int) -> None:
    assert settings([], file({"trash": value})).trash.grace_ns == seconds * 10**9


def test_the_file_and_the_flags_add_up() -> None:
    asked = settings(["-D"], file({"hosts": ["tcp://127.0.0.1:1"], "log-opts": {"max-size": "1m"}}))
    assert asked.debug
    assert asked.hosts == ("tcp://127.0.0.1:1",)
    assert asked.log_opts == {"max-size": "1m"}


@pytest.mark.parametrize(
    ("words", "content", "says"),
    [
        (["--nope"], {}, "unknown flag: --nope"),
        (["-Z"], {}, "unknown shorthand flag: 'Z' in -Z"),
        (["-H"], {}, "flag needs an argument: 'H' in -H"),
        (["--host"], {}, "flag needs an argument: --host"),
        (["--debug=maybe"], {}, 'invalid argument "maybe" for "--debug" flag'),
        (["extra"], {}, "accepts no arguments"),
        ([], {"foo": 1, "bar": 2}, "the following directives don't match any configuration option: foo, bar"),
        ([], {"config-file": "/x"}, "don't match any configuration option: config-file"),
        (
            ["-H", "unix:///a"],
            {"hosts": ["unix:///b"]},
            "the following directives are specified both as a flag and in the configuration file: "
            "hosts: (from flag: [unix:///a], from file: [unix:///b])",
        ),
        ([], {"debug": "yes"}, "invalid value for debug"),
        ([], b"{bad", "unable to configure the Docker daemon with file"),
        ([], b"[]", "unable to configure the Docker daemon with file"),
        ([], {"userns-remap": "default"}, "skiff does not do userns-remap yet"),
        (["--userns-remap", "default"], {}, "skiff does not do --userns-remap yet"),
        (["--ipv6"], {}, "skiff does not do --ipv6 yet"),
        (
            ["--default-address-pool", "base=10.0.0.0/8,size=24"],
            {},
            "skiff does not do --default-address-pool",
        ),
        (["-l", "loud"], {}, "invalid logging level: loud"),
        (["--label", "novalue"], {}, "bad attribute format: novalue"),
        (["--registry-mirror", "mirror.local"], {}, "invalid mirror"),
        (["--insecure-registry", "http://x"], {}, "insecure registry http://x"),
        (["-H", "ftp://x"], {}, "invalid bind address format: ftp://x"),
        (["--default-runtime", "kata"], {}, "specified default runtime 'kata' does not exist"),
        (["-s", "btrfs"], {}, "unknown storage driver btrfs"),
        (["--log-driver", "gelf"], {}, "no log driver gelf"),
        (["--default-ulimit", "nofile=9:1"], {}, "soft limit must be less than or equal"),
        (["--max-concurrent-downloads", "0"], {}, "invalid max concurrent downloads: 0"),
    ],
)
def test_what_is_refused(words: list[str], content: Any, says: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        settings(words, file(content))
    assert says in str(refused.value)


def test_options_that_ask_for_what_happens_anyway_are_accepted() -> None:
    settings(["--iptables=true"], file({"userland-proxy": False, "experimental": False}))


def test_a_named_file_must_exist() -> None:
    with pytest.raises(InvalidParameter, match="no such file"):
        settings(["--config-file", "/nowhere"], no_file)


def test_docker_s_file_is_read_when_there_is_no_other() -> None:
    def read(path: str) -> bytes:
        if path == "/etc/docker/daemon.json":
            return b'{"debug":true}'
        raise NotFound(path)

    assert settings([], read).debug


def test_runtimes_and_ulimits() -> None:
    asked = settings(
        ["--add-runtime", "crun=/usr/bin/crun", "--default-runtime=crun", "--default-ulimit", "nofile=10:20"],
        no_file,
    )
    assert asked.runtimes["crun"].path == "/usr/bin/crun"
    limit = asked.default_ulimits["nofile"]
    assert (limit.soft, limit.hard) == (10, 20)
    from_file = settings([], file({"runtimes": {"r": {"path": "/r", "runtimeArgs": ["--debug"]}}}))
    assert from_file.runtimes["r"].arguments == ("--debug",)


def test_a_reload_takes_only_what_can_change() -> None:
    before = settings(["--data-root", "/a"], file({}))
    after = reload(before, ["--data-root", "/a"], file({"labels": ["a=b"], "hosts": ["unix:///new"]}))
    assert after.labels == ("a=b",)
    assert after.hosts == ()


def test_usage_names_every_option_that_is_done() -> None:
    text = usage()
    assert "-H, --host list" in text
    assert "--userns-remap" not in text


@given(st.lists(st.text(max_size=12), max_size=6))
def test_no_command_line_crashes_the_parser(words: list[str]) -> None:
    try:
        parse_flags(words)
    except InvalidParameter:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["hosts", "debug", "log-opts", "runtimes", "mtu", "bip", "x"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_no_file_crashes_the_engine(content: Any) -> None:
    try:
        settings([], file(msgspec.json.encode(content)))
    except InvalidParameter:
        pass
