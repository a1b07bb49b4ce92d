"""Mount options, taken apart."""

from skiff.linux import mounts
from skiff.linux.mounts import Options, parse


def test_flags_propagation_and_data() -> None:
    options = parse(("nosuid", "ro", "rw", "rslave", "size=64m", "mode=755", "rbind"))
    assert options.flags == mounts.MS_NOSUID | mounts.MS_BIND | mounts.MS_REC
    assert options.cleared == mounts.MS_RDONLY
    assert options.propagation == (mounts.MS_SLAVE | mounts.MS_REC,)
    assert options.data == ("size=64m", "mode=755")


def test_recursive_attributes_later_ones_win() -> None:
    assert parse(("rro",)).set == mounts.MOUNT_ATTR_RDONLY
    assert parse(("rro", "rrw")) == Options(clear=mounts.MOUNT_ATTR_RDONLY)
    assert parse(("tmpcopyup", "ridmap")) == Options(copy_up=True, idmap=2)


def test_lower_directories_with_escaped_colons() -> None:
    assert mounts.lower_directories(r"/a:/b\:c:/d\\e") == ["/a", "/b:c", "/d\\e"]
