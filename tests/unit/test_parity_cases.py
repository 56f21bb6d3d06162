"""No family of the product goes without a comparison with transformers."""

from support.parity_cases import CASES, LLAMACPP_CASES, ODD_SIZES, VARIANTS
from support.tiny_families import FAMILIES
from tonnage.models.registry import BY_HF_MODEL_TYPE, families


def test_every_registered_family_has_cases() -> None:
    compared = {BY_HF_MODEL_TYPE[str(config["model_type"])] for config in CASES.values()}
    # GPT-2 has no folders, and tests of its own: tests/system/test_gpt2.py.
    assert compared | {"gpt2"} == {family.name for family in families()}


def test_every_family_with_files_of_its_own_is_compared_with_llamacpp() -> None:
    compared = {family for family, _ in LLAMACPP_CASES.values()}
    assert compared == set(FAMILIES)


def test_every_family_has_every_odd_size() -> None:
    names = {(family, name) for family in FAMILIES for name in ODD_SIZES}
    assert names <= {tuple(case.split(": ", 1)) for case in CASES}
    assert VARIANTS.keys() <= set(FAMILIES)
