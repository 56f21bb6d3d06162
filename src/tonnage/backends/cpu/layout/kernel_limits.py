"""Which sizes the kernels can handle."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tonnage.backends.cpu.layout.sizes import MAX_GROUP_HEADS
from tonnage.core.errors import UnsupportedModelError
from tonnage.core.steps import Attend, Step

MAX_HEAD_DIM = 512


def require_kernels(steps: Sequence[Step]) -> None:
    """Raise UnsupportedModelError, naming the sizes of `steps` that no kernel can handle.

    What several layers share is said once.
    """
    layers = [step for step in steps if isinstance(step, Attend)]
    found = Counter(clause for step in layers for clause in _complaints(step))
    wrong = []
    for clause, count in found.items():
        some = f"{count} of {len(layers)} layers with"
        wrong.append(f"{'every layer has' if count == len(layers) else some} {clause}")
    if wrong:
        raise UnsupportedModelError(
            f"No kernel fits this model: {'; '.join(wrong)}. Its files in other formats have the "
            "same sizes, so use another model."
        )


def _complaints(step: Attend) -> Iterator[str]:
    """Yield what the heads of a layer have that no kernel can handle."""
    kv = step.kv
    if max(kv.k_dim, kv.v_dim) > MAX_HEAD_DIM:
        sizes = " and ".join(map(str, dict.fromkeys((kv.k_dim, kv.v_dim))))
        yield f"heads of {sizes} elements, more than {MAX_HEAD_DIM}"
    if step.num_heads % kv.num_kv_heads or step.num_heads > MAX_GROUP_HEADS * kv.num_kv_heads:
        yield (
            f"{step.num_heads} query heads over {kv.num_kv_heads} key heads, not 1 to "
            f"{MAX_GROUP_HEADS} over each"
        )
