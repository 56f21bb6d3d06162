"""Which sizes the kernels can handle."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tonnage.backends.cpu.layout.sizes import BLOCK_COLS, MAX_GROUP_HEADS
from tonnage.core.errors import UnsupportedModelError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.steps import Attend, Gated, Step

HEAD_UNIT = 16
MAX_HEAD_DIM = 512


def require_kernels(spec: ModelSpec, steps: Sequence[Step]) -> None:
    """Raise UnsupportedModelError, naming the sizes of `steps` that no kernel can handle.

    What several layers share is said once.
    """
    wrong = []
    if spec.d_model % BLOCK_COLS:
        wrong.append(f"its width is {spec.d_model}, no multiple of {BLOCK_COLS}")
    for kind in (Attend, Gated):
        layers = [step for step in steps if isinstance(step, kind)]
        found = Counter(clause for step in layers for clause in _complaints(step))
        for clause, count in found.items():
            some = f"{count} of {len(layers)} layers with"
            wrong.append(f"{'every layer has' if count == len(layers) else some} {clause}")
    if wrong:
        raise UnsupportedModelError(
            f"No kernel fits this model: {'; '.join(wrong)}. Its files in other formats have the "
            "same sizes, so use another model."
        )


def _complaints(step: Attend | Gated) -> Iterator[str]:
    """Yield what a layer has that no kernel can handle."""
    if isinstance(step, Attend):
        yield from _of_heads(step)
    elif step.out.cols % BLOCK_COLS:
        yield f"{step.out.cols} inner elements, no multiple of {BLOCK_COLS}"


def _of_heads(step: Attend) -> Iterator[str]:
    kv, width = step.kv, step.num_heads * step.kv.v_dim
    sizes = " and ".join(map(str, dict.fromkeys((kv.k_dim, kv.v_dim))))
    if kv.k_dim % HEAD_UNIT or kv.v_dim % HEAD_UNIT:
        yield f"heads of {sizes} elements, no multiple of {HEAD_UNIT}"
    if max(kv.k_dim, kv.v_dim) > MAX_HEAD_DIM:
        yield f"heads of {sizes} elements, more than {MAX_HEAD_DIM}"
    if step.num_heads % kv.num_kv_heads or step.num_heads > MAX_GROUP_HEADS * kv.num_kv_heads:
        yield (
            f"{step.num_heads} query heads over {kv.num_kv_heads} key heads, not 1 to "
            f"{MAX_GROUP_HEADS} over each"
        )
    if width % BLOCK_COLS:
        yield f"heads of {width} elements together, no multiple of {BLOCK_COLS}"
