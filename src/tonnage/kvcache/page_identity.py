"""What keys and values of given tokens depend on, as one digest: model, formats, code."""

import json
from functools import cache
from hashlib import sha256
from pathlib import Path

from tonnage import _native
from tonnage.core.plan import Plan

# Raise it when pages of the same model, plan and native code would hold other values.
_METHOD_VERSION = 1


def page_identity(model: str, tokenizer: str, template: str | None, plan: Plan) -> bytes:
    """Return 32 bytes that change whenever a page of the same tokens could hold other bytes.

    model: identifies its weights. tokenizer: identifies its vocabulary; with the template it
    changes no page, but what it makes of a text. Of the plan: formats of weights and pages, where
    layers lie in a page and blocks in a state, and the arithmetic of the steps; not sizes of pools,
    rows or threads, since logits do not depend on them (docs/kernels.md). Rows may still decide how
    layers are grouped into pages, and pages of another form are other pages.
    """
    parts = {
        "method": _METHOD_VERSION,
        "native": _native_digest(),
        "model": model,
        "tokenizer": tokenizer,
        "template": sha256((template or "").encode("utf-8", "surrogatepass")).hexdigest(),
        "weights": [(m.name, m.format, m.source.format, m.rows, m.cols) for m in plan.matrices],
        "vectors": [(v.name, v.count, v.add) for v in plan.vectors],
        "ropes": [(r.frequencies, r.factors, r.attention_factor) for r in plan.ropes],
        "pages": [plan.kv.format, plan.kv.page_tokens, *_layout(plan)],
        "states": [(block.offset, block.elements) for block in plan.slots.blocks],
        "steps": [step.arithmetic for step in plan.steps],
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _layout(plan: Plan) -> list[object]:
    groups = plan.kv.groups
    layers = [
        (layer.group, layer.offset - groups[layer.group].offset, layer.num_heads, layer.k_dim,
         layer.v_dim)
        for layer in plan.kv.layers
    ]  # fmt: skip
    return [[(group.window, group.page_stride) for group in groups], layers]


@cache
def _native_digest() -> str:
    return sha256(Path(str(_native.__file__)).read_bytes()).hexdigest()
