"""Tonnage: memory-first inference of large language models.

    from tonnage import Engine

    with Engine.open("smollm2-135m", "400MiB") as engine:
        for text in engine.generate("Hello", max_tokens=20):
            print(text, end="")

Names are imported when they are first used: `import tonnage` alone costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tonnage.core.version import VERSION as __version__

if TYPE_CHECKING:
    from tonnage.chat.completion import ChatCompletion as ChatCompletion
    from tonnage.chat.engine import Engine as Engine
    from tonnage.core.errors import BudgetError as BudgetError
    from tonnage.core.errors import ContextLengthError as ContextLengthError
    from tonnage.core.errors import DeadlineError as DeadlineError
    from tonnage.core.errors import OverloadError as OverloadError
    from tonnage.core.errors import RequestError as RequestError
    from tonnage.core.errors import TonnageError as TonnageError
    from tonnage.core.ledger import Ledger as Ledger
    from tonnage.core.plan import Plan as Plan
    from tonnage.core.sampling import Constraint as Constraint
    from tonnage.core.sampling import SamplingOptions as SamplingOptions
    from tonnage.engine.embedding import Embedding as Embedding
    from tonnage.engine.embedding import EmbeddingStream as EmbeddingStream
    from tonnage.engine.generation import Generation as Generation
    from tonnage.engine.generation import TokenLogprob as TokenLogprob
    from tonnage.engine.job import Delta as Delta
    from tonnage.engine.options import EngineOptions as EngineOptions
    from tonnage.engine.options import PlanOptions as PlanOptions
    from tonnage.engine.planning import plan as plan
    from tonnage.engine.prompts import Message as Message
    from tonnage.engine.stream import CompletionStream as CompletionStream
    from tonnage.planner.search.choose import PlanChoice as PlanChoice
    from tonnage.server.options import ServeOptions as ServeOptions
    from tonnage.server.start import serve as serve

# Where each public name lives.
_MODULES = {
    "BudgetError": "tonnage.core.errors",
    "ChatCompletion": "tonnage.chat.completion",
    "PlanChoice": "tonnage.planner.search.choose",
    "CompletionStream": "tonnage.engine.stream",
    "Constraint": "tonnage.core.sampling",
    "ContextLengthError": "tonnage.core.errors",
    "DeadlineError": "tonnage.core.errors",
    "Delta": "tonnage.engine.job",
    "Embedding": "tonnage.engine.embedding",
    "EmbeddingStream": "tonnage.engine.embedding",
    "Engine": "tonnage.chat.engine",
    "EngineOptions": "tonnage.engine.options",
    "Generation": "tonnage.engine.generation",
    "Ledger": "tonnage.core.ledger",
    "Message": "tonnage.engine.prompts",
    "OverloadError": "tonnage.core.errors",
    "Plan": "tonnage.core.plan",
    "PlanOptions": "tonnage.engine.options",
    "RequestError": "tonnage.core.errors",
    "SamplingOptions": "tonnage.core.sampling",
    "ServeOptions": "tonnage.server.options",
    "TokenLogprob": "tonnage.engine.generation",
    "TonnageError": "tonnage.core.errors",
    "plan": "tonnage.engine.planning",
    "serve": "tonnage.server.start",
}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
