"""The packaged numbers: spot checks against the kernel's headers, and their form."""

import pytest

from skiff.linux import syscalls


@pytest.mark.parametrize(
    ("name", "arch", "number"),
    [
        ("read", "x86_64", 0),
        ("execve", "x86_64", 59),
        ("clone3", "x86_64", 435),
        ("mseal", "x86_64", 462),
        ("read", "x86", 3),
        ("socketcall", "x86", 102),
        ("read", "x32", 0x40000000),
        ("execve", "x32", 0x40000000 | 520),
        ("read", "aarch64", 63),
        ("clone3", "aarch64", 435),
        ("read", "arm", 3),
        ("set_tls", "arm", 0xF0005),
    ],
)
def test_numbers(name: str, arch: str, number: int) -> None:
    assert syscalls.number(name, arch) == number


@pytest.mark.parametrize("arch", syscalls.ARCHITECTURES)
def test_every_architecture_has_its_table(arch: str) -> None:
    table = syscalls.numbers(arch)
    assert len(table) > 300
    # Calls from 424 on have one number everywhere.
    assert table["openat2"] & ~syscalls.X32_BIT == 437


def test_what_is_not_there() -> None:
    with pytest.raises(KeyError):
        syscalls.number("open", "aarch64")
    with pytest.raises(KeyError):
        syscalls.numbers("vax")
