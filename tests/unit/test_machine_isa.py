"""native/isa.table: what a set asks of a CPU is what its kernels are compiled with, and no more."""

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from support.rates import made_up_rates
from tonnage import _native
from tonnage.machine.host import read_machine
from tonnage.machine.isa import ISAS
from tonnage.machine.rates_file import load_rates, rates_key, store_rates

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
# What a flag brings besides its own feature, by the compiler's macros. A CPU with AVX2 has all of
# these, which came before it (Intel 64 manual, volume 1, chapters 12 and 14).
BEFORE = {"SSE3", "SSSE3", "SSE4_1", "SSE4_2", "POPCNT", "CRC32", "AVX", "XSAVE", "EVEX512"}


@dataclass
class Table:
    """The rows of the file. features: name -> (name in /proc/cpuinfo, flag); the rest by set."""

    features: dict[str, tuple[str, str]] = field(default_factory=dict)
    needs: dict[str, list[str]] = field(default_factory=dict)
    options: dict[str, list[str]] = field(default_factory=dict)


def read_table() -> Table:
    table = Table()
    for line in (ROOT / "native" / "isa.table").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        kind, name, *cells = line.split()
        if kind == "feature":
            table.features[name] = (cells[0], cells[1])
        elif kind == "set":
            table.needs[name] = cells[2:]
        else:
            assert kind == "option"
            table.options.setdefault(name, []).extend(cells)
    return table


TABLE = read_table()


def macros(flags: list[str]) -> set[str]:
    """The features that the compiler may use with `flags`, as it calls them in its macros."""
    assert COMPILER is not None
    command = [COMPILER, "-dM", "-E", "-x", "c++", *flags, "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(re.findall(r"^#define __([A-Z0-9_]+)__ 1$", done.stdout, re.MULTILINE))


@pytest.mark.skipif(COMPILER is None, reason="no compiler was found: flags were not checked")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are of another processor")
@pytest.mark.parametrize("name", TABLE.needs)
def test_the_compiler_may_use_what_the_set_needs_and_nothing_else(name: str) -> None:
    needs = TABLE.needs[name]
    flags = [TABLE.features[one][1] for one in needs]
    asked = macros(flags + TABLE.options.get(name, [])) - macros([])
    expected = {one.upper() for one in needs}
    assert expected <= asked
    assert asked - expected - BEFORE == set()


def test_options_ask_for_no_feature() -> None:
    options = [option for one in TABLE.options.values() for option in one]
    machine = [o for o in options if o.startswith("-m")]
    assert machine == ["-mprefer-vector-width=512"]
    assert not {flag for _, flag in TABLE.features.values()} & set(options)


def test_every_feature_is_needed_by_some_set() -> None:
    assert {one for needs in TABLE.needs.values() for one in needs} == set(TABLE.features)


def test_the_native_module_was_built_from_the_table() -> None:
    built = _native.instruction_sets()
    assert [name for name, _ in built] == [name for name in TABLE.needs if name in ISAS]
    for name, features in built:
        assert features == {TABLE.features[one][0] for one in TABLE.needs[name]}


def test_the_best_is_the_last_of_those_whose_features_are_there() -> None:
    sets = _native.instruction_sets()
    assert _native.best_isa(set()) == sets[0][0]
    for index, (name, features) in enumerate(sets):
        assert _native.best_isa(features | {"fpu", "sse2"}) == name
        for missing in features:
            assert _native.best_isa(features - {missing}) in ISAS[:index]


def test_the_best_of_this_cpu_runs_here() -> None:
    best = _native.best_isa()
    assert _native.has_isa(best)
    assert not any(_native.has_isa(name) for name in ISAS[ISAS.index(best) + 1 :])
    assert not _native.has_isa("sse9")
    with pytest.raises(_native.InputError, match="'sse9' is unknown to this build"):
        _native.Executor("sse9", 1)


def test_rates_of_another_instruction_set_are_not_those_of_this_machine(tmp_path: Path) -> None:
    machine = read_machine()
    rates = replace(made_up_rates(), key=rates_key(machine), isa=machine.isa)
    store_rates(tmp_path, rates)
    assert load_rates(tmp_path, machine) == rates
    store_rates(tmp_path, replace(rates, isa="sse9"))
    assert load_rates(tmp_path, machine) is None
