"""What may be stated of a model that is planned or loaded: each option once.

`tonnage.core.options` says how these groups are read. Nothing is imported here that starts slowly:
the command line is built from them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from tonnage.core.options import Option
from tonnage.core.quality import DEFAULT_QUALITY, QUALITY_BOUNDS


class MemoryOptions(TypedDict, total=False):
    """What the whole process may come to."""

    memory: Annotated[
        str | int | None,
        Option(
            help="for the whole process, such as 700MiB or 8G",
            unit="BYTES",
            usual="what it can get",
        ),
    ]


class ModelOptions(TypedDict, total=False):
    """Where a model comes from."""

    catalog: Annotated[Path | None, Option(help="one more catalog of models", unit="FILE")]
    offline: Annotated[bool, Option(help="fetch nothing", default=False)]


class PlanOptions(TypedDict, total=False):
    """What bounds the planner; it chooses what is not stated (docs/planning.md)."""

    context: Annotated[
        int | None,
        Option(
            help="positions to reserve, such as 32k",
            unit="N",
            usual="4096 where they fit",
            also=("-c", "--ctx-size", "--num-ctx", "--n-ctx", "--max-model-len", "--ctx"),
            counts=True,
        ),
    ]
    max_batch_tokens: Annotated[
        int | None,
        Option(
            help="tokens of a prompt computed at once",
            unit="N",
            usual="512 where they fit",
            former=("step_rows",),
            also=("-b", "--batch-size", "--max-num-batched-tokens", "--ubatch-size"),
            counts=True,
        ),
    ]
    concurrency: Annotated[
        int,
        Option(
            help="sequences at once",
            unit="N",
            default=1,
            also=("-np", "--parallel", "--max-num-seqs"),
        ),
    ]
    quality: Annotated[
        str | float | None,
        Option(
            help=f"how far weights may lie from the file: {', '.join(QUALITY_BOUNDS)}, or a mean "
            "KL divergence in nats",
            unit="NAME|KLD",
            usual=DEFAULT_QUALITY,
        ),
    ]
    use_audits: Annotated[
        bool,
        Option(help="let what `tonnage audit` measured here decide, not estimates", default=False),
    ]
    threads: Annotated[
        int | None,
        Option(
            help="threads",
            unit="N",
            usual="as many as make it faster",
            also=("-t", "--num-threads"),
        ),
    ]
    precision: Annotated[
        str | None,
        Option(help="8bit or 4bit: quantize float weights while loading", unit="BITS"),
    ]
    kv_format: Annotated[
        str | None,
        Option(
            help="f16 or int8: keys and values",
            unit="FORMAT",
            usual="int8 where it loses little",
            flag="--kv",
        ),
    ]
    formats: Annotated[
        Mapping[str, str] | None,
        Option(
            help="formats of single matrices by canonical name, such as layers.0.down: Q4_K",
            flag=None,
        ),
    ]
    max_logit_rows: Annotated[
        int, Option(help="positions of a step whose logits can be read", default=1, flag=None)
    ]


class SpeculationOptions(TypedDict, total=False):
    """How more than one token may come of a step (docs/speculation.md)."""

    speculate: Annotated[
        Literal["off", "suffix"],
        Option(
            help="compute guesses beside the next token: suffix takes them from the text so far",
            default="off",
        ),
    ]


class EngineOptions(PlanOptions, ModelOptions, SpeculationOptions, total=False):
    """All that `Engine.open` takes beside the model and its memory."""

    prefix_cache: Annotated[
        str | int | None,
        Option(
            help="keep computed prompts on disk, at most so much of all models, such as 4GiB",
            unit="BYTES",
            usual="nothing",
            former=("page_cache",),
        ),
    ]
