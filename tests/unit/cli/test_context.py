"""skiff context: the whole way through main, on files alone."""

from pathlib import Path

import pytest

from skiff.cli.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import posix

    for name in (b"DOCKER_HOST", b"SKIFF_HOST", b"DOCKER_CONTEXT"):
        monkeypatch.delitem(posix.environ, name, raising=False)
    monkeypatch.setitem(posix.environ, b"DOCKER_CONFIG", str(tmp_path).encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_context_s_life(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["context", "create", "far", "--docker", "host=tcp://far:1", "--description", "there"]) == 0
    assert capsys.readouterr() == ("far\n", 'Successfully created context "far"\n')
    assert main(["context", "use", "far"]) == 0
    assert main(["context", "show"]) == 0
    assert capsys.readouterr().out == "far\nfar\n"
    assert main(["context", "ls", "--format", "{{.Name}} {{.Current}} {{.DockerEndpoint}}"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "far true tcp://far:1"
    assert main(["context", "export", "far"]) == 0
    assert main(["context", "import", "near", "far.dockercontext"]) == 0
    assert main(["context", "update", "near", "--description", "here"]) == 0
    capsys.readouterr()
    assert main(["context", "inspect", "-f", "{{.Metadata.Description}}", "near"]) == 0
    assert capsys.readouterr().out == "here\n"
    assert main(["context", "rm", "far", "near", "none"]) == 1
    out, err = capsys.readouterr()
    assert out == "near\n"
    assert 'context "far" is in use' in err
    assert 'context "none" does not exist' in err
    assert main(["context", "rm", "-f", "far"]) == 0
    assert main(["context", "show"]) == 0
    assert capsys.readouterr().out == "far\ndefault\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["create", "x1", "--docker", "nonsense"], 125, "nonsense must be formatted as key=value"),
        (["create", "x1", "--docker", "odd=1"], 1, "unrecognized config key: odd"),
        (["create", "x1", "--docker", "ca=/x"], 1, "no host given"),
        (["create", "x1", "--docker", "host=odd://x"], 1, "invalid docker endpoint options"),
        (["create", "x1", "--docker", "host=tcp://x,ca=/nosuch"], 1, "open /nosuch: no such file"),
        (["create", "x1", "--from", "none"], 1, 'context "none": context not found'),
        (["create", "default"], 1, "reserved"),
        (["use", "none"], 1, "context not found"),
        (["rm", "default"], 1, 'context "default" cannot be removed'),
        (["import", "x1", "/nosuch"], 1, "open /nosuch: no such file or directory"),
    ],
)
def test_what_cannot_be(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["context", *words]) == code
    assert message in capsys.readouterr().err
