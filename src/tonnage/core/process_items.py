"""What a process takes beside the device that computes: text, requests, server, interpreter."""

from tonnage.core.footprint import (
    STORE_BYTES,
    interpreter_bytes,
    requests_bytes,
    sampler_bytes,
    structured_output_bytes,
    template_bytes,
    text_facts,
    tokenizer_bytes,
)
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import OTHER_ENGINES, Item
from tonnage.core.workload import Workload


def process_items(spec: ModelSpec, workload: Workload) -> tuple[Item, ...]:
    """Return the items that are the same in any layout; those of no bytes only where usual."""
    facts = spec.text or text_facts(spec.vocab_size)
    samplers = sampler_bytes(spec.vocab_size) * workload.concurrency
    interpreter = interpreter_bytes(workload.resident_bytes, facts)
    requests = requests_bytes(workload.concurrency, workload.context_tokens)
    bound = structured_output_bytes(spec.vocab_size) if workload.with_structured_output else 0
    usual = {
        "tokenizer": tokenizer_bytes(facts),
        "sampler": samplers,
        "chat template": template_bytes(facts),
        "interpreter and libraries": interpreter,
    }
    others = {
        OTHER_ENGINES: workload.beside_bytes,
        "requests": requests,
        "server": workload.server_bytes,
        "structured output": bound,
        "prefix store": STORE_BYTES if workload.with_store else 0,
    }
    there = usual | {name: num_bytes for name, num_bytes in others.items() if num_bytes}
    return tuple(Item(name, "host", num_bytes) for name, num_bytes in there.items())
