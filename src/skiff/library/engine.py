"""One engine in the hands of a program: the verbs that `skiff.run`, `skiff.build` and the others are.

The same engine as the command line's: DOCKER_HOST, contexts and config.json say which, and one is started
when none runs and we are root. Errors are SkiffErrors; EngineError has the HTTP status. Threads may share an
Engine: each has a connection of its own.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Unpack

from skiff.client import autostart
from skiff.client.config_file import ConfigFile, config_folder
from skiff.client.connection import Connection, EngineError
from skiff.client.credentials import auth_header
from skiff.client.endpoint import Endpoint
from skiff.client.engine import EngineClient
from skiff.client.target import target
from skiff.library import images as imaging
from skiff.library import tars
from skiff.library.container import Container, Finished, Input, Instant, collected, unix_time
from skiff.library.events import Event, event_of
from skiff.library.images import Image, image_of
from skiff.library.networks import Network
from skiff.library.options import Options, body
from skiff.library.volumes import Volume

NOT_FOUND = 404


class _Asked:
    """What the command line's global flags would be: only the host is ever given here."""

    changed: set[str]

    def __init__(self, host: str, context: str) -> None:
        self.changed = set()
        self._values: dict[str, Any] = {"host": [host] if host else [], "context": context}

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name, "")


def connect(host: str = "", *, context: str = "") -> "Engine":
    """The engine at a host (`unix:///…`, `tcp://…`, `ssh://…`) or of a context; the usual one without either.

    Nothing is sent yet: an engine that is not there is an error of the first call (CannotConnect).
    """
    return Engine(host, context=context)


@cache
def default() -> "Engine":
    """The one that `skiff.run` and the other verbs of the module use."""
    return Engine()


class Engine:
    """See connect()."""

    def __init__(self, host: str = "", *, context: str = "") -> None:
        self._asked = _Asked(host, context)
        self._mine = threading.local()

    def client(self) -> EngineClient:
        """The Engine API itself, one method an endpoint; this thread's own connection."""
        held: EngineClient | None = getattr(self._mine, "client", None)
        if held is None:
            endpoint = target(self._asked, _env, self._config)
            connection = Connection(
                endpoint,
                user_headers=self._config().http_headers,
                version=_env("DOCKER_API_VERSION"),
                on_absent=(lambda: self._start_engine(endpoint)) if endpoint.is_default else None,
            )
            held = self._mine.client = EngineClient(connection)
        return held

    def _config(self) -> ConfigFile:
        return ConfigFile.load(config_folder("", _env))

    def _start_engine(self, endpoint: Endpoint) -> bool:
        if not autostart.wanted(_env, self._config):
            return False
        autostart.start_engine(endpoint)
        return True

    # -- containers --------------------------------------------------------------------------------------

    def run(
        self,
        image: str,
        command: str | Sequence[str] = (),
        *,
        input: Input | None = None,
        check: bool = True,
        pull: str = "missing",
        **options: Unpack[Options],
    ) -> Finished:
        r"""Run a command in a new container to its end, and remove the container.

        A string is cut into words, but no shell runs it. Raises ContainerFailed for another exit code than
        0, unless check=False. pull: missing, always or never. Ctrl-C takes the container along.
        input: its stdin: bytes, text, an open file, or pieces.

        >>> skiff.run("busybox", "echo hello").text
        'hello\n'
        >>> skiff.run("busybox", ["wc", "-c"], input="12345", memory="64m").text
        '5\n'
        """
        tty = bool(options.get("tty"))
        wish = body(image, command, options)
        wish |= {"AttachStdin": input is not None, "OpenStdin": input is not None}
        wish |= {"StdinOnce": input is not None, "AttachStdout": True, "AttachStderr": True}
        client = self.client()
        with self._made(wish, options, pull) as container:
            stream = client.attach_container(container.id, stdin=input is not None, stdout=True, stderr=True)
            waiting = client.wait_container(container.id, condition="next-exit")
            try:
                container.start()
                stdout, stderr = collected(stream, input, tty=tty)
                code = int(waiting.json()["StatusCode"])
            finally:
                stream.close()
                waiting.close()
        done = Finished(code, stdout, stderr)
        return done.check() if check else done

    def start(
        self,
        image: str,
        command: str | Sequence[str] = (),
        *,
        pull: str = "missing",
        **options: Unpack[Options],
    ) -> Container:
        """Start a new container and leave it running. In a `with` block it is removed at the block's end.

        >>> with skiff.start("nginx", ports={80: None}) as web:    # doctest: +SKIP
        ...     print(web.port(80))
        ('0.0.0.0', 32768)
        """
        container = self._made(body(image, command, options), options, pull)
        try:
            container.start()
        except BaseException:
            container.remove(force=True, missing_ok=True)
            raise
        return container

    def create(
        self,
        image: str,
        command: str | Sequence[str] = (),
        *,
        pull: str = "missing",
        **options: Unpack[Options],
    ) -> Container:
        """As start, but it does not run yet."""
        return self._made(body(image, command, options), options, pull)

    def _made(self, wish: dict[str, Any], options: Options, pull: str) -> Container:
        client = self.client()
        name, platform = options.get("name"), options.get("platform")
        if pull == "always":
            self.pull(wish["Image"], platform=platform or "")
        try:
            made = client.create_container(wish, name=name, platform=platform)
        except EngineError as error:
            absent = error.status == NOT_FOUND and "no such image" in error.message.lower()
            if not absent or pull != "missing":
                raise
            self.pull(wish["Image"], platform=platform or "")
            made = client.create_container(wish, name=name, platform=platform)
        return Container(self.client, made["Id"])

    def exec(
        self,
        container: str,
        command: str | Sequence[str],
        *,
        input: Input | None = None,
        env: Mapping[str, str | None] | None = None,
        user: str = "",
        workdir: str = "",
        privileged: bool = False,
        check: bool = True,
    ) -> Finished:
        r"""A further command in a running container: Container.exec by name.

        >>> with skiff.start("busybox", "sleep 60", name="box"):
        ...     skiff.exec("box", "echo hi").text
        'hi\n'
        """
        return Container(self.client, container).exec(
            command, input=input, env=env, user=user, workdir=workdir, privileged=privileged, check=check
        )

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        timestamps: bool = False,
    ) -> Iterator[str]:
        """What a container wrote, line by line: Container.logs by name."""
        return Container(self.client, container).logs(
            follow=follow, tail=tail, since=since, until=until, timestamps=timestamps
        )

    def container(self, name: str) -> Container:
        """By name or id. Raises EngineError (404)."""
        return Container(self.client, self.client().container(name)["Id"])

    def containers(
        self, *, all: bool = False, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[Container]:
        """Those that run; with all=True the others, too. filters: {"label": ["a=b"], "status": ["exited"]}"""
        found = self.client().containers(all=all, filters=_filters(filters))
        return [Container(self.client, item["Id"]) for item in found]

    # -- images ------------------------------------------------------------------------------------------

    def pull(self, reference: str, *, platform: str = "") -> Image:
        """From its registry, with the credentials of `skiff login`. Raises EngineError, PullFailed."""
        imaging.pull(self.client(), reference, platform, auth_header(self._config(), reference))
        return self.image(reference)

    def build(
        self,
        context: tars.Source = ".",
        *,
        dockerfile: str = "",
        tag: str | Sequence[str] = (),
        args: Mapping[str, str] | None = None,
        target: str = "",
        platform: str = "",
        labels: Mapping[str, str] | None = None,
        cache: bool = True,
        pull: bool = False,
        tell: Callable[[str], None] | None = None,
    ) -> Image:
        r"""An image from a directory and a Dockerfile: a path below it, or the text itself.

        A context may be a tar, too: a file's, an open file's, or in pieces.

        tell: called with each line of what happens. Raises BuildFailed, which has the log.

        >>> folder = tempfile.mkdtemp()
        >>> image = skiff.build(folder, dockerfile="FROM busybox\nLABEL mine=yes\n")
        >>> image.labels
        {'mine': 'yes'}
        """
        id = imaging.build(
            self.client(),
            context,
            dockerfile=dockerfile,
            tag=[tag] if isinstance(tag, str) and tag else list(tag),
            args=args or {},
            target=target,
            platform=platform,
            labels=labels or {},
            cache=cache,
            pull=pull,
            tell=tell,
        )
        return self.image(id)

    def image(self, reference: str) -> Image:
        """By name or id. Raises EngineError (404)."""
        return image_of(self.client().image(reference))

    def images(self, *, filters: Mapping[str, Sequence[str]] | None = None) -> list[Image]:
        return [image_of(item) for item in self.client().images(filters=_filters(filters))]

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        self.client().remove_image(reference, force=force)

    def tag(self, reference: str, new: str) -> None:
        """Give an image a further name."""
        imaging.tag(self.client(), reference, new)

    def push(self, reference: str, *, platform: str = "") -> None:
        """To its registry, with the credentials of `skiff login`. Raises EngineError, PushFailed."""
        imaging.push(self.client(), reference, platform, auth_header(self._config(), reference))

    def save(self, references: str | Sequence[str], target: tars.Target, *, platform: str = "") -> None:
        """Images as one archive, into a file or an open file, written as it comes.

        >>> file = tempfile.TemporaryFile()
        >>> skiff.save("busybox", file)
        >>> _ = file.seek(0)
        >>> [image.tags for image in skiff.load(file)]
        [('busybox:latest',)]
        """
        names = [references] if isinstance(references, str) else list(references)
        tars.kept(self.client().save_images(names, platform=platform or None), target)

    def load(self, source: tars.Source, *, platform: str = "") -> list[Image]:
        """The images of an archive: a file, an open file, or pieces. Raises EngineError, LoadFailed."""
        return [self.image(name) for name in imaging.load(self.client(), source, platform)]

    def import_image(
        self,
        source: tars.Source,
        reference: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str = "",
    ) -> Image:
        """An image of one layer from a tar of its files, as `export` makes it. changes: ["CMD sh"].

        Raises EngineError, LoadFailed.
        """
        query = {"changes": list(changes), "message": message or None, "platform": platform or None}
        return self.image(imaging.import_image(self.client(), source, reference, **query))

    # -- networks and volumes ----------------------------------------------------------------------------

    def network(self, name: str) -> Network:
        """Raises EngineError (404)."""
        return Network(self.client, self.client().network(name)["Name"])

    def networks(self) -> list[Network]:
        return [Network(self.client, found["Name"]) for found in self.client().networks()]

    def create_network(
        self, name: str, *, subnet: str = "", internal: bool = False, labels: Mapping[str, str] | None = None
    ) -> Network:
        """A bridge of its own: containers on it find one another by name. A `with` block removes it.

        >>> with skiff.create_network("mine") as net:
        ...     with skiff.start("busybox", "sleep 60", name="db", network=net.name):
        ...         skiff.run("busybox", "nslookup db", network=net.name).exit_code
        0
        """
        wish: dict[str, Any] = {"Name": name, "Internal": internal, "Labels": dict(labels or {})}
        if subnet:
            wish["IPAM"] = {"Config": [{"Subnet": subnet}]}
        self.client().create_network(wish)
        return Network(self.client, name)

    def volume(self, name: str) -> Volume:
        """Raises EngineError (404)."""
        return Volume(self.client, self.client().volume(name)["Name"])

    def volumes(self) -> list[Volume]:
        return [Volume(self.client, item["Name"]) for item in self.client().volumes().get("Volumes") or ()]

    def create_volume(self, name: str = "", *, labels: Mapping[str, str] | None = None) -> Volume:
        """Without a name it gets one."""
        made = self.client().create_volume({"Name": name, "Labels": dict(labels or {})})
        return Volume(self.client, made["Name"])

    # -- what happens ------------------------------------------------------------------------------------

    def events(
        self,
        *,
        since: Instant | None = None,
        until: Instant | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[Event]:
        """What happens from now on, or since a Unix time; without `until` it does not end by itself.

        >>> done = skiff.run("busybox", "true", name="short")
        >>> now = time.time()
        >>> for event in skiff.events(since=now - 60, until=now, filters={"container": "short"}):
        ...     print(event.action)
        create
        attach
        start
        die
        destroy
        """
        reply = self.client().connection.request(
            "GET",
            "/events",
            query={
                "since": unix_time(since),
                "until": unix_time(until),
                "filters": _filters(filters) or None,
            },
        )
        try:
            yield from (event_of(message) for message in reply.lines())
        finally:
            reply.close()

    def close(self) -> None:
        """Let go of this thread's connection."""
        held: EngineClient | None = getattr(self._mine, "client", None)
        if held is not None:
            held.close()
            del self._mine.client


def _filters(filters: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    return {
        name: [values] if isinstance(values, str) else list(values)
        for name, values in (filters or {}).items()
    }


def _env(name: str) -> str:
    return os.environ.get(name, "")
