"""Where the tests' own cgroups are made, on machines unlike this one."""

from pathlib import Path

from support.cgroup import parents

MOUNT_V1 = "30 23 0:26 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
MOUNT_V2 = "25 20 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"


def test_version_1_under_the_own_group() -> None:
    own = "5:memory:/user/me\n4:cpu,cpuacct:/\n0::/\n"
    found = list(parents(own, MOUNT_V1.format(root="/")))
    assert found == [(1, Path("/sys/fs/cgroup/memory/user/me"))]


def test_a_container_sees_its_group_as_the_root() -> None:
    own = "5:memory:/docker/abc\n"
    found = list(parents(own, MOUNT_V1.format(root="/docker/abc")))
    assert found == [(1, Path("/sys/fs/cgroup/memory"))]
    found = list(parents(own, MOUNT_V1.format(root="/docker/ab")))
    assert found == [(1, Path("/sys/fs/cgroup/memory"))]


def test_version_2_goes_up_to_where_children_may_have_limits() -> None:
    found = list(parents("0::/user.slice/a.scope\n", MOUNT_V2))
    names = ("user.slice/a.scope", "user.slice", "")
    assert found == [(2, Path("/sys/fs/cgroup") / name) for name in names]


def test_without_a_memory_controller_there_is_none() -> None:
    assert not list(parents("4:cpu:/\n", MOUNT_V1.format(root="/")))
