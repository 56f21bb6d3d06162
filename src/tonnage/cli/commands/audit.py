"""`tonnage audit`: a model's quality, measured."""

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict

from tonnage.cli.failure import GATE_MISSED
from tonnage.cli.opening import on_load, stated
from tonnage.cli.render.choice_words import quality_word
from tonnage.cli.render.terminal import PullProgress, StatusLine, printable
from tonnage.core.errors import CacheError, RequestError
from tonnage.core.quality import AuditResult, Estimate
from tonnage.engine.headers import read_spec
from tonnage.engine.options import PlanOptions
from tonnage.engine.planning import choose_here, fresh_budget
from tonnage.planner.search.alternatives import weights_words
from tonnage.planner.search.choose import require_fit
from tonnage.quality.audit import Audit, AuditText, Progress, Subject, prepare
from tonnage.quality.gate import Gate, require_figures
from tonnage.store.audits import cached_audits, find, store
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import ModelSource, resolve


def audit(args: Namespace) -> int:
    """Measure the model of `args`, or find its audit in the cache; print lines or JSON."""
    gates = [Gate.parse(words) for words in args.gate]
    text = AuditText.of_python() if args.text is None else AuditText.read(args.text)
    source = _resolve(args, args.model)
    reference = _reference(args, source)
    require_figures(gates, has_reference=reference is not None)
    status = StatusLine(sys.stderr)
    try:
        status.show("reading")
        ready = prepare(_subject(args, source), reference, text, args.chunks)
        cached = None if args.fresh else find(ready.key)
        result = ready.named(cached or _measure(ready, args, status))
    finally:
        status.close()
    if args.json:
        print(json.dumps({**asdict(result), "cached": cached is not None}))
    else:
        print(printable(render(result), sys.stdout))
    missed = [words for gate in gates if (words := gate.missed(result)) is not None]
    for words in missed:
        print(f"tonnage: {words}", file=sys.stderr)
    return GATE_MISSED if missed else 0


def render(result: AuditResult) -> str:
    """Return the result as lines for a reader."""
    name = _named(result.model, result.precision or result.weights, result.kv_format)
    lines = [
        f"{name} on {result.text}: {result.num_scored:,} tokens "
        f"in {result.num_chunks} chunk{'s' if result.num_chunks > 1 else ''}",
        f"perplexity           {_figure(result.perplexity, '.4f')}",
    ]
    against = result.comparison
    if against is not None:
        reference = _named(
            against.reference, against.reference_precision or "", against.reference_kv_format
        )
        lines += [
            f"  of the reference   {_figure(against.perplexity, '.4f')}   ({reference})",
            f"mean KL divergence   {_figure(against.mean_kld, '.6f')} nats, "
            f"{quality_word(against.mean_kld.value)}",
            f"  half of tokens     below {against.kld_median:.6f} nats",
            f"  99 % of tokens     below {against.kld_p99:.6f} nats",
            f"  99.9 % of tokens   below {against.kld_p999:.6f} nats",
            f"top-1 agreement      {against.top1_agreement:.2%}",
            f"top-5 agreement      {against.top5_agreement:.2%}",
        ]
    return "\n".join(lines)


def _measure(ready: Audit, args: Namespace, status: StatusLine) -> AuditResult:
    def on_chunk(done: int, total: int, perplexity: float) -> None:
        status.show(f"chunk {done} of {total}, perplexity {perplexity:.2f}")

    result = ready.run(args.threads, Progress(on_load(status), on_chunk))
    try:
        store(ready.key, result)
    except CacheError as error:
        # The figures are worth more than a place to keep them.
        status.close()
        print(f"tonnage: This audit is not kept. {error}", file=sys.stderr)
    return result


def _subject(args: Namespace, source: ModelSource) -> Subject:
    """Return the model as stated, or with --memory as `tonnage plan` would have it run."""
    if args.memory is None:
        alone = (args.context, args.quality, args.max_batch_tokens, args.concurrency)
        if any(value is not None for value in alone):
            raise RequestError(
                "--context, --concurrency, --max-batch-tokens and --quality say which plan is "
                "audited; add its --memory."
            )
        return Subject(source, args.precision, args.kv_format or "f16")
    args.concurrency = 1 if args.concurrency is None else args.concurrency
    budget = fresh_budget(args.memory)
    choice = choose_here(
        read_spec(source),
        budget,
        stated(PlanOptions, args),
        cached_audits(source.path),
        compare=False,
    )
    require_fit(choice, budget)
    formats = choice.workload.formats
    words = weights_words(choice.plan) if formats else ""
    return Subject(source, args.precision, choice.workload.kv_format, formats, words)


def _reference(args: Namespace, model: ModelSource) -> Subject | None:
    if args.reference is None and args.reference_precision is None and args.reference_kv is None:
        return None
    source = model if args.reference is None else _resolve(args, args.reference)
    return Subject(source, args.reference_precision, args.reference_kv or "f16")


def _resolve(args: Namespace, name: str | None) -> ModelSource:
    catalogs = open_catalogs(args.catalog, os.environ)
    progress = PullProgress(sys.stderr)
    return resolve(name, catalogs=catalogs, offline=args.offline, progress=progress)


def _named(model: str, weights: str, kv_format: str) -> str:
    name = f"{model} at {weights}" if weights else model
    return name if kv_format == "f16" else f"{name} with {kv_format} pages"


def _figure(estimate: Estimate, form: str) -> str:
    text = f"{estimate.value:{form}}"
    if estimate.low is None or estimate.high is None:
        return f"{text} (one chunk: no interval)"
    return f"{text}, 95 % interval {estimate.low:{form}} to {estimate.high:{form}}"
