"""An engine in processes that were forked from its own: a sentence, an end, and no harm."""

import subprocess
import sys

import pytest

from support.checkpoints import tiny_config, tiny_model, write_gguf

OPENED = """
import multiprocessing, os, sys
from tonnage import Engine
from tonnage.core.errors import RequestError
engine = Engine.open(sys.argv[1], context=64, threads=2)
before = engine.generate([5] * 9, max_tokens=4, seed=1)
words = "".join(before)
"""
FORKED = (
    OPENED
    + """
child = os.fork()
if child == 0:
    try:
        for _ in engine.generate([5] * 9, max_tokens=4, seed=1):
            pass
    except RequestError as error:
        print(error, flush=True)
    engine.close()
    del engine
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert "".join(engine.generate([5] * 9, max_tokens=4, seed=1)) == words
print("goes on")
"""
)
POOLED = (
    OPENED
    + """
def ask(number):
    return "".join(engine.generate([number], max_tokens=2))
with multiprocessing.get_context("fork").Pool(2) as pool:
    try:
        pool.map(ask, [5, 6])
    except RequestError as error:
        print(error)
print("goes on")
"""
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(tiny_config("llama"), seed=1))


@pytest.mark.parametrize("program", [FORKED, POOLED], ids=["fork", "pool"])
def test_a_fork_is_told_to_open_an_engine_of_its_own(model, tmp_path, program):
    # Into files: a pipe would stay open as long as a fork that hangs.
    out, errors = tmp_path / "out", tmp_path / "errors"
    with out.open("w") as stdout, errors.open("w") as stderr:
        command = [sys.executable, "-c", program, model]
        code = subprocess.run(command, stdout=stdout, stderr=stderr, timeout=60).returncode
    assert code == 0, errors.read_text()
    first, *_, last = out.read_text().splitlines()
    assert "Open an engine in each process" in first
    assert last == "goes on"
