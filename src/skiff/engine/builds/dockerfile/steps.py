"""One stage's instructions → ops, steps, history and config. Pure; raises Fault.

A StageBuilder begins where FROM left it and takes one instruction after the other. What it cannot know —
which op a name like `--from=build` means — it asks through `Sources`.
"""

from collections.abc import Callable
from posixpath import join, normpath
from typing import Protocol

from msgspec.structs import replace

from skiff.engine.builds.dockerfile import history
from skiff.engine.builds.dockerfile import instructions as of
from skiff.engine.builds.dockerfile.copies import (
    check_origin,
    copy_words,
    destination_path,
    is_directory,
)
from skiff.engine.builds.dockerfile.errors import Fault
from skiff.engine.builds.dockerfile.expansion import Expansion
from skiff.engine.builds.dockerfile.mounts import mount_flag
from skiff.engine.builds.dockerfile.ports import check_signal, exposed
from skiff.engine.builds.dockerfile.scope import StageScope
from skiff.engine.builds.plan import (
    CopyOp,
    CopySource,
    DirectoryOp,
    ExecMount,
    ExecOp,
    InlineFile,
    MetaOp,
    Op,
    OpIndex,
)
from skiff.oci.image import History, RunConfig

DEFAULT_SHELL = ("/bin/sh", "-c")
_PIPES = "/dev/pipes/"


class Sources(Protocol):
    """What a stage asks of the plan that it is part of."""

    def add(self, op: Op) -> OpIndex: ...

    def origin(self, name: str) -> OpIndex:
        """The file system that a stage, an image or a context is; "" the build context."""
        ...


class StageBuilder:
    """files: the last op that made a file system. config: the image's after what was taken so far."""

    def __init__(
        self,
        sources: Sources,
        scope: StageScope,
        files: OpIndex,
        config: RunConfig,
        *,
        escape: str,
        network: str,
        ignore_cache: bool,
    ) -> None:
        self.sources = sources
        self.scope = scope
        self.files = files
        self.config = config
        self.escape = escape
        self.network = network
        self.ignore_cache = ignore_cache
        self.author = ""
        self.has_command = False
        self.expansion = Expansion({})
        self.history: list[History] = []
        self.op = files
        self.changes_files = False
        self._takers: dict[type[of.Instruction], Callable[..., None]] = {
            of.Arg: self._arg,
            of.Env: self._env,
            of.Label: self._label,
            of.Run: self._run,
            of.Copy: self._copy,
            of.Cmd: self._cmd,
            of.Entrypoint: self._entrypoint,
            of.Expose: self._expose,
            of.Volume: self._volume,
            of.User: self._user,
            of.Workdir: self._workdir,
            of.Onbuild: self._onbuild,
            of.Stopsignal: self._stopsignal,
            of.HealthCheck: self._healthcheck,
            of.Shell: self._shell,
            of.Maintainer: self._maintainer,
        }

    def take(self, found: of.Instruction) -> None:
        """Does what the instruction says; `op`, `history` and `expansion` then tell about it. Fault."""
        self.expansion = self.scope.expansion(self.escape)
        self.changes_files = False
        self.history = []
        self._takers[type(found)](found)

    @property
    def workdir(self) -> str:
        return self.config.working_dir or "/"

    @property
    def shell(self) -> tuple[str, ...]:
        return self.config.shell or DEFAULT_SHELL

    def _made(self, op: Op, statement: str) -> None:
        """A step that makes a new file system."""
        self.op = self.files = self.sources.add(op)
        self.changes_files = True
        self.history = [history.entry(statement, changes_files=True)]

    def _said(self, statement: str) -> None:
        """A step of the config only."""
        self.op = self.sources.add(MetaOp(input=self.files, statement=statement))
        self.history = [history.entry(statement)]

    def _arg(self, found: of.Arg) -> None:
        pairs: list[tuple[str, str | None]] = []
        for pair in found.pairs:
            default = None if pair.value is None else self.expansion.word(pair.value)
            name = self.expansion.word(pair.name)
            pairs.append((name, self.scope.argument(name, default)))
        self._said(history.pairs("ARG", pairs))

    def _env(self, found: of.Env) -> None:
        pairs = [
            (self.expansion.word(pair.name), self.expansion.word(pair.value or "")) for pair in found.pairs
        ]
        env = dict(entry.partition("=")[::2] for entry in self.config.env or ())
        for name, value in pairs:
            if not name:
                raise Fault("ENV names can not be blank", kind="grammar")
            env[name] = value
            self.scope.values[name] = value
        self.config = replace(self.config, env=tuple(f"{name}={value}" for name, value in env.items()))
        self._said(history.pairs("ENV", [*pairs]))

    def _label(self, found: of.Label) -> None:
        pairs = [
            (self.expansion.word(pair.name), self.expansion.word(pair.value or "")) for pair in found.pairs
        ]
        self.config = replace(self.config, labels={**(self.config.labels or {}), **dict(pairs)})
        self._said(history.pairs("LABEL", [*pairs]))

    def _run(self, found: of.Run) -> None:
        args, scripts = self._command_line(found.command)
        if not args:
            raise Fault("arguments are required")
        mounts = []
        for text in found.mounts:
            flag = mount_flag(text, self.expansion, self.workdir)
            mounts.append(self._mount(flag.mount, flag.origin))
        op = ExecOp(
            input=self.files,
            args=args,
            env=tuple(f"{name}={value}" for name, value in self.scope.values.items()),
            cwd=self.workdir,
            user=self.config.user,
            mounts=tuple(mounts),
            scripts=scripts,
            network=found.network or self.network,  # type: ignore[arg-type]
            security=found.security or "sandbox",  # type: ignore[arg-type]
            hidden_env=self.scope.hidden(),
            ignore_cache=self.ignore_cache,
        )
        self._made(op, history.run(args, self.scope.counted()))

    def _mount(self, mount: ExecMount, origin: str) -> ExecMount:
        if mount.kind == "bind" or (mount.kind == "cache" and origin):
            check_origin(origin)
            return replace(mount, origin=self.sources.origin(origin))
        return mount

    def _command_line(self, command: of.Command) -> tuple[tuple[str, ...], tuple[InlineFile, ...]]:
        """A lone here-document is the script itself; beside a command the shell is given it to read."""
        if not command.is_shell:
            return command.arguments, ()
        line = command.arguments[0]
        heredocs = command.heredocs
        if len(heredocs) == 1 and line == heredocs[0].mark:
            document = heredocs[0]
            if document.content.startswith("#!"):
                path = _PIPES + document.name
                script = InlineFile(name=path, data=document.text, mode=0o755)
                return (*self.shell, path), (script,)
            return (*self.shell, document.text), ()
        for document in heredocs:
            line += f"\n{document.content}{document.name}"
        return (*self.shell, line), ()

    def _copy(self, found: of.Copy) -> None:
        check_origin(found.origin)
        words = copy_words(found, self.expansion)
        sources = []
        if words.local:
            origin = self.sources.origin(found.origin)
            sources.append(CopySource(origin=origin, patterns=words.local))
        for remote in words.remote:
            patterns = (".",) if remote.kind == "git" or remote.unpack else ("*",)
            sources.append(CopySource(origin=self.sources.add(remote), patterns=patterns))
        if words.files:
            sources.append(CopySource(files=words.files))
        op = CopyOp(
            input=self.files,
            sources=tuple(sources),
            destination=destination_path(words.destination, self.workdir),
            chown=words.chown,
            chmod=words.chmod,
            link=found.link,
            parents=found.parents,
            exclude=words.exclude,
            unpack=found.is_add and found.unpack is not False and bool(words.local),
            keep_directory=is_directory(words.destination),
            ignore_cache=self.ignore_cache,
        )
        self._made(op, history.copy(found, words.sources, words.destination, words.chown, words.chmod))

    def _cmd(self, found: of.Cmd) -> None:
        words = self._words(found.command)
        self.has_command = True
        self.config = replace(self.config, cmd=words or None, args_escaped=True)
        self._said(history.command("CMD", words))

    def _entrypoint(self, found: of.Entrypoint) -> None:
        """A new entry point drops the command that came with the base image."""
        words = self._words(found.command)
        cmd = self.config.cmd if self.has_command else None
        self.config = replace(self.config, entrypoint=words or None, cmd=cmd)
        self._said(history.command("ENTRYPOINT", words))

    def _words(self, command: of.Command) -> tuple[str, ...]:
        return (*self.shell, *command.arguments) if command.is_shell else command.arguments

    def _expose(self, found: of.Expose) -> None:
        # the order of the words as they stand there: BuildKit sorts before it expands
        texts = [word for port in sorted(found.ports) for word in self.expansion.words(port)]
        ports = exposed(texts)
        known = {**(self.config.exposed_ports or {}), **{port: {} for port in ports}}
        self.config = replace(self.config, exposed_ports=known)
        self._said(history.plain_list("EXPOSE", ports))

    def _volume(self, found: of.Volume) -> None:
        paths = [self.expansion.word(path) for path in found.paths]
        if not all(paths):
            raise Fault("VOLUME specified can not be an empty string", kind="grammar")
        known = {**(self.config.volumes or {}), **{path: {} for path in paths}}
        self.config = replace(self.config, volumes=known)
        self._said(history.plain_list("VOLUME", paths))

    def _user(self, found: of.User) -> None:
        user = self.expansion.word(found.user)
        self.config = replace(self.config, user=user)
        self._said(f"USER {user}")

    def _workdir(self, found: of.Workdir) -> None:
        text = self.expansion.word(found.path)
        path = normpath(join("/", self.workdir, text)).replace("//", "/")
        self.config = replace(self.config, working_dir=path)
        if path == "/":
            self._said(f"WORKDIR {path}")
            return
        op = DirectoryOp(input=self.files, path=path, owner=self.config.user, ignore_cache=self.ignore_cache)
        self._made(op, f"WORKDIR {path}")

    def _onbuild(self, found: of.Onbuild) -> None:
        self.config = replace(self.config, on_build=(*(self.config.on_build or ()), found.trigger))
        self._said(f"ONBUILD {found.trigger}")
        self.history = []  # Docker writes none for it

    def _stopsignal(self, found: of.Stopsignal) -> None:
        signal = self.expansion.word(found.signal)
        check_signal(signal)
        self.config = replace(self.config, stop_signal=signal)
        self._said(f"STOPSIGNAL {signal}")

    def _healthcheck(self, found: of.HealthCheck) -> None:
        self.config = replace(self.config, healthcheck=found.check)
        self._said(history.healthcheck(found.check))

    def _shell(self, found: of.Shell) -> None:
        self.config = replace(self.config, shell=found.arguments)
        self._said(history.plain_list("SHELL", found.arguments))

    def _maintainer(self, found: of.Maintainer) -> None:
        self.author = found.name
        self._said(f"MAINTAINER {found.name}")
