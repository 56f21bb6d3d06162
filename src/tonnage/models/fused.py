"""Matrices or biases that a checkpoint keeps in one tensor, one below the other, seen apart.

Rows follow one another in every block format, so a part is a range of the tensor's bytes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from tonnage.core.block import Shape
from tonnage.core.checkpoint import Catalog, TensorEntry

FUSED = {
    "qkv": ("q", "k", "v"),
    "qkv_bias": ("q_bias", "k_bias", "v_bias"),
    "gate_up": ("gate", "up"),
}


def split_fused(
    catalog: Catalog,
    expected: Mapping[str, Shape],
    names: Mapping[str, str],
    name_of: Callable[[str], str],
) -> Catalog:
    """Return the catalog with fused tensors replaced by their parts, named as `names` has them.

    expected, names: canonical name -> shape, and name in the file. name_of: the name in the file of
    a canonical one. A tensor without exactly the rows of its parts stays as it is.
    """
    tensors = dict(catalog.tensors)
    for canonical in expected:
        prefix, _, role = canonical.rpartition(".")
        for whole, parts in FUSED.items():
            if role != parts[0]:
                continue
            entry = tensors.get(name_of(f"{prefix}.{whole}"))
            shapes = [expected.get(f"{prefix}.{part}", ()) for part in parts]
            if not all(shapes):
                continue
            rows = sum(shape[0] for shape in shapes)
            if entry is None or entry.shape != (rows, *shapes[0][1:]):
                continue
            del tensors[entry.name]
            own_names = (names[f"{prefix}.{part}"] for part in parts)
            tensors.update(zip(own_names, _parts(entry, shapes), strict=True))
    return replace(catalog, tensors=tensors)


def _parts(entry: TensorEntry, shapes: list[Shape]) -> Iterator[TensorEntry]:
    offset = entry.offset
    for shape in shapes:
        nbytes = entry.format.nbytes(shape)
        yield replace(entry, shape=shape, offset=offset, nbytes=nbytes)
        offset += nbytes
