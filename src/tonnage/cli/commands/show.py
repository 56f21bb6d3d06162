"""`tonnage show` and `tonnage compare`: what models are, alone and beside each other."""

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from tonnage.cli.opening import stated
from tonnage.cli.render.comparison import Compared, render_comparison, render_comparison_svg
from tonnage.cli.render.terminal import PullProgress
from tonnage.core.units import format_bytes
from tonnage.engine.facts import ModelFacts, model_facts
from tonnage.engine.headers import read_spec
from tonnage.engine.options import PlanOptions
from tonnage.engine.planning import choose_here, fresh_budget
from tonnage.planner.quality.estimate import loss_of_file
from tonnage.planner.search.alternatives import weight_bits, weights_words
from tonnage.store.audits import cached_audits
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import ModelSource, require_means, resolve


def show(args: Namespace) -> int:
    """Print the facts about a model; return 0."""
    facts = _facts(_found(args, args.model), args)
    if args.json:
        print(json.dumps({**asdict(facts), "path": str(facts.path)}))
    else:
        print("\n".join(_lines(facts)))
    return 0


def compare(args: Namespace) -> int:
    """Print models beside each other, and draw them where a file is named; return 0."""
    budget = fresh_budget(args.memory)
    require_means(args.models, open_catalogs(args.catalog, os.environ))
    rows = []
    for name in args.models:
        source = _found(args, name)
        spec, audits = read_spec(source), cached_audits(source.path)
        choice = choose_here(spec, budget, stated(PlanOptions, args), audits, compare=False)
        lost = loss_of_file(spec)
        measured = next((one for one in audits if one.mix == "" and one.precision is None), None)
        expected = choice.forecast
        rows.append(
            Compared(
                name=source.name,
                weights=weights_words(choice.plan),
                bits=weight_bits(choice.plan),
                file_bytes=_facts(source, args).file_bytes,
                memory_bytes=choice.plan.total_bytes,
                fits=choice.accepted,
                context_tokens=choice.plan.context_tokens,
                lost_nats=None if lost is None else lost + choice.quality.mean_kld,
                perplexity=None if measured is None else measured.perplexity.value,
                tokens_per_s=None if expected is None else expected.decode_tokens_per_s,
            )
        )
    if args.svg is not None:
        args.svg.write_text(render_comparison_svg(rows), "utf-8")
    if args.json:
        print(json.dumps({"budget_bytes": budget.num_bytes, "models": [asdict(r) for r in rows]}))
    else:
        print("\n".join(render_comparison(rows, budget.num_bytes)))
    return 0


def _found(args: Namespace, name: str | None) -> ModelSource:
    catalogs = open_catalogs(args.catalog, os.environ)
    progress = PullProgress(sys.stderr)
    return resolve(name, catalogs=catalogs, offline=args.offline, progress=progress)


def _facts(source: ModelSource, args: Namespace) -> ModelFacts:
    entry = open_catalogs(args.catalog, os.environ).entries.get(source.name)
    if entry is None:
        return model_facts(source)
    return model_facts(source, entry.kind, entry.licence)


def _lines(facts: ModelFacts) -> list[str]:
    kinds = {
        "instruct": "instruct (answers messages)",
        "base": "base (goes on with a text)",
        None: "none: it writes no text, and gives vectors alone (`tonnage embed`)",
    }
    template = f"{facts.template_chars:,} characters" if facts.template_chars else "none"
    rows: dict[str, Any] = {
        "model": facts.name,
        "title": facts.title,
        "path": facts.path,
        "family": facts.family,
        "kind": kinds[facts.kind],
        "licence": facts.licence or "not stated",
        "parameters": f"{facts.num_parameters:,}",
        "layers": f"{facts.num_layers} of width {facts.d_model:,}",
        "vocabulary": f"{facts.vocab_size:,} tokens",
        "context": f"{facts.context_length:,} tokens",
        "chat template": template,
        "size": format_bytes(facts.file_bytes),
    }
    lines = [f"{name:14} {value}" for name, value in rows.items() if value != ""]
    lines += ["", f"{'format':10} {'tensors':>7} {'elements':>15} {'bytes':>11} {'bits':>6}"]
    return [
        *lines,
        *(
            f"{one.format:10} {one.num_tensors:7,} {one.num_elements:15,} "
            f"{format_bytes(one.num_bytes):>11} {8 * one.num_bytes / one.num_elements:6.2f}"
            for one in facts.formats
        ),
    ]
