"""What a release is made of: which interpreters build, and what is refused."""

import sys
from pathlib import Path

import pytest

from tools import pythons, wheels


@pytest.mark.parametrize(
    ("there", "build"),
    [
        ("3.11 3.12 3.13 3.14", "3.11 3.12"),
        ("3.14 3.13 3.11", "3.11 3.13"),
        ("3.10 3.13", "3.13"),
        ("3.10", ""),
    ],
)
def test_one_wheel_for_311_and_one_for_all_newer(
    there: str, build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEP 384: what is built for the stable ABI of 3.12 loads in every later version."""
    monkeypatch.setattr(
        wheels, "version_of", lambda python: tuple(map(int, python.split("."))) or None
    )
    assert wheels.builders(there.split()) == build.split()


def test_a_release_has_manylinux_wheels_of_at_most_6_mib(tmp_path: Path) -> None:
    good = tmp_path / "tonnage-1-cp312-abi3-manylinux_2_28_x86_64.whl"
    good.write_bytes(bytes(6 << 20))
    wheels.check_wheel(good)
    good.write_bytes(bytes((6 << 20) + 1))
    with pytest.raises(wheels.ReleaseError, match="6291457 bytes"):
        wheels.check_wheel(good)
    own = tmp_path / "tonnage-1-cp312-abi3-linux_x86_64.whl"
    own.write_bytes(b"")
    with pytest.raises(wheels.ReleaseError, match="not a manylinux wheel"):
        wheels.check_wheel(own)


def test_this_python_is_found_and_one_that_is_not_there_is_not() -> None:
    version = "{}.{}".format(*sys.version_info[:2])
    python = pythons.found(version)
    assert python is not None
    assert wheels.version_of(python) == sys.version_info[:2]
    assert pythons.found("2.99") is None
