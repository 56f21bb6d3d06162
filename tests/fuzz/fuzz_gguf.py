"""Coverage-guided fuzzing of the GGUF reader.

Run: `pip install atheris` (not needed otherwise), then
`python tests/fuzz/fuzz_gguf.py CORPUS_FOLDER -max_total_time=120`. A crash is written to
`crash-*`; turn it into a test in tests/hostile.
"""

import mmap
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tonnage.formats"]):
    from tonnage.formats.gguf import GgufArray, GgufFile

from tonnage.core.errors import TonnageError

sys.path.insert(0, str(Path(__file__).parent.parent / "hostile"))
from gguf_bytes import small_gguf


def check_message(text: str) -> None:
    assert text.isprintable()
    assert text.endswith(".")
    assert len(text) < 1000


def read(raw: bytes) -> None:
    data = mmap.mmap(-1, max(1, len(raw)))
    data[: len(raw)] = raw
    try:
        file = GgufFile(data, "fuzzed")
        for value in file.metadata.values():
            if isinstance(value, GgufArray):
                assert len(value.to_list()) == value.count
        for name, entry in file.catalog.tensors.items():
            with file.tensor_buffer(name) as view:
                assert len(view) == entry.nbytes == entry.format.nbytes(entry.shape)
    except TonnageError as error:
        check_message(str(error))
    finally:
        data.close()


def main() -> None:
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        corpus = Path(sys.argv[1])
        corpus.mkdir(parents=True, exist_ok=True)
        (corpus / "small").write_bytes(small_gguf())
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
