"""Nothing lost that anyone wanted: undo, the trash, snapshots, forks, rollbacks, volumes."""

import json

from tests.integration.engines import Engine, wait_for

RUN = ("run", "-d", "--network", "none")
DATABASE = "mkdir -p /db; [ -f /db/rows ] || echo precious > /db/rows; exec sleep 1000"


def database(engine: Engine, name: str, *flags: str, script: str = DATABASE) -> str:
    id = engine.docker(*RUN, "--name", name, *flags, "busybox", "sh", "-c", script).ok()
    wait_for(lambda: engine.docker("exec", name, "cat", "/db/rows").code == 0, 10, lambda: "no rows")
    return id


def rows(engine: Engine, name: str, path: str = "/db/rows") -> str:
    return engine.docker("exec", name, "cat", path).ok()


def undo(engine: Engine, count: int = 1) -> list[str]:
    reply = engine.client.post("/skiff/trash/undo", count=count)
    assert reply.status == 200, reply
    return [f"{one['Type']} {one['Name']}" for one in reply.json()["Restored"]]


def volumes(engine: Engine) -> set[str]:
    return set(engine.docker("volume", "ls", "-q").ok().split())


def test_database_in_a_container_stop_rm_undo_brings_the_data_back(engine: Engine) -> None:
    id = database(engine, "db")
    engine.docker("stop", "-t", "0", "db").ok()
    engine.docker("rm", "db").ok()
    assert engine.docker("ps", "-aq").ok() == ""
    assert undo(engine) == ["container db"]
    assert engine.docker("ps", "-aq", "--no-trunc").ok() == id
    engine.docker("start", "db").ok()
    assert rows(engine, "db") == "precious"
    assert "precious" not in engine.docker("logs", "db").ok()


def test_the_name_is_free_at_once(engine: Engine) -> None:
    database(engine, "db")
    engine.docker("rm", "-f", "db").ok()
    database(engine, "db", script="mkdir /db; echo new > /db/rows; exec sleep 1000")
    reply = engine.client.post("/skiff/trash/undo")
    assert reply.status == 409
    assert "skiff trash restore --name NEW" in reply.json()["message"]
    entry = engine.client.get("/skiff/trash").json()["Entries"][0]
    assert engine.client.post(f"/skiff/trash/{entry['Id']}/restore", name="old").status == 200
    engine.docker("start", "old").ok()
    assert (rows(engine, "db"), rows(engine, "old")) == ("new", "precious")


def test_rm_v_takes_anonymous_volumes_and_undo_brings_them_back(engine: Engine) -> None:
    before = volumes(engine)
    database(engine, "db", "-v", "/db", "-v", "named:/named")
    anonymous = volumes(engine) - before - {"named"}
    assert len(anonymous) == 1
    assert len(next(iter(anonymous))) == 64
    engine.docker("rm", "-f", "-v", "db").ok()
    assert volumes(engine) - before == {"named"}
    assert sorted(undo(engine)) == ["container db", *(f"volume {name}" for name in anonymous)]
    assert volumes(engine) - before == {"named", *anonymous}
    engine.docker("start", "db").ok()
    assert rows(engine, "db") == "precious"


def test_rm_leaves_anonymous_volumes_and_they_are_listed_weirdly(engine: Engine) -> None:
    before = volumes(engine)
    database(engine, "db", "-v", "/db")
    engine.docker("rm", "-f", "db").ok()
    assert len(volumes(engine) - before) == 1
    assert engine.docker("volume", "ls", "-qf", "dangling=true").ok() in volumes(engine) - before


def test_run_rm_loses_its_anonymous_volumes_and_no_named_one(engine: Engine) -> None:
    before = volumes(engine)
    trash = len(engine.client.get("/skiff/trash").json()["Entries"])
    engine.docker("run", "--rm", "--network", "none", "-v", "/a", "-v", "kept:/k", "busybox", "true").ok()
    assert volumes(engine) - before == {"kept"}
    assert len(engine.client.get("/skiff/trash").json()["Entries"]) == trash


def test_a_removed_volume_comes_back_with_its_content(engine: Engine) -> None:
    database(engine, "db", "-v", "rows:/db")
    assert engine.docker("volume", "rm", "rows").err.startswith(
        "Error response from daemon: remove rows: volume is in use - ["
    )
    engine.docker("rm", "-f", "db").ok()
    engine.docker("volume", "rm", "rows").ok()
    assert engine.docker("volume", "inspect", "rows").code == 1
    assert undo(engine, 2) == ["volume rows", "container db"]
    engine.docker("start", "db").ok()
    assert rows(engine, "db") == "precious"


def test_pruned_things_come_back_together(engine: Engine) -> None:
    for name in ("one", "two"):
        engine.docker("create", "--name", name, "--network", "none", "busybox").ok()
    would = engine.client.get("/skiff/prunable/containers").json()
    assert len(would["ContainersDeleted"]) == 2
    assert len(engine.docker("ps", "-aq").ok().split()) == 2
    engine.docker("container", "prune", "-f").ok()
    assert engine.docker("ps", "-aq").ok() == ""
    assert sorted(undo(engine)) == ["container one", "container two"]


def test_removed_images_come_back(own_engine: Engine) -> None:
    engine = own_engine
    engine.docker("tag", "busybox", "mine:1").ok()
    engine.docker("rmi", "mine:1").ok()
    removed = engine.docker("rmi", "busybox").ok()
    assert removed.startswith("Untagged: busybox:latest\nDeleted: sha256:")
    assert engine.docker("images", "-q").ok() == ""
    assert undo(engine, 2) == ["image busybox:latest", "image mine:1"]
    assert engine.docker("run", "--rm", "--network", "none", "mine:1", "echo", "here").ok() == "here"
    engine.docker("rmi", "mine:1", "busybox").ok()
    assert engine.client.delete("/skiff/trash").status == 200
    content = json.loads(json.dumps(engine.client.get("/skiff/check").json()))
    assert content == {"Problems": []}
    assert engine.docker("system", "df").ok()


def test_what_was_removed_survives_a_crash(own_engine: Engine) -> None:
    engine = own_engine
    database(engine, "db", "-v", "rows:/db")
    engine.docker("rm", "-f", "db").ok()
    engine.docker("volume", "rm", "rows").ok()
    engine.crash()
    engine.start()
    assert undo(engine, 2) == ["volume rows", "container db"]
    engine.docker("start", "db").ok()
    assert rows(engine, "db") == "precious"
    assert engine.client.get("/skiff/check").json() == {"Problems": []}


def test_snapshot_and_rollback_of_a_running_container(engine: Engine) -> None:
    database(engine, "db")
    assert engine.client.post("/skiff/containers/db/snapshots", name="good").status == 201
    engine.docker("exec", "db", "sh", "-c", "echo spoilt > /db/rows; rm /bin/ls").ok()
    reply = engine.client.post("/skiff/containers/db/rollback", name="good")
    assert reply.json() == {"Saved": "before-good"}
    assert rows(engine, "db") == "precious"
    assert engine.docker("exec", "db", "ls", "/db").ok() == "rows"
    engine.docker("stop", "-t", "0", "db").ok()
    assert engine.client.post("/skiff/containers/db/rollback", name="before-good").status == 200
    engine.docker("start", "db").ok()
    assert rows(engine, "db") == "spoilt"


def test_a_fork_has_its_own_files_and_anonymous_volumes(engine: Engine) -> None:
    database(engine, "db", "-v", "/anonymous")
    engine.docker("exec", "db", "sh", "-c", "echo 1 > /anonymous/n").ok()
    assert engine.client.post("/skiff/containers/db/fork", name="db2").status == 201
    engine.docker("start", "db2").ok()
    engine.docker("exec", "db2", "sh", "-c", "echo other > /db/rows; echo 2 > /anonymous/n").ok()
    assert (rows(engine, "db"), rows(engine, "db2")) == ("precious", "other")
    assert (rows(engine, "db", "/anonymous/n"), rows(engine, "db2", "/anonymous/n")) == ("1", "2")


def test_changes_and_commit_of_a_branched_container(engine: Engine) -> None:
    database(engine, "db")
    engine.docker("stop", "-t", "0", "db").ok()
    assert engine.client.post("/skiff/containers/db/snapshots", name="one").status == 201
    assert "A /db/rows" in engine.docker("diff", "db").ok().splitlines()
    engine.docker("commit", "db", "branched").ok()
    shown = engine.docker("run", "--rm", "--network", "none", "branched", "cat", "/db/rows")
    engine.docker("rmi", "branched")
    assert shown.ok() == "precious"


def test_volume_snapshot_clone_rollback(engine: Engine) -> None:
    database(engine, "db", "-v", "vol:/db")
    assert engine.client.post("/skiff/volumes/vol/snapshots", name="good").status == 201
    engine.docker("exec", "db", "sh", "-c", "echo spoilt > /db/rows").ok()
    assert engine.client.post("/skiff/volumes/vol/clone", name="vol2").status == 201
    assert engine.client.post("/skiff/volumes/vol/rollback", name="good").status == 409
    engine.docker("stop", "-t", "0", "db").ok()
    assert engine.client.post("/skiff/volumes/vol/rollback", name="good").status == 200
    engine.docker("start", "db").ok()
    assert rows(engine, "db") == "precious"
    command = ("run", "--rm", "--network", "none", "-v", "vol2:/v", "busybox", "cat", "/v/rows")
    assert engine.docker(*command).ok() == "spoilt"


def test_a_volume_of_a_size_is_full_at_that_size(engine: Engine) -> None:
    engine.docker("volume", "create", "-o", "size=8m", "small").ok()
    run = ("run", "--rm", "--network", "none", "-v", "small:/v", "busybox")
    done = engine.docker(
        *run, "sh", "-c", "ls -A /v; echo x > /v/f; dd if=/dev/zero of=/v/big bs=1M count=20"
    )
    assert done.code == 1
    assert "No space left on device" in done.err
    assert engine.docker(*run, "cat", "/v/f").ok() == "x"
    assert engine.docker("volume", "rm", "small").ok() == "small"
    assert undo(engine) == ["volume small"]
    assert engine.docker(*run, "cat", "/v/f").ok() == "x"


def test_a_tmpfs_volume(engine: Engine) -> None:
    options = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=2m")
    engine.docker("volume", "create", *options, "--name", "fleeting").ok()
    run = ("run", "--rm", "--network", "none", "-v", "fleeting:/v", "busybox")
    assert "tmpfs" in engine.docker(*run, "sh", "-c", "mount | grep /v").ok()
