"""A choice in words: what it costs in quality, how fast it should be, what had to give way."""

from collections.abc import Iterator, Sequence
from math import sqrt

from tonnage.core.quality import QUALITY_BOUNDS, AuditResult, PlanQuality
from tonnage.core.units import format_bytes
from tonnage.planner.search.alternatives import Alternative, held_bits, weight_bits, weights_words
from tonnage.planner.search.choose import PlanChoice

_CHANGE = 26
# Memory over file from which it is said: padding alone takes less of a real model.
_NOTEWORTHY = 1.1
# Share of tokens whose likeliest successor changes, over the root of the mean divergence in nats.
_CHANGED_PER_ROOT_NAT = 0.6


def given_up(choice: PlanChoice) -> str:
    """Return what was not stated and is less than usual, as a sentence; empty when nothing is."""
    constraints, workload, parts = choice.constraints, choice.workload, []
    if constraints.weights_open and workload.formats:
        parts.append(f"weights at {weights_words(choice.plan)}")
    if workload.kv_format != choice.usual_kv_format:
        parts.append(f"KV pages in {workload.kv_format}")
    if parts:
        parts[-1] += f", {quality_words(choice.quality)}"
    usual = choice.usual_context_tokens
    if constraints.context is None and workload.context_tokens < usual:
        parts.append(f"a context of {workload.context_tokens:,} tokens instead of {usual:,}")
    return f"To fit the budget: {'; '.join(parts)}." if parts else ""


def quality_words(quality: PlanQuality) -> str:
    """Return how far the model lies from its file, and how well that is known."""
    if quality.basis == "exact":
        return "the file as it stands"
    distance = f"mean KL divergence {quality.mean_kld:.2g} nats from the file"
    if quality.basis == "measured":
        return f"{distance}, measured (estimated {quality.estimated_kld or 0.0:.2g})"
    return f"{distance} (estimate, within a factor of {quality.factor:.2g} in 9 of 10)"


def quality_in_words(mean_kld: float) -> str:
    """Return what a divergence means to a reader, with the share of tokens that stay the likeliest.

    docs/results/quality.md has the audits behind the share.
    """
    unchanged = max(0.0, 1 - _CHANGED_PER_ROOT_NAT * sqrt(mean_kld))
    return f"{quality_word(mean_kld)}: about {100 * unchanged:.0f} of 100 next words unchanged"


def quality_word(mean_kld: float) -> str:
    """Return what a divergence means in one word or two."""
    if mean_kld <= QUALITY_BOUNDS["high"]:
        return "almost lossless"
    return "noticeable" if mean_kld <= QUALITY_BOUNDS["balanced"] else "poor"


def nats_in_words() -> str:
    """Return what figures of nats in a table mean."""
    high, balanced = QUALITY_BOUNDS["high"], QUALITY_BOUNDS["balanced"]
    return f"up to {high:g} almost lossless, up to {balanced:g} noticeable, more is poor"


def quality_lines(
    choice: PlanChoice, audits: Sequence[AuditResult], measured: AuditResult | None
) -> Iterator[str]:
    """Yield the lines below the items: weights, and how good the model still is.

    audits: all of the model; measured: the one of just what was chosen.
    """
    quality = choice.quality
    yield f"formats: {weights_words(choice.plan)}"
    if held_bits(choice.plan) > _NOTEWORTHY * weight_bits(choice.plan):
        yield f"  in memory {held_bits(choice.plan):.2f} bits"
    yield f"quality: {quality_words(quality)}"
    if quality.basis != "exact":
        yield f"  {quality_in_words(quality.mean_kld)}"
    for audit in audits[:2] if quality.basis != "measured" and not choice.workload.formats else ():
        if audit.mix == "":
            yield f"  {_audited(audit)}"
    if quality.basis == "measured" and measured is not None:
        yield f"  {_interval(measured)}"
        if quality.mean_kld > choice.constraints.max_kld:
            yield (
                f"  beyond the bound of {choice.constraints.max_kld:g}, which is kept by "
                "estimates; state a lower --quality or more --memory"
            )


def rejected_lines(choice: PlanChoice) -> Iterator[str]:
    """Yield a table of the plans that were rejected, at most 100 columns wide."""
    if choice.rejected:
        yield ""
        yield f"{'rejected':{_CHANGE}} {'bytes':>10} {'tokens/s':>8} {'nats':>8}  why"
        yield from (_alternative(one) for one in choice.rejected)


def _audited(audit: AuditResult) -> str:
    against = audit.comparison
    words = f"measured with {audit.kv_format} pages:"
    if against is None:
        return f"{words} perplexity {audit.perplexity.value:.2f} on {audit.text[-40:]}"
    return f"{words} {against.mean_kld.value:.2g} nats from {against.reference[-40:]}"


def _interval(audit: AuditResult) -> str:
    against = audit.comparison
    assert against is not None
    kld = against.mean_kld
    spread = "" if kld.low is None else f"95 % interval {kld.low:.2g} to {kld.high or 0.0:.2g}, "
    chunks = f"{audit.num_chunks} chunk{'s' * (audit.num_chunks > 1)}"
    same = f"{against.top1_agreement:.1%} of tokens the same"
    return f"{spread}{same}, in {chunks} of {audit.text[-30:]}"


def _alternative(one: Alternative) -> str:
    speed = "" if one.forecast is None else _rate(one.forecast.decode_tokens_per_s)
    return (
        f"{one.change:{_CHANGE}} {format_bytes(one.total_bytes):>10} {speed:>8} "
        f"{one.quality.mean_kld:8.2g}  {one.reason}"
    )


def _rate(tokens_per_s: float) -> str:
    return f"{tokens_per_s:,.0f}" if tokens_per_s >= 100 else f"{tokens_per_s:.3g}"
