"""What options of other libraries are called here."""

from tonnage.core.foreign_names import OPENING, REASONS, SAMPLING, hint
from tonnage.core.options import described
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.options import EngineOptions, MemoryOptions

OPEN = {one.name for group in (MemoryOptions, EngineOptions) for one in described(group)}
SAMPLE = {one.name for one in described(SamplingOptions)}


def test_every_name_leads_to_an_option_of_ours():
    assert set(OPENING.values()) <= OPEN | {"model"}
    assert set(SAMPLING.values()) <= SAMPLE


def test_no_name_is_ambiguous_or_one_of_ours():
    others = [set(OPENING) - OPEN - {"model"}, set(SAMPLING) - SAMPLE, set(REASONS)]
    assert sum(map(len, others)) == len(set.union(*others))
    assert not set.union(*others) & (OPEN | SAMPLE)


def test_a_name_that_nobody_uses_leads_to_near_ones():
    assert hint("top_q", SAMPLE) == "; did you mean top_p or top_k?"
