"""Capability names, masks, and this process's own sets."""

import pytest

from skiff.linux import capabilities


def test_numbers_are_the_kernels() -> None:
    for name, number in (("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("CAP_CHECKPOINT_RESTORE", 40)):
        assert capabilities.NUMBERS[name] == number
    assert len(capabilities.NAMES) == 41


def test_masks_and_names() -> None:
    assert capabilities.mask(["CAP_CHOWN", "CAP_KILL"]) == 0b100001
    assert capabilities.names(0b100001) == ("CAP_CHOWN", "CAP_KILL")
    with pytest.raises(KeyError):
        capabilities.mask(["CAP_NONE"])


def test_own_sets_are_those_of_proc() -> None:
    with open("/proc/thread-self/status") as file:
        shown = {line.split()[0]: line.split()[1] for line in file if line.startswith("Cap")}
    effective, permitted, inheritable = capabilities.get_sets()
    assert effective == int(shown["CapEff:"], 16)
    assert permitted == int(shown["CapPrm:"], 16)
    assert inheritable == int(shown["CapInh:"], 16)
