"""Cache keys: what changes them, what does not, and the sentence between two of them."""

from typing import Any

import pytest
from msgspec.structs import replace

from skiff.engine.builds.keys import Part, cache_key, difference, key_parts, needs_content
from skiff.engine.builds.plan import (
    CopyOp,
    CopySource,
    ExecMount,
    ExecOp,
    MetaOp,
    OpIndex,
    SourceOp,
    inputs,
)
from skiff.oci.digest import Digest

BASE = Digest("sha256:" + "a" * 64)
OTHER = Digest("sha256:" + "b" * 64)
RUN = ExecOp(input=OpIndex(0), args=("/bin/sh", "-c", "make"), env=("A=1", "B=2"))
COPY = CopyOp(
    input=OpIndex(0), sources=(CopySource(origin=OpIndex(1), patterns=("app.py",)),), destination="/app/"
)


@pytest.mark.parametrize(
    "change",
    [
        {"args": ("/bin/sh", "-c", "make all")},
        {"env": ("A=1", "B=3")},
        {"user": "1"},
        {"cwd": "/x"},
        {"network": "none"},
        {"mounts": (ExecMount(kind="tmpfs", target="/t"),)},
    ],
)
def test_what_changes_a_run(change: dict[str, Any]) -> None:
    assert cache_key(replace(RUN, **change), [BASE]) != cache_key(RUN, [BASE])


def test_what_does_not_change_a_run() -> None:
    key = cache_key(RUN, [BASE])
    assert cache_key(replace(RUN, hidden_env=("HTTP_PROXY=x",)), [BASE]) == key
    assert cache_key(replace(RUN, ignore_cache=True), [BASE]) == key
    assert cache_key(replace(RUN, input=OpIndex(7)), [BASE]) == key
    assert cache_key(RUN, [OTHER]) != key


def test_a_copy_depends_on_the_files_taken_and_not_on_the_whole_origin() -> None:
    assert inputs(COPY) == (0, 1)
    assert needs_content(COPY) == (1,)
    content = [Part("file app.py", "sha256:1")]
    assert cache_key(COPY, [BASE, OTHER], content) == cache_key(COPY, [BASE, BASE], content)
    assert cache_key(COPY, [OTHER, OTHER], content) != cache_key(COPY, [BASE, OTHER], content)
    assert cache_key(COPY, [BASE, OTHER], [Part("file app.py", "sha256:2")]) != cache_key(
        COPY, [BASE, OTHER], content
    )


def test_a_linked_copy_does_not_depend_on_what_is_beneath() -> None:
    linked = replace(COPY, link=True)
    content = [Part("file app.py", "sha256:1")]
    assert cache_key(linked, [BASE, OTHER], content) == cache_key(linked, [OTHER, OTHER], content)


def test_config_changes_no_files() -> None:
    assert cache_key(MetaOp(input=OpIndex(0), statement="LABEL a=b"), [BASE]) == BASE


def test_a_source_is_what_it_resolved_to() -> None:
    source = SourceOp(kind="image", name="busybox")
    first = cache_key(source, [], [Part("the image", str(BASE))])
    assert first != cache_key(source, [], [Part("the image", str(OTHER))])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"env": ("A=1", "B=3")}, "the variable B changed from 2 to 3"),
        ({"env": ("A=1", "B=2", "C=x")}, "the variable C is new: x"),
        ({"env": ("A=1",)}, "the variable B is gone"),
        ({"user": "app"}, "the user is new: app"),
        (
            {"args": ("make",)},
            'the command changed from ["/bin/sh","-c","make"] to ["make"]',
        ),
    ],
)
def test_the_difference_in_words(change: dict[str, Any], sentence: str) -> None:
    after = replace(RUN, **change)
    assert difference(key_parts(RUN, [BASE]), key_parts(after, [BASE])) == sentence


def test_a_file_and_a_step_before_have_no_value_to_show() -> None:
    before = key_parts(COPY, [BASE, OTHER], [Part("file app.py", "sha256:1")])
    after = key_parts(COPY, [BASE, OTHER], [Part("file app.py", "sha256:2"), Part("file b.py", "sha256:3")])
    assert difference(before, after) == "file app.py changed, file b.py is new"
    assert difference(key_parts(RUN, [BASE]), key_parts(RUN, [OTHER])) == "the step before changed"
    assert difference(before, before) == ""
