"""The budget that nobody stated, in real memory groups: within the limit, and the same for all.

Pages of the interpreter and its libraries are charged elsewhere here, since this test has touched
them before the group was made.
"""

import json
import sys

import pytest

from support.cgroup import memory_group, why_not
from support.checkpoints import tiny_config, tiny_model, write_gguf

MIB = 1 << 20
REASON = why_not()
pytestmark = [
    pytest.mark.guarantee,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
# A process of Python may hold so much more or less when it asks for its limits.
SLACK_BYTES = 2 * MIB

# Runs in the group: a neighbour holds memory, a file lies in the page cache, and each of the three
# ways to a budget is taken by a process of its own.
INSIDE = """
import json, os, subprocess, sys
model, folder, held, cached = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with open(folder + "/cached", "wb") as file:
    for _ in range(cached >> 20):
        file.write(bytes(1 << 20))
    file.flush()
    os.fsync(file.fileno())
hold = "import sys; kept = bytearray(b'x') * int(sys.argv[1]); print(flush=True); sys.stdin.read()"
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
beside = subprocess.Popen([sys.executable, "-c", hold, str(held)], **pipes)
beside.stdout.readline()
opened = '''
import json, sys
from tonnage import Engine
with Engine.open(sys.argv[1]) as engine:
    engine.generate([5] * 40, max_tokens=8)
    print(json.dumps({"budget_bytes": engine.ledger().budget_bytes}))
'''
tonnage = [sys.executable, "-m", "tonnage"]
budgets = {}
for name, command in {
    "plan": [*tonnage, "plan", model, "--json"],
    "engine": [sys.executable, "-c", opened, model],
    "serve": [*tonnage, "serve", model, "--plan", "--json"],
}.items():
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    budgets[name] = json.loads(done.stdout)["budget_bytes"]
beside.communicate()
print(json.dumps(budgets))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(tiny_config("gemma2"), seed=1))


@pytest.mark.parametrize("limit_mib", [200, 512])
@pytest.mark.parametrize(
    ("held_mib", "cached_mib"), [(0, 0), (0, 100), (40, 0)], ids=["alone", "cache", "neighbour"]
)
def test_no_way_to_a_budget_exceeds_the_limit(model, tmp_path, limit_mib, held_mib, cached_mib):
    limit, held, cached = (size * MIB for size in (limit_mib, held_mib, cached_mib))
    with memory_group(limit) as group:
        done = group.run([sys.executable, "-c", INSIDE, model, tmp_path, held, cached])
    assert (done.returncode, done.num_oom_kills) == (0, 0), done.stderr
    budgets = json.loads(done.stdout.splitlines()[-1])
    assert max(budgets.values()) <= limit
    assert max(budgets.values()) - min(budgets.values()) <= SLACK_BYTES, budgets
    # The neighbours are two bare interpreters and their pipes.
    assert min(budgets.values()) >= limit - held - 32 * MIB, budgets
