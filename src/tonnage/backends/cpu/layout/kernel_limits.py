"""Which sizes the kernels can handle."""

from collections.abc import Iterator, Sequence

from tonnage.backends.cpu.layout.sizes import BLOCK_COLS, MAX_GROUP_HEADS
from tonnage.core.errors import UnsupportedModelError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.steps import Attend, Gated, Step

MAX_HEAD_DIM = 512
MAX_SHOWN = 8


def require_kernels(spec: ModelSpec, steps: Sequence[Step]) -> None:
    """Raise UnsupportedModelError, naming the sizes of `steps` that no kernel can handle."""
    wrong = [f"the model width {spec.d_model} is no multiple of 32"] if spec.d_model % 32 else []
    wrong += dict.fromkeys(clause for step in steps for clause in _complaints(step))
    if wrong:
        listed = "; ".join(wrong[:MAX_SHOWN])
        raise UnsupportedModelError(f"No kernel fits this model: {listed}.")


def _complaints(step: Step) -> Iterator[str]:
    if isinstance(step, Attend):
        yield from _of_heads(step)
    elif isinstance(step, Gated) and step.out.cols % BLOCK_COLS:
        yield f"{step.gate} has {step.out.cols} rows, no multiple of {BLOCK_COLS}"


def _of_heads(step: Attend) -> Iterator[str]:
    kv, layer = step.kv, f"attention {step.kv.layer}"
    if kv.k_dim % 16 or kv.v_dim % 16 or max(kv.k_dim, kv.v_dim) > MAX_HEAD_DIM:
        yield (
            f"{layer} has heads of {kv.k_dim} and {kv.v_dim}, not multiples of 16 up to "
            f"{MAX_HEAD_DIM}"
        )
    if step.num_heads % kv.num_kv_heads or step.num_heads > MAX_GROUP_HEADS * kv.num_kv_heads:
        yield f"{layer} has {step.num_heads} query heads over {kv.num_kv_heads} key heads"
    if step.num_heads * kv.v_dim % BLOCK_COLS:
        yield f"{layer} gives {step.num_heads * kv.v_dim} elements, no multiple of {BLOCK_COLS}"
