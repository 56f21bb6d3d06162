"""Coverage-guided fuzzing of plan files: whatever the bytes are, a sentence or the written plan.

Run: `pip install atheris` (not needed otherwise), then
`PYTHONPATH=tests python tests/fuzz/fuzz_plan_file.py CORPUS_FOLDER -max_total_time=120`. A crash is
written to `crash-*`; turn it into a test in tests/hostile.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tonnage.planner.plan_file", "tonnage.core.from_json"]):
    from tonnage.planner.plan_file import checked_choice, parse_plan_file

from hostile.test_plan_files import MACHINE, Written, check_sentence
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.core.errors import PlanFileError

WRITTEN = Written(Path(tempfile.mkdtemp(prefix="fuzz-plan-")))


def read(raw: bytes) -> None:
    try:
        found = checked_choice(
            parse_plan_file(raw, "plan.json"), WRITTEN.spec, MACHINE, CpuLayout()
        )
    except PlanFileError as error:
        check_sentence(str(error))
        return
    assert found.plan == WRITTEN.choice.plan


if __name__ == "__main__":
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "written").write_text(WRITTEN.text)
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
