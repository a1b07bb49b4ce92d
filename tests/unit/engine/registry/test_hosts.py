import pytest

from skiff.engine.registry.hosts import HUB, Hosts, is_loopback
from skiff.errors import InvalidParameter


def urls(hosts: Hosts, domain: str) -> list[tuple[str, bool]]:
    return [(endpoint.url, endpoint.verify) for endpoint in hosts.endpoints(domain)]


@pytest.mark.parametrize(
    "domain", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"]
)
def test_loopback_is_plain(domain: str) -> None:
    assert is_loopback(domain)
    assert urls(Hosts(), domain) == [(f"http://{domain}", True), (f"https://{domain}", False)]


def test_the_rest_is_not() -> None:
    assert urls(Hosts(), "example.org:5000") == [("https://example.org:5000", True)]
    assert urls(Hosts(), "docker.io") == [(HUB, True)]
    assert not is_loopback("localhost.example.org")


def test_insecure_registries() -> None:
    hosts = Hosts(insecure=["10.0.0.0/8", "reg.lan:5000", "plain.lan", "http://url.lan/"])
    for domain in ("10.1.2.3:5000", "reg.lan:5000", "plain.lan:80", "url.lan"):
        assert urls(hosts, domain) == [(f"https://{domain}", False), (f"http://{domain}", True)]
    assert urls(hosts, "reg.lan:5001") == [("https://reg.lan:5001", True)]
    assert urls(hosts, "11.1.2.3") == [("https://11.1.2.3", True)]
    with pytest.raises(InvalidParameter):
        Hosts(insecure=["a/b/c"])


def test_registry_mirrors_are_for_the_hub_only() -> None:
    hosts = Hosts(mirrors=["http://mirror.lan:5000/", "https://10.0.0.1/hub"], insecure=["10.0.0.1"])
    endpoints = hosts.endpoints("docker.io")
    assert [(one.url, one.prefix, one.is_mirror, one.verify) for one in endpoints] == [
        ("http://mirror.lan:5000", "", True, True),
        ("https://10.0.0.1", "hub/", True, False),
        (HUB, "", False, True),
    ]
    assert len(hosts.endpoints("ghcr.io")) == 1


def test_mirrors_of_any_registry_in_order() -> None:
    hosts = Hosts(
        mirrors=["https://first.lan"],
        mirrors_of={
            "docker.io": ["https://second.lan/hub"],
            "quay.io": ["https://a.lan/quay/", "https://b.lan/api/docker/v2/remote", "https://c.lan/api/v2"],
            "*": ["https://any.lan/{registry}"],
        },
    )

    def asked(domain: str) -> list[tuple[str, str]]:
        return [(one.url, one.prefix) for one in hosts.endpoints(domain)]

    assert asked("docker.io") == [("https://first.lan", ""), ("https://second.lan", "hub/"), (HUB, "")]
    assert asked("quay.io") == [
        ("https://a.lan", "quay/"),
        ("https://b.lan/api/docker", "remote/"),
        ("https://c.lan/api", ""),
        ("https://quay.io", ""),
    ]
    assert asked("ghcr.io:444") == [("https://any.lan", "ghcr.io:444/"), ("https://ghcr.io:444", "")]
    with pytest.raises(InvalidParameter, match="invalid registry 'a/b' of a mirror"):
        Hosts(mirrors_of={"a/b": ["https://x"]})


@pytest.mark.parametrize("mirror", ["mirror.lan", "ftp://x", "https://", "https://user@host"])
def test_refuses_a_mirror(mirror: str) -> None:
    with pytest.raises(InvalidParameter):
        Hosts(mirrors=[mirror])
