"""A llama.cpp model and context behind the few calls that measuring needs.

Runs with an interpreter that has llama-cpp-python; uses its low-level API only, so that no
sampling, copying or text handling of the high-level one is timed.
"""

import ctypes
from collections.abc import Sequence
from types import TracebackType

import llama_cpp as api

_LOG_TYPE = api.llama_log_callback


@_LOG_TYPE
def _no_log(level: int, text: bytes, user_data: object) -> None:
    """Drop a line of llama.cpp's log."""


class Model:
    """A GGUF file, mapped into memory as llama.cpp does by default."""

    def __init__(self, path: str) -> None:
        """Load `path`; raises ValueError when llama.cpp refuses it."""
        api.llama_log_set(_no_log, None)
        api.llama_backend_init()
        self.handle = api.llama_model_load_from_file(
            path.encode(), api.llama_model_default_params()
        )
        if not self.handle:
            raise ValueError(f"llama.cpp cannot load {path}")
        self.vocab = api.llama_model_get_vocab(self.handle)
        self.vocab_size = api.llama_vocab_n_tokens(self.vocab)

    @property
    def bos(self) -> int | None:
        """The token that begins every text, for a model that wants one."""
        if not api.llama_vocab_get_add_bos(self.vocab):
            return None
        return int(api.llama_vocab_bos(self.vocab))

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of `text`, special ones added and none parsed."""
        data = text.encode()
        size = len(data) + 8
        tokens = (api.llama_token * size)()
        count = api.llama_tokenize(self.vocab, data, len(data), tokens, size, True, False)
        if count < 0:
            raise ValueError("llama.cpp cannot tokenize the text")
        return list(tokens[:count])

    def close(self) -> None:
        """Free the model."""
        api.llama_model_free(self.handle)


class Context:
    """A KV cache of `num_sequences` × `tokens_per_sequence` tokens, with all else by default."""

    def __init__(
        self, model: Model, *, threads: int, tokens_per_sequence: int, num_sequences: int = 1
    ) -> None:
        """Reserve the cache and the compute buffers."""
        params = api.llama_context_default_params()
        params.n_ctx = tokens_per_sequence * num_sequences
        params.n_seq_max = num_sequences
        params.n_threads = params.n_threads_batch = threads
        self.model = model
        self.handle = api.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise ValueError(f"llama.cpp cannot make a context of {params.n_ctx} tokens")

    def __enter__(self) -> "Context":
        """Return the context; it is freed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the context."""
        api.llama_free(self.handle)

    def clear(self) -> None:
        """Forget every sequence."""
        api.llama_memory_clear(api.llama_get_memory(self.handle), True)

    def run(self, rows: Sequence[tuple[int, int, int]], *, all_logits: bool = False) -> None:
        """Evaluate rows of (token, position, sequence) and wait for them.

        Logits are made for the last row of every sequence, or for all rows.
        """
        batch = api.llama_batch_init(len(rows), 0, 1)
        try:
            batch.n_tokens = len(rows)
            last = {sequence: i for i, (_, _, sequence) in enumerate(rows)}
            for i, (token, position, sequence) in enumerate(rows):
                batch.token[i] = token
                batch.pos[i] = position
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = sequence
                batch.logits[i] = all_logits or last[sequence] == i
            status = api.llama_decode(self.handle, batch)
            if status:
                raise RuntimeError(f"llama_decode returned {status} for {len(rows)} rows")
            api.llama_synchronize(self.handle)
        finally:
            api.llama_batch_free(batch)

    def logits(self, row: int) -> "ctypes.Array[ctypes.c_float]":
        """Return a view of the logits of `row` of the last run, until the next one."""
        pointer = api.llama_get_logits_ith(self.handle, row)
        kind = ctypes.c_float * self.model.vocab_size
        return ctypes.cast(pointer, ctypes.POINTER(kind)).contents


def system_info() -> str:
    """Return what the loaded llama.cpp was built for."""
    return " ".join(api.llama_print_system_info().decode().split())
