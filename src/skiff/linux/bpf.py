"""Device programs of cgroup v2: load one, attach it, take away the one before. bpf(2).

What a program says is runtime/isolation/devices.py's matter.
"""

import ctypes
import os
import struct
from typing import Final

from skiff.linux import syscalls
from skiff.linux.libc import check, syscall

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_TYPE_CGROUP_DEVICE: Final = 15
_ATTACH_CGROUP_DEVICE: Final = 6
_F_ALLOW_MULTI, _F_REPLACE = 2, 4
_INSTRUCTION_BYTES: Final = 8
_MOST_PROGRAMS: Final = 64

_BPF: Final = syscalls.number("bpf") if syscalls.architecture() in syscalls.ARCHITECTURES else -1


def load_device_program(program: bytes) -> int:
    """A descriptor of the loaded program (close-on-exec). OSError: the verifier refused it."""
    code = ctypes.create_string_buffer(program, len(program))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "IIQQIIQII16s",
        _TYPE_CGROUP_DEVICE,
        len(program) // _INSTRUCTION_BYTES,
        ctypes.addressof(code),
        ctypes.addressof(license_name),
        0,  # no verifier log
        0,
        0,
        0,
        0,
        b"skiff_devices",
    )
    return check(syscall(_BPF, _PROG_LOAD, attributes, len(attributes)), "load device program")


def attach(cgroup: int, program: int, *, replacing: int = -1) -> None:
    """Attach to the group behind this directory descriptor; in place of another one, atomically."""
    flags = _F_ALLOW_MULTI | (_F_REPLACE if replacing >= 0 else 0)
    attributes = struct.pack("IIIII", cgroup, program, _ATTACH_CGROUP_DEVICE, flags, max(replacing, 0))
    check(syscall(_BPF, _PROG_ATTACH, attributes, len(attributes)), "attach device program")


def attached(cgroup: int) -> tuple[int, ...]:
    """Ids of the device programs attached to the group itself, not to its ancestors."""
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    attributes = ctypes.create_string_buffer(
        struct.pack("IIIIQI", cgroup, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), _MOST_PROGRAMS)
    )
    check(syscall(_BPF, _PROG_QUERY, attributes, 28), "query device programs")
    (count,) = struct.unpack_from("I", attributes.raw, 24)
    return tuple(ids[:count])


def replace_device_program(cgroup: int, program: bytes) -> None:
    """Make this the group's only device program. At no moment is the group without one."""
    before = attached(cgroup)
    fresh = load_device_program(program)
    try:
        old = [_by_id(number) for number in before]
        try:
            attach(cgroup, fresh, replacing=old[0] if old else -1)
            for extra in old[1:]:
                attributes = struct.pack("III", cgroup, extra, _ATTACH_CGROUP_DEVICE)
                check(syscall(_BPF, _PROG_DETACH, attributes, len(attributes)), "detach device program")
        finally:
            for fd in old:
                os.close(fd)
    finally:
        os.close(fresh)


def _by_id(number: int) -> int:
    attributes = struct.pack("III", number, 0, 0)
    return check(syscall(_BPF, _PROG_GET_FD_BY_ID, attributes, len(attributes)), "open device program")
