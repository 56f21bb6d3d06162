"""Types of the native core."""

from collections.abc import Sequence, Set

from typing_extensions import Buffer

WeightArgs = tuple[int, int, int, int, int]
ActsArgs = tuple[int, int, int]
KvArgs = tuple[int, int, int, int, int, str, int]

class InputError(ValueError): ...

def instruction_sets() -> list[tuple[str, set[str]]]: ...
def best_isa(features: Set[str] | None = None) -> str: ...
def has_isa(isa: str) -> bool: ...

class Arena:
    def __init__(self, num_bytes: int, *, huge_pages: bool) -> None: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def address(self) -> int: ...
    def read(self, offset: int, num_bytes: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> None: ...

class Program:
    def __init__(
        self, arena: Arena, vocab_size: int, groups: list[tuple[int, int]], max_rows: int
    ) -> None: ...
    def embed(
        self, *, table: WeightArgs, scale: float, x: int, positions: WeightArgs | None = None
    ) -> None: ...
    def rope_table(
        self, *, frequencies: int, pairs: int, table: int, scale: float = 1.0
    ) -> None: ...
    def norm(
        self,
        *,
        x: int,
        weight: int,
        added: int,
        added_weight: int,
        eps: float,
        out: ActsArgs,
        gather: bool,
        centred: bool = False,
        bias: int = -1,
    ) -> None: ...
    def matmul(
        self,
        *,
        parts: list[tuple[WeightArgs, int, int]],
        input: ActsArgs,
        out: int,
        out_stride: int,
        out_rows: int,
        cap: float,
        accumulate: bool,
        gather: bool,
        scale: float = 1.0,
    ) -> None: ...
    def gated(
        self,
        *,
        gate: WeightArgs,
        up: WeightArgs | None,
        input: ActsArgs,
        out: ActsArgs,
        activation: str,
        gate_bias: int = -1,
        up_bias: int = -1,
    ) -> None: ...
    def qk_norm(
        self,
        *,
        qkv: int,
        cols: int,
        q_cols: int,
        k_cols: int,
        q_norm: int,
        k_norm: int,
        eps: float,
    ) -> None: ...
    def rope_kv_write(
        self,
        *,
        qkv: int,
        num_heads: int,
        kv: KvArgs,
        q_norm: int,
        k_norm: int,
        eps: float,
        scale: float,
        table: int,
        pairs: int,
        interleaved: bool,
        k_bias: int = -1,
        low_from: int = 0,
        temperature: float = 0.0,
        temperature_tokens: int = 0,
    ) -> None: ...
    def gather_last(
        self, *, x: int, x_cols: int, qkv: int, qkv_cols: int, kept: ActsArgs | None = None
    ) -> None: ...
    def attend(
        self, *, qkv: int, num_heads: int, kv: KvArgs, window: int, softcap: float, out: int
    ) -> None: ...
    def quantize(self, *, x: int, out: ActsArgs) -> None: ...
    def pool_hidden(
        self,
        *,
        x: int,
        weight: int,
        added: int,
        added_weight: int,
        eps: float,
        cols: int,
        sums: int,
        slots: int,
        centred: bool = False,
        bias: int = -1,
    ) -> None: ...

class Executor:
    def __init__(self, isa: str, threads: int) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    @property
    def op_ns(self) -> list[int]: ...
    def set_timed(self, timed: bool) -> None: ...
    def run(
        self,
        program: Program,
        tokens: list[int],
        spans: list[tuple[list[list[int]], int, int]],
        logit_rows: list[int],
        pooled: list[tuple[int, int, int, bool]] = [],
    ) -> None: ...
    def load_matrix(
        self,
        *,
        program: Program,
        fd: int,
        file_offset: int,
        source: int,
        target: WeightArgs,
        scales: Sequence[float] = [],
    ) -> None: ...

class SamplingParams:
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int
    logit_bias: dict[int, float]
    def __init__(self) -> None: ...

class Sampled:
    @property
    def token(self) -> int: ...
    @property
    def logprob(self) -> float: ...
    @property
    def top(self) -> list[tuple[int, float]]: ...

class Sampler:
    def __init__(self, vocab_size: int, params: SamplingParams) -> None: ...
    def observe(self, token: int) -> None: ...
    def set_mask(self, mask: bytes) -> None: ...
    def sample(
        self, arena: Arena, offset: int, vocab_size: int, num_top: int, isa: str = ""
    ) -> Sampled: ...

def sample_rows(
    executor: Executor,
    arena: Arena,
    offset: int,
    vocab_size: int,
    rows: list[tuple[Sampler, int, int]],
    sampled: list[Sampled | str],
) -> None: ...
def requantize(
    executor: Executor,
    *,
    source: int,
    target: int,
    cols: int,
    data: bytes,
    importance: bytes = b"",
) -> bytes: ...
def acts_bytes(rows: int, cols: int) -> int: ...
def load_staging_bytes(source: int, target: int, cols: int) -> int: ...
def scan_strings(buffer: Buffer, offset: int, count: int) -> int: ...
def grids() -> dict[str, bytes]: ...

# Measuring this machine (bind_probe.cc). isa: a name of native/isa.table.
def probe_read(isa: str, num_threads: int, num_bytes: int, seconds: float) -> list[float]: ...
def probe_int8(isa: str, num_threads: int, seconds: float) -> list[float]: ...
def probe_f32(isa: str, num_threads: int, seconds: float) -> list[float]: ...
def probe_disk(path: str, max_bytes: int, seconds: float) -> tuple[int, float, bool]: ...
def pattern_pieces(pattern: str, text: Buffer) -> list[tuple[int, int]]: ...
def ids_of_texts(tokens: Buffer, count: int, texts: list[str]) -> list[int]: ...

class JsonFile:
    def __init__(self, path: str) -> None: ...
    def members(self, offset: int) -> dict[str, tuple[int, int]]: ...
    def elements(self, offset: int) -> list[tuple[int, int]]: ...
    def value(self, begin: int, end: int) -> bytes: ...

class TokenizerCore:
    def __init__(
        self,
        *,
        model: int = 0,
        byte_level: bool = False,
        byte_fallback: bool = False,
        fuse_unknown: bool = False,
        whole_word: bool = False,
        unescapes_spaces: bool = False,
        unknown_id: int = -1,
        unknown_token: str = "",
        subword_prefix: str = "",
        word_suffix: str = "",
        max_word_chars: int = 100,
        steps: Sequence[tuple[int, str, int, bool, bool, bool]] = (),
    ) -> None: ...
    def load_gguf_tokens(
        self, tokens: Buffer, count: int, types: Buffer, scores: Buffer, controls: list[int]
    ) -> None: ...
    def load_gguf_merges(self, merges: Buffer, count: int) -> None: ...
    def load_json_vocabulary(self, file: JsonFile, offset: int) -> None: ...
    def load_json_log_probabilities(self, file: JsonFile, offset: int) -> None: ...
    def load_json_merges(self, file: JsonFile, offset: int) -> None: ...
    def load_text_merges(self, text: Buffer) -> None: ...
    def add_special(
        self, id: int, text: bytes, kind: int, manners: int, normalized: bytes | None
    ) -> None: ...
    def finish(self) -> None: ...
    def encode(self, text: Buffer, parse_special: bool) -> list[int]: ...
    def encode_plain(self, text: Buffer, at_start: bool) -> list[int]: ...
    def split(
        self, text: Buffer, parse_special: bool, second: int
    ) -> list[tuple[int, int, int, int, int]]: ...
    def split_normalized(
        self, text: Buffer, parse_special: bool
    ) -> list[tuple[int, int, int, int, int]]: ...
    @property
    def has_normalized_specials(self) -> bool: ...
    def token_text(self, id: int) -> bytes: ...
    def token_bytes(self, id: int) -> bytes: ...
    def kind(self, id: int) -> int: ...
    def find(self, text: bytes) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
