"""The wish laid over the image's config and the engine's defaults; and whether it can be at all. Pure."""

import re

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from skiff.docker.container import ContainerConfig, HealthConfig, HostConfig, LogConfig, RestartPolicy
from skiff.engine.containers import restart
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.containers.spec import host_files, logging, security
from skiff.errors import InvalidParameter
from skiff.oci.image import Healthcheck, RunConfig

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_PORT = re.compile(r"\d{1,5}(-\d{1,5})?(/\w+)?")
LEAST_SPAN_NS = 1_000_000


def check_name(name: str) -> str:
    """Without its leading slash. InvalidParameter."""
    bare = name.removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def merged(wish: ContainerConfig, image: RunConfig) -> ContainerConfig:
    """The config a container has: what the client leaves open is the image's. InvalidParameter.

    A wish with an entrypoint of its own does not take the image's command (Engine API, ContainerConfig.Cmd).
    """
    entrypoint, cmd = wish.entrypoint, wish.cmd
    if not entrypoint:
        cmd = cmd or image.cmd
        entrypoint = entrypoint if entrypoint == ("",) else image.entrypoint or entrypoint
    if entrypoint == ("",):
        entrypoint = None
    if not (entrypoint or cmd):
        raise InvalidParameter("no command specified")
    env = list(wish.env or ())
    named = {entry.partition("=")[0] for entry in env}
    inherited = [entry for entry in image.env or () if entry.partition("=")[0] not in named]
    ports: dict[str, object] = {**(image.exposed_ports or {}), **(wish.exposed_ports or {})}
    volumes: dict[str, object] = {**(image.volumes or {}), **(wish.volumes or {})}
    labels = {**(image.labels or {}), **(wish.labels or {})}
    return ContainerConfig(
        hostname=wish.hostname,
        domainname=wish.domainname,
        user=wish.user or image.user,
        attach_stdin=wish.attach_stdin,
        attach_stdout=wish.attach_stdout,
        attach_stderr=wish.attach_stderr,
        exposed_ports=ports or UNSET,
        tty=wish.tty,
        open_stdin=wish.open_stdin,
        stdin_once=wish.stdin_once,
        env=tuple(env + inherited) if env or inherited else wish.env,
        cmd=cmd,
        healthcheck=_healthcheck(wish.healthcheck, image.healthcheck),
        args_escaped=wish.args_escaped,
        image=wish.image,
        volumes=volumes or None,
        working_dir=wish.working_dir or image.working_dir,
        entrypoint=entrypoint,
        network_disabled=wish.network_disabled,
        mac_address=wish.mac_address,
        on_build=wish.on_build,
        labels=labels,
        stop_signal=wish.stop_signal or image.stop_signal or UNSET,
        stop_timeout=image.stop_timeout
        if wish.stop_timeout is UNSET and image.stop_timeout
        else wish.stop_timeout,
        shell=wish.shell or image.shell or UNSET,
    )


def _healthcheck(wish: HealthConfig | UnsetType, image: Healthcheck | None) -> HealthConfig | UnsetType:
    if image is None and not wish:
        return wish
    image = image or Healthcheck()
    theirs = HealthConfig(
        test=image.test or UNSET,
        interval=image.interval or UNSET,
        timeout=image.timeout or UNSET,
        start_period=image.start_period or UNSET,
        start_interval=image.start_interval or UNSET,
        retries=image.retries or UNSET,
    )
    if not wish:
        return theirs
    given = {
        name: value
        for name in wish.__struct_fields__
        if (value := getattr(wish, name)) is not UNSET and value
    }
    return replace(theirs, **given)


def check_config(config: ContainerConfig) -> None:
    """InvalidParameter in Docker's words."""
    for entry in config.env or ():
        if not entry.partition("=")[0]:
            raise InvalidParameter(f"invalid environment variable: {entry}")
        if "\0" in entry:
            raise InvalidParameter("invalid environment variable: it holds a NUL byte")
    if any("\0" in word for word in (*(config.entrypoint or ()), *(config.cmd or ()))):
        raise InvalidParameter("invalid command: it holds a NUL byte")
    directory = config.working_dir
    if directory and not directory.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{directory}' is invalid, it needs to be an absolute path"
        )
    check = config.healthcheck or HealthConfig()
    for name in ("interval", "timeout", "start_period", "start_interval"):
        span = getattr(check, name) or 0
        if span and span < LEAST_SPAN_NS:
            words = "".join(part.capitalize() for part in name.split("_"))
            raise InvalidParameter(f"{words} in Healthcheck cannot be less than 1ms")
    if (check.retries or 0) < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def with_defaults(host: HostConfig, settings: ContainerSettings) -> HostConfig:
    """Docker fills these in at create, and inspect shows them."""
    driver = host.log_config.type or settings.log_driver
    options = host.log_config.config
    if not options:
        options = dict(settings.log_options) if driver == settings.log_driver else {}
    mode = host.network_mode
    masked = host.masked_paths
    if host.privileged:
        masked = None
    return replace(
        host,
        log_config=LogConfig(type=driver, config=options),
        network_mode="bridge" if mode in ("", "default") else mode,
        restart_policy=RestartPolicy(
            name=host.restart_policy.name or "no",
            maximum_retry_count=host.restart_policy.maximum_retry_count,
        ),
        security_opt=_security_options(host),
        memory_swap=2 * host.memory if host.memory > 0 and not host.memory_swap else host.memory_swap,
        cgroupns_mode=host.cgroupns_mode or settings.cgroupns_mode,
        ipc_mode=host.ipc_mode or settings.ipc_mode,
        shm_size=host.shm_size or settings.shm_size,
        runtime=host.runtime or settings.default_runtime,
        memory_swappiness=None if host.memory_swappiness == -1 else host.memory_swappiness,
        pids_limit=None if (host.pids_limit or 0) <= 0 else host.pids_limit,
        oom_kill_disable=host.oom_kill_disable or False,
        masked_paths=masked,
    )


def _security_options(host: HostConfig) -> tuple[str, ...] | None:
    """Who shares the host's processes or IPC has no label of its own."""
    shares = host.privileged or "host" in (host.pid_mode, host.ipc_mode)
    return ("label=disable",) if shares and host.security_opt is None else host.security_opt


def check_host(config: ContainerConfig, host: HostConfig, settings: ContainerSettings) -> None:
    """What cannot be, whatever the image. InvalidParameter in Docker's words; limits are checked apart."""
    restart.check(host.restart_policy, auto_remove=host.auto_remove)
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.isolation not in ("", "default"):
        raise InvalidParameter(f"invalid isolation ({host.isolation}): linux only supports 'default'")
    if "" in (host.annotations or {}):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    if host.runtime and host.runtime not in settings.runtimes:
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}")
    _check_modes(host)
    _check_conflicts(config, host)
    if config.mac_address and not _MAC.fullmatch(config.mac_address):
        raise InvalidParameter(
            f"invalid config for network {host.network_mode}: invalid MAC address {config.mac_address}"
        )
    security.normal_capabilities("CapAdd", host.cap_add)
    security.normal_capabilities("CapDrop", host.cap_drop)
    security.security_options(host.security_opt)
    for entry in host.extra_hosts or ():
        host_files.extra_host(entry)
    _check_ports(host)
    logging.check(host.log_config)


def _check_modes(host: HostConfig) -> None:
    if host.ipc_mode not in ("", "none", "private", "shareable", "host") and not _names_container(
        host.ipc_mode
    ):
        raise InvalidParameter(f"invalid IPC mode: {host.ipc_mode}")
    if host.pid_mode not in ("", "host") and not _names_container(host.pid_mode):
        raise InvalidParameter(f"invalid PID mode: {host.pid_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in ("", "host", "private"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.userns_mode not in ("", "host"):
        raise InvalidParameter(f"invalid user namespace mode: {host.userns_mode}")
    if host.device_requests:
        request = host.device_requests[0]
        wanted = " ".join(f"[{' '.join(group)}]" for group in request.capabilities or ())
        raise InvalidParameter(
            f'could not select device driver "{request.driver}" with capabilities: [{wanted}]'
        )
    if host.storage_opt:
        raise InvalidParameter(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
        )
    if host.cgroup:
        raise InvalidParameter(f"invalid cgroup: {host.cgroup}: expected nothing")


def _names_container(mode: str) -> bool:
    return mode.startswith("container:") and len(mode) > len("container:")


def _check_conflicts(config: ContainerConfig, host: HostConfig) -> None:
    if _names_container(host.network_mode):
        if config.hostname:
            raise InvalidParameter("conflicting options: hostname and the network mode")
        if host.port_bindings or host.publish_all_ports:
            raise InvalidParameter("conflicting options: port publishing and the container type network mode")
        if host.dns:
            raise InvalidParameter("conflicting options: dns and the network mode")
        if host.extra_hosts:
            raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")
    elif host.network_mode.startswith("container:"):
        raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
    if host.network_mode == "host" and host.links:
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )
    if host.uts_mode == "host" and (config.hostname or config.domainname):
        raise InvalidParameter("conflicting options: hostname and the UTS mode")


def _check_ports(host: HostConfig) -> None:
    for port, bindings in (host.port_bindings or {}).items():
        if not _PORT.fullmatch(port):
            raise InvalidParameter(f'invalid port specification: "{port.partition("/")[0]}"')
        for binding in bindings or ():
            if binding.host_port and not _is_port(binding.host_port):
                raise InvalidParameter(f'invalid port specification: "{binding.host_port}"')


def _is_port(text: str) -> bool:
    """A number, or a range of them."""
    return bool(_PORT.fullmatch(text)) and all(
        int(number) <= 65535 for number in text.partition("/")[0].split("-")
    )


def command(config: ContainerConfig) -> tuple[str, ...]:
    """Entrypoint and command as one."""
    return (*(config.entrypoint or ()), *(config.cmd or ()))
