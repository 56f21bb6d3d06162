"""Coverage-guided fuzzing of the safetensors reader: headers, and shard indexes.

Run: `pip install atheris` (not needed otherwise), then
`python tests/fuzz/fuzz_safetensors.py CORPUS_FOLDER -max_total_time=120`. A crash is written to
`crash-*`; turn it into a test in tests/hostile. The first byte of an input chooses the reader, and
for headers the JSON behind it is framed, so that the fuzzer need not guess a length.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tonnage.formats", "json"]):
    from tonnage.formats.safetensors import open_safetensors

from tonnage.core.errors import TonnageError

HEADER = json.dumps(
    {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    }
).encode()
INDEX = json.dumps({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}).encode()
# In memory where that exists: every run writes a file.
SHM = Path("/dev/shm")
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-safetensors-", dir=SHM if SHM.is_dir() else None))


def framed(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(32)


def check_message(text: str) -> None:
    assert text.isprintable()
    assert text.endswith(".")
    assert len(text) < 1000


def read(raw: bytes) -> None:
    kind, body = raw[:1], raw[1:]
    if kind == b"i":
        target = FOLDER / "model.safetensors.index.json"
    else:
        target = FOLDER / "fuzzed.safetensors"
        body = framed(body) if kind == b"h" else body
    target.write_bytes(body)
    try:
        catalog = open_safetensors(target)
        for entry in catalog.tensors.values():
            size = Path(entry.file).stat().st_size
            assert Path(entry.file).parent == FOLDER
            assert 8 <= entry.offset <= entry.offset + entry.nbytes <= size
            assert entry.nbytes == entry.format.nbytes(entry.shape)
    except TonnageError as error:
        check_message(str(error))


def main() -> None:
    (FOLDER / "one.safetensors").write_bytes(framed(HEADER))
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        corpus = Path(sys.argv[1])
        corpus.mkdir(parents=True, exist_ok=True)
        (corpus / "header").write_bytes(b"h" + HEADER)
        (corpus / "file").write_bytes(b"f" + framed(HEADER))
        (corpus / "index").write_bytes(b"i" + INDEX)
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
