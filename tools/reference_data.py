"""Pages of reference that are tables of data: metrics, errors, families and formats.

`tools/api_reference.py` writes them; needs tonnage to be importable.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tonnage.backends.cpu.layout.sizes import kv_head_bytes
from tonnage.core import errors
from tonnage.core.block_format import ALL_FORMATS, F8_E4M3, BlockFormat
from tonnage.core.kv_format import PAGE_FORMATS, PAGE_TOKENS
from tonnage.models.family import Family
from tonnage.models.registry import BY_HF_MODEL_TYPE, families
from tonnage.server.http.failures import failure_of
from tonnage.server.observe.metric_names import METRICS, OLD_NAMES
from tonnage.store.catalog import SHIPPED, load_catalog

MADE = "Written by `tools/api_reference.py`; edit what it reads.\n"


def metrics() -> Iterator[str]:
    """Yield the lines of the page of metrics."""
    yield from ("# Metrics", "", MADE)
    yield "`GET /metrics` of `tonnage serve`, in Prometheus' text format"
    yield "([serving](../serving.md#metrics))."
    yield from ("", "| name | kind | what |", "|---|---|---|")
    for name, metric in METRICS.items():
        yield f"| `{name}` | {metric.kind} | {metric.help} |"
    yield from ("", "## Former names", "", "They stay for one version.")
    yield from ("", "| name | use |", "|---|---|")
    for old, (new, labels) in OLD_NAMES.items():
        shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
        yield f"| `{old}` | `{new}{'{' + shown + '}' if shown else ''}` |"


def error_classes() -> Iterator[str]:
    """Yield the lines of the page of errors."""
    yield from ("# Errors", "", MADE)
    yield "Every failure that a user can meet is a subclass of `TonnageError` of"
    yield "`tonnage.core.errors`, and its text is a sentence with numbers and a"
    yield "way out. The command line prints it as one line and exits with 2. A"
    yield "server answers with the status below, and with an error object of the interface that"
    yield "was used."
    yield from ("", "| class | when | status |", "|---|---|---|")
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass)]
    for one in sorted(classes, key=lambda kind: kind.__name__):
        if one is errors.TonnageError or not issubclass(one, errors.TonnageError):
            continue
        status = failure_of(one("x"), "").status
        told = " ".join((inspect.getdoc(one) or "").partition("\n\n")[0].split())
        yield f"| `{one.__name__}` | {told} | {status} |"
    yield ""
    yield "A request that is refused for a while is an `OverloadError` with `retry_after_s`: 429,"
    yield "with Retry-After. A status of 500 with the code `internal_error` is a bug; the log has"
    yield "its frames under the id of the request."


def models() -> Iterator[str]:
    """Yield the lines of the page of families, formats and names."""
    yield from ("# Families and formats", "", MADE)
    yield "A checkpoint opens if its family, its settings and the formats of its tensors are known;"
    yield "everything that is not is named at once. [Contributing](../CONTRIBUTING.md#add-a-family)"
    yield "says how to add one."
    yield from ("", "## Families", "")
    yield "| family | models | in GGUF files | in folders | what is special | what is not there |"
    yield "|---|---|---|---|---|---|"
    for one in families():
        types = ", ".join(f"`{name}`" for name in one.hf_model_types) or "-"
        gguf = f"`{one.gguf_architecture}`" if one.gguf_architecture else "as another"
        special = ", ".join(_traits(one)) or "nothing"
        cells = (one.name, _models_of(one), gguf, types, special, one.not_there or "-")
        yield f"| {' | '.join(cells)} |"
    yield from _referees()
    yield from _state()
    yield from ("", "## Formats of weights", "")
    yield "Panels hold exactly the values of the file. Bits are those of the file, scales included."
    yield from ("", "| format | columns of a block | bits per weight |", "|---|---|---|")
    for fmt in sorted((*ALL_FORMATS, F8_E4M3), key=_bits, reverse=True):
        yield f"| {fmt.name} | {fmt.block_elems} | {_bits(fmt):.4g} |"
    yield from ("", "## Formats of keys and values", "")
    yield f"{' and '.join(f'`{one.name}`' for one in PAGE_FORMATS)} (`--kv`)."
    yield from ("", "## Names that can be pulled", "")
    yield "`tonnage list` shows the same, and what is here. Base models continue text; they"
    yield "were not taught to chat."
    yield from ("", "| name | owner | kind | licence | from |", "|---|---|---|---|---|")
    for entry in load_catalog(SHIPPED)[0]:
        cells = (f"`{entry.name}`", entry.owner, entry.kind, entry.licence, f"`{entry.source}`")
        yield f"| {' | '.join(cells)} |"


def _models_of(family: Family) -> str:
    """Return which models a family has: how its module begins."""
    told = inspect.getdoc(import_module(f"tonnage.models.families.{family.name}")) or ""
    return told.partition("\n")[0].partition(":")[0].rstrip(".")


def _referees() -> Iterator[str]:
    """Yield the lines of what each family was compared with, from the cases of the tests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.parity_cases import CASES, LLAMACPP_CASES  # Needs the packages of the tests.
    from support.tiny_gpt2 import SIZES

    folders = Counter(BY_HF_MODEL_TYPE[str(one["model_type"])] for one in CASES.values())
    files = Counter(BY_HF_MODEL_TYPE[family] for family, _ in LLAMACPP_CASES.values())
    folders["gpt2"], files["gpt2"] = len(SIZES), 1  # Written from a file's weights.
    yield from ("", "## Referees", "")
    yield "`make parity` compares tiny models: folders with transformers, hidden states of"
    yield "all layers and logits in float64, within float64 roundings; GGUF files with llama.cpp,"
    yield "log probabilities of all tokens, within float32 roundings. Numbers are how many models."
    yield "One of each family continues a text by the same 64 tokens as transformers."
    yield "`make test` compares what runs with the same reference, within computed bounds, and its"
    yield "bits over batches, threads and instruction sets ([testing](testing.md#parity))."
    yield from ("", "| family | with transformers | with llama.cpp |", "|---|---|---|")
    for one in families():
        yield f"| {one.name} | {folders[one.name]} | {files[one.name] or 'none'} |"


def _state() -> Iterator[str]:
    """Yield the lines of what a token of a sequence takes."""
    heads, dim = 8, 128
    sizes = (
        f"{heads * kv_head_bytes(dim, dim, one.name) // PAGE_TOKENS:,} as `{one.name}`"
        for one in PAGE_FORMATS
    )
    yield from ("", "## State", "")
    yield "Attention keeps keys and values of tokens, and nothing else per sequence. A layer of"
    yield f"{heads} key heads of {dim} takes {' and '.join(sizes)} bytes per token. Sizes go"
    yield f"by heads and their elements, in pages of {PAGE_TOKENS} tokens. A layer with a window"
    yield "keeps its last pages alone. `tonnage plan MODEL` tells a model's bytes."


def _bits(fmt: BlockFormat) -> float:
    return 8 * fmt.block_bytes / fmt.block_elems


def _traits(family: Family) -> Iterator[str]:
    if family.qkv_bias or any(
        family.hf_defaults.get(key) is True and roles.startswith("qkv")
        for key, roles in family.bias_settings.items()
    ):
        yield "biases of q, k and v"
    if family.qk_norm != "none":
        yield f"norms of q and k ({family.qk_norm})"
    if family.post_norms:
        yield "norms behind blocks" if family.pre_norms else "norms behind blocks alone"
    if family.window_period:
        yield f"all but every {_ordinal(family.window_period)} layer see a window"
    if family.no_rope_period:
        yield f"every {_ordinal(family.no_rope_period)} layer without rotary positions"
    if family.local_rope_base is not None:
        shared = family.local_rope_base == family.rope_base
        yield "rotary positions in windows unstretched" if shared else "two rotary bases"
    if family.scaled_embedding:
        yield "a scaled embedding"
    if family.activation != "silu":
        yield f"activation {family.activation}"
    if family.norm != "rms":
        yield f"{family.norm.replace('layer', 'LayerNorm')}"
    if not family.gated:
        yield "a plain MLP"
    if family.learned_positions:
        yield "learned positions"
    if family.parallel:
        yield "attention and MLP in parallel"
    if family.rotates_in_windows:
        yield "rotary positions in windows alone"
    if family.rope_style == "interleaved":
        yield "neighbours rotate"
    factors = {
        key for key in family.hf_defaults if key.endswith(("_multiplier", "_scaling", "_scale"))
    }
    if family.beside_rope:
        yield "queries grow with their position"
    if factors:
        yield f"factors ({', '.join(sorted(factors))})"


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
