"""The flags of `build`, as data."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]


def ulimit(text: str) -> Json:
    from skiff.cli.run_values import parse_ulimit

    return parse_ulimit(text)


def swap(text: str) -> int:
    from skiff.cli.flags import parse_bytes

    return -1 if text == "-1" else parse_bytes(text)


KINDS = {"ulimit": ulimit, "swap": swap}

FLAGS = (
    ("add-host", "", "list", (), "Add a custom host-to-IP mapping (`host:ip`)"),
    ("allow", "", "csv", (), "Allow extra privileges (`network.host`, `security.insecure`)"),
    ("build-arg", "", "list", (), "Set build-time variables"),
    (
        "build-context",
        "",
        "list",
        (),
        "Additional build contexts (e.g. name=path, name=docker-image://image)",
    ),
    (
        "cache-from",
        "",
        "list",
        (),
        "External cache sources (e.g. user/app:cache, type=local,src=path/to/dir)",
    ),
    ("cache-to", "", "list", (), "Cache export destinations (e.g. type=local,dest=path/to/dir)"),
    ("cgroup-parent", "", "string", "", "Set the parent cgroup for the `RUN` instructions during build"),
    ("compress", "", "bool", False, "Compress the build context using gzip"),
    ("check", "", "bool", False, "Say what is questionable in the Dockerfile, and build nothing"),
    ("cpu-period", "", "int", 0, "Limit the CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", 0, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-shares", "c", "int", 0, "CPU shares (relative weight)"),
    ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
    ("disable-content-trust", "", "bool", True, "Skip image verification"),
    ("file", "f", "string", "", 'Name of the Dockerfile (Default is "PATH/Dockerfile")'),
    ("force-rm", "", "bool", False, "Always remove intermediate containers"),
    ("iidfile", "", "string", "", "Write the image ID to the file"),
    ("isolation", "", "string", "", "Container isolation technology"),
    ("label", "", "list", (), "Set metadata for an image"),
    ("load", "", "bool", False, 'Shorthand for "--output=type=docker"'),
    ("memory", "m", "bytes", 0, "Memory limit"),
    ("memory-swap", "", "swap", 0, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    ("metadata-file", "", "string", "", "Write build result metadata to a file"),
    ("network", "", "string", "default", "Set the networking mode for the RUN instructions during build"),
    ("no-cache", "", "bool", False, "Do not use cache when building the image"),
    ("no-cache-filter", "", "csv", (), "Do not cache specified stages"),
    ("output", "o", "list", (), "Output destination (format: `type=local,dest=path`)"),
    ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
    ("progress", "", "string", "auto", "Set type of progress output (`auto`, `plain`, `tty`, `rawjson`)"),
    ("pull", "", "bool", False, "Always attempt to pull a newer version of the image"),
    ("push", "", "bool", False, 'Shorthand for "--output=type=registry"'),
    ("quiet", "q", "bool", False, "Suppress the build output and print image ID on success"),
    ("rm", "", "bool", True, "Remove intermediate containers after a successful build"),
    ("secret", "", "list", (), "Secret to expose to the build (format: `id=mysecret[,src=/local/secret]`)"),
    ("security-opt", "", "csv", (), "Security options"),
    ("shm-size", "", "bytes", 0, 'Size of "/dev/shm"'),
    ("squash", "", "bool", False, "Squash newly built layers into a single new layer"),
    ("ssh", "", "list", (), "SSH agent socket or keys to expose to the build"),
    ("tag", "t", "list", (), 'Name and optionally a tag in the "name:tag" format'),
    ("target", "", "string", "", "Set the target build stage to build."),
    ("ulimit", "", "ulimit", (), "Ulimit options"),
    ("verify", "", "bool", False, "Build twice and show what differs"),
    ("why", "", "bool", False, "Say why a step runs again"),
)
