"""Contexts in files, in a tar and in a zip."""

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.client import contexts
from skiff.client.contexts import Context, Store
from skiff.errors import Conflict, InvalidParameter, NotFound

PEM = b"-----BEGIN CERTIFICATE-----\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_written_read_listed_removed(store: Store) -> None:
    far = contexts.made("far", "over there", "tcp://far:2376", skip_verify=True)
    far.tls["ca.pem"] = PEM
    store.create(far)
    store.create(contexts.made("another", "", "unix:///x"))
    assert store.names() == ["another", "far"]
    read = store.read("far")
    assert (read.description, read.docker["Host"], read.tls) == (
        "over there",
        "tcp://far:2376",
        {"ca.pem": PEM},
    )
    endpoint = store.endpoint("far")
    assert endpoint.tls is not None
    assert (endpoint.tls.verify, endpoint.tls.ca) == (False, f"{store.tls_path('far')}/docker/ca.pem")
    assert Path(endpoint.tls.ca).stat().st_mode & 0o777 == 0o600
    store.remove("far")
    assert store.names() == ["another"]
    with pytest.raises(NotFound, match=r'context "far": context not found: open .*meta.json: no such file'):
        store.read("far")


def test_a_name_is_free_and_well_formed(store: Store) -> None:
    store.create(contexts.made("taken", "", "unix:///x"))
    with pytest.raises(Conflict, match='context "taken" already exists'):
        store.create(contexts.made("taken", "", "unix:///y"))
    for name, words in (
        ("default", "reserved"),
        ("", "empty"),
        ("a b", "invalid"),
        ("-a", "invalid"),
        ("a", "invalid"),
    ):
        with pytest.raises(InvalidParameter, match=words):
            store.create(contexts.made(name, "", "unix:///x"))


def test_what_others_put_into_a_context_stays(store: Store) -> None:
    context = contexts.made("far", "", "tcp://far:1")
    context.meta["Endpoints"]["kubernetes"] = {"Host": "k"}
    store.create(context)
    assert store.read("far").meta["Endpoints"]["kubernetes"] == {"Host": "k"}


def test_a_file_that_is_no_context_is_named(store: Store) -> None:
    store.create(contexts.made("far", "", "tcp://far:1"))
    path = Path(store.meta_path("far"), "meta.json")
    path.write_text("[]")
    with pytest.raises(InvalidParameter, match="malformed context"):
        store.read("far")


def test_exported_and_imported() -> None:
    far = Context(contexts.made("far", "there", "tcp://far:1").meta, {"key.pem": PEM})
    back = contexts.imported(contexts.exported(far), "near")
    assert back.meta == far.meta | {"Name": "near"}
    assert back.tls == far.tls


def test_a_zip_is_understood_too() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("meta.json", '{"Name": "far", "Metadata": {"Description": "d"}}')
        archive.writestr("tls/docker/ca.pem", PEM)
    near = contexts.imported(out.getvalue(), "near")
    assert (near.meta["Name"], near.description, near.tls) == ("near", "d", {"ca.pem": PEM})


def test_a_strange_file_in_an_archive_is_refused() -> None:
    far = Context(contexts.made("far", "", "tcp://far:1").meta, {"../../x": PEM})
    with pytest.raises(InvalidParameter, match="unexpected file"):
        contexts.imported(contexts.exported(far), "near")


@given(st.one_of(st.binary(max_size=2048), st.binary(max_size=2048).map(lambda rest: b"PK\x03\x04" + rest)))
def test_any_bytes_are_a_context_or_refused(data: bytes) -> None:
    with pytest.raises(InvalidParameter, match=r"."):
        contexts.imported(data, "x")


@given(st.data())
def test_a_damaged_archive_is_a_context_or_refused(data: st.DataObject) -> None:
    whole = bytearray(
        contexts.exported(Context(contexts.made("far", "", "tcp://far:1").meta, {"ca.pem": PEM}))
    )
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert (
            contexts.imported(bytes(whole[: data.draw(st.integers(0, len(whole)))]), "x").meta["Name"] == "x"
        )
    except InvalidParameter:
        pass
