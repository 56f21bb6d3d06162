"""Types of the native core."""

from typing_extensions import Buffer

WeightArgs = tuple[int, int, int, int, int]
ActsArgs = tuple[int, int, int]
KvArgs = tuple[int, int, int, int, int]

class InputError(ValueError): ...

class Arena:
    def __init__(self, num_bytes: int, *, huge_pages: bool) -> None: ...
    @property
    def num_bytes(self) -> int: ...
    def read(self, offset: int, num_bytes: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> None: ...

class Program:
    def __init__(self, arena: Arena, vocab_size: int, num_pages: int, max_rows: int) -> None: ...
    def embed(self, *, table: WeightArgs, scale: float, x: int) -> None: ...
    def rope_table(self, *, frequencies: int, pairs: int, table: int) -> None: ...
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
    ) -> None: ...
    def gated(
        self, *, gate: WeightArgs, up: WeightArgs, input: ActsArgs, out: ActsArgs, gelu: bool
    ) -> None: ...
    def rotate(
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
    ) -> None: ...
    def attend(
        self, *, qkv: int, num_heads: int, kv: KvArgs, window: int, softcap: float, out: int
    ) -> None: ...
    def quantize(self, *, x: int, out: ActsArgs) -> None: ...

class Executor:
    def __init__(self, isa: str, threads: int) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    def run(
        self,
        program: Program,
        tokens: list[int],
        spans: list[tuple[list[int], int, int]],
        logit_rows: list[int],
    ) -> None: ...
    def load_matrix(
        self, *, program: Program, fd: int, file_offset: int, source: int, target: WeightArgs
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
    def sample(self, arena: Arena, offset: int, vocab_size: int, num_top: int) -> Sampled: ...

def acts_bytes(rows: int, cols: int) -> int: ...
def best_isa() -> str: ...
def has_isa(isa: str) -> bool: ...
def scan_strings(buffer: Buffer, offset: int, count: int) -> int: ...

# Measuring this machine (bind_probe.cc). isa: scalar, avx2 or avx512.
def probe_read(isa: str, num_threads: int, num_bytes: int, seconds: float) -> list[float]: ...
def probe_int8(isa: str, num_threads: int, seconds: float) -> list[float]: ...
def probe_f32(isa: str, num_threads: int, seconds: float) -> list[float]: ...
def probe_disk(path: str, max_bytes: int, seconds: float) -> tuple[int, float, bool]: ...
