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
    ("add-host", "", "csv", (), 'Add a custom host-to-IP mapping (format: "host:ip")'),
    (
        "allow",
        "",
        "stringArray",
        (),
        'Allow extra privileged entitlement (e.g., "network.host", "security.insecure", "device")',
    ),
    ("annotation", "", "stringArray", (), "Add annotation to the image"),
    ("attest", "", "stringArray", (), 'Attestation parameters (format: "type=sbom,generator=image")'),
    ("build-arg", "", "stringArray", (), "Set build-time variables"),
    ("build-context", "", "stringArray", (), "Additional build contexts (e.g., name=path)"),
    ("builder", "", "string", "default", "Override the configured builder instance"),
    (
        "cache-from",
        "",
        "stringArray",
        (),
        'External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")',
    ),
    (
        "cache-to",
        "",
        "stringArray",
        (),
        'Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")',
    ),
    ("call", "", "string", "build", 'Set method for evaluating build ("check", "outline", "targets")'),
    ("cgroup-parent", "", "string", "", 'Set the parent cgroup for the "RUN" instructions during build'),
    ("check", "", "bool", False, 'Shorthand for "--call=check"'),
    ("debug", "D", "bool", False, "Enable debug logging"),
    ("file", "f", "string", "", 'Name of the Dockerfile (default: "PATH/Dockerfile")'),
    ("iidfile", "", "string", "", "Write the image ID to a file"),
    ("label", "", "stringArray", (), "Set metadata for an image"),
    ("load", "", "bool", False, 'Shorthand for "--output=type=docker"'),
    ("metadata-file", "", "string", "", "Write build result metadata to a file"),
    ("network", "", "string", "default", 'Set the networking mode for the "RUN" instructions during build'),
    ("no-cache", "", "bool", False, "Do not use cache when building the image"),
    ("no-cache-filter", "", "stringArray", (), "Do not cache specified stages"),
    ("output", "o", "stringArray", (), 'Output destination (format: "type=local,dest=path")'),
    ("platform", "", "stringArray", (), "Set target platform for build"),
    (
        "progress",
        "",
        "string",
        "auto",
        'Set type of progress output ("auto", "none",  "plain", "quiet", "rawjson", "tty"). Use plain to '
        "show container output",
    ),
    ("provenance", "", "string", "", 'Shorthand for "--attest=type=provenance"'),
    ("pull", "", "bool", False, "Always attempt to pull all referenced images"),
    ("push", "", "bool", False, 'Shorthand for "--output=type=registry"'),
    ("quiet", "q", "bool", False, "Suppress the build output and print image ID on success"),
    ("sbom", "", "string", "", 'Shorthand for "--attest=type=sbom"'),
    (
        "secret",
        "",
        "stringArray",
        (),
        'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")',
    ),
    ("shm-size", "", "bytes", 0, "Shared memory size for build containers"),
    (
        "ssh",
        "",
        "stringArray",
        (),
        'SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")',
    ),
    ("tag", "t", "stringArray", (), 'Name and optionally a tag (format: "name:tag")'),
    ("target", "", "string", "", "Set the target build stage to build"),
    ("ulimit", "", "ulimit", (), "Ulimit options"),
    # of Docker's classic builder
    ("compress", "", "bool", False, "Compress the build context using gzip"),
    ("cpu-period", "", "int", 0, "Limit the CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", 0, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-shares", "c", "int", 0, "CPU shares (relative weight)"),
    ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
    ("disable-content-trust", "", "bool", True, "Skip image verification"),
    ("force-rm", "", "bool", False, "Always remove intermediate containers"),
    ("isolation", "", "string", "", "Container isolation technology"),
    ("memory", "m", "bytes", 0, "Memory limit"),
    ("memory-swap", "", "swap", 0, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    ("rm", "", "bool", True, "Remove intermediate containers after a successful build"),
    ("security-opt", "", "csv", (), "Security options"),
    ("squash", "", "bool", False, "Squash newly built layers into a single new layer"),
    # of skiff
    ("verify", "", "bool", False, "Build twice and show what differs"),
    ("why", "", "bool", False, "Say why a step runs again"),
)
