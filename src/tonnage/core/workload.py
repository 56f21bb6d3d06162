"""What is to be run, stated whole: what a layout makes a plan of."""

from dataclasses import dataclass

from tonnage.core.mix import Formats
from tonnage.core.plan import KvFormat

MAX_STEP_ROWS = 512


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be run: positions per sequence, sequences at once, rows per step, threads.

    formats: canonical names of matrices and what they become while loading; the others stay as
    they are. resident_bytes: what the process holds already, 0 for one that is to be started, and
    beside_bytes: what its other engines may come to, which is not in resident_bytes. kv_format: of
    the pages of K and V. server_bytes: what an HTTP server in the process may come to.
    with_structured_output: completions may have to fit a schema or a grammar. with_store: prefixes
    are kept on disk. shared_pages: beside a full context of one sequence, for all others; None:
    full contexts for all. num_snapshots: of sequences' states, for models that keep any beside
    pages.
    """

    context_tokens: int
    threads: int
    concurrency: int = 1
    max_rows: int = MAX_STEP_ROWS
    max_logit_rows: int = 1
    resident_bytes: int = 0
    kv_format: KvFormat = "f16"
    beside_bytes: int = 0
    formats: Formats = ()
    server_bytes: int = 0
    with_structured_output: bool = False
    with_store: bool = False
    shared_pages: int | None = None
    num_snapshots: int = 0
