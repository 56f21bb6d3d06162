"""Whether a server plans for structured output: by default, where it costs little."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import get_args

from tonnage.core.errors import BudgetError, RequestError
from tonnage.engine.build import ServingOptions
from tonnage.engine.model_set import ModelSet, PlacedModel
from tonnage.machine.memory_use import Start
from tonnage.server.options import Structured


def with_tables(
    plan: Callable[[ServingOptions, Start | None], ModelSet],
    serving: ServingOptions,
    wanted: Structured,
) -> ModelSet:
    """Return the models as `plan` plans them, with the tables of structured output where wanted.

    wanted: `auto` wants them where they take nothing but pages that requests share. Raises
    RequestError for another word and for `on` without llguidance, and what `plan` raises.
    """
    if wanted not in get_args(Structured):
        words = " or ".join(get_args(Structured))
        raise RequestError(f"structured_output is {wanted!r}; it takes {words}.")
    on = replace(serving, with_structured_output=True)
    has_library = find_spec("llguidance") is not None
    if wanted == "on":
        if not has_library:
            raise RequestError(
                "Structured output needs llguidance; install it with pip install 'tonnage[serve]'."
            )
        return plan(on, None)
    if wanted == "off" or not has_library:
        return plan(serving, None)
    without = plan(serving, None)
    try:
        found = plan(on, without.start)  # planning itself has grown the process
    except BudgetError:
        return without
    pairs = zip(found.models, without.models, strict=True)
    return found if all(_is_as_good(*pair) for pair in pairs) else without


def _is_as_good(model: PlacedModel, other: PlacedModel) -> bool:
    """Whether a model has the weights, the context, the pages' format and the place of `other`."""

    def state(one: PlacedModel) -> tuple[object, ...]:
        plan = one.plan
        groups = tuple((matrix.name, matrix.format) for matrix in plan.matrices)
        return groups, plan.context_tokens, plan.kv.format, plan.max_rows, one.co_resident

    return state(model) == state(other)
