"""How fast a plan runs on this machine: two terms per product, and what a step takes beside them.

    product = max(bytes / bandwidth, rows * multiply-adds / rate(rows))
    step    = call + operations * barrier + products + attention + elements

The maximum is measured as one curve over rows, since reading and multiplying overlap in part, and
what is done with the sums hides as much of the wait for the memory. The share of a step's bytes
that the last cache still holds from the step before costs the second term.

All constants are measured on this machine (`Rates`, tonnage.machine.calibration); hardware that is
not here is `tonnage.planner.cost.whatif`.
"""

from typing import Literal

from tonnage.core.plan import Plan
from tonnage.core.rates import Rates, TeamRates, timed_as
from tonnage.core.record import record
from tonnage.planner.cost.request import PROMPT_TOKENS
from tonnage.planner.cost.work import Attention, Work, attend_passes, work_of

Bottleneck = Literal["memory", "compute", "overhead"]
_LOGIT_BYTES = 4


@record
class Forecast:
    """What to expect of a plan.

    decode_tokens_per_s: of all rows together, sampling included, `position` tokens before each.
    prefill_tokens_per_s, time_to_first_token_ns: of a fresh prompt of `prompt_tokens`; the latter
    with its first draw. bottleneck: what takes most of a decode step: reading at the memory's own
    speed, multiplying at the best rate of the kernels, or all that is neither.
    """

    decode_tokens_per_s: float
    prefill_tokens_per_s: float
    time_to_first_token_ns: int
    bottleneck: Bottleneck
    rows: int
    position: int
    prompt_tokens: int


def forecast(
    plan: Plan,
    rates: Rates,
    *,
    rows: int = 1,
    position: int | None = None,
    prompt_tokens: int = PROMPT_TOKENS,
) -> Forecast:
    """Return how fast `plan` decodes `rows` sequences and reads a prompt.

    position: tokens before each decoded one; those of the prompt by default. Prompt and position
    are cut to what the context holds.
    """
    return forecast_work(
        work_of(plan), rates, rows=rows, position=position, prompt_tokens=prompt_tokens
    )


def forecast_work(
    work: Work,
    rates: Rates,
    *,
    rows: int = 1,
    position: int | None = None,
    prompt_tokens: int = PROMPT_TOKENS,
) -> Forecast:
    """Return the forecast of the plan whose sums are `work`: what takes time is summing."""
    prompt = max(1, min(prompt_tokens, work.context_tokens - 1))
    at = min(prompt if position is None else position, work.context_tokens - 1)
    draw = rates.logit_s * work.vocab_size
    first = prefill_s(work, rates, prompt) + draw
    return Forecast(
        decode_tokens_per_s=rows / (step_s(work, rates, rows, at) + rows * draw),
        prefill_tokens_per_s=prompt / (first - draw),
        time_to_first_token_ns=round(first * 1e9),
        bottleneck=bottleneck(work, rates, rows, at),
        rows=rows,
        position=at,
        prompt_tokens=prompt,
    )


def prefill_s(work: Work, rates: Rates, tokens: int, position: int = 0) -> float:
    """Return the seconds of computing `tokens` of one sequence behind `position` others."""
    total = 0.0
    for begin in range(0, tokens, work.max_rows):
        rows = min(work.max_rows, tokens - begin)
        ends = int(begin + rows == tokens)
        total += step_s(work, rates, rows, position + begin, sequences=1, logit_rows=ends)
    return total


def step_s(
    work: Work,
    rates: Rates,
    rows: int,
    position: int,
    *,
    sequences: int | None = None,
    logit_rows: int | None = None,
) -> float:
    """Return the seconds of a step of `rows` token rows, each sequence's first at `position`.

    Rows are of as many sequences, and all with logits, unless stated otherwise.
    """
    sequences = rows if sequences is None else sequences
    wanted = rows if logit_rows is None else logit_rows
    lower, upper = _teams(rates, work.threads)
    low = _step_of(work, lower, rows, position, sequences, wanted)
    if lower is upper:
        return low
    high = _step_of(work, upper, rows, position, sequences, wanted)
    share = (work.threads - lower.threads) / (upper.threads - lower.threads)
    return 1 / (1 / low + (1 / high - 1 / low) * share)


def bottleneck(work: Work, rates: Rates, rows: int, position: int) -> Bottleneck:
    """Return what most of a decode step goes to."""
    team = _teams(rates, work.threads)[1]
    reading = (work.read_bytes + rows * work.kv_bytes(position)) / team.read_bytes_per_s
    best = max(rate for product in team.products for _, rate in product.cached)
    computing = rows * sum(p.weights for p in work.products) / best
    terms: dict[Bottleneck, float] = {
        "memory": reading,
        "compute": computing,
        "overhead": step_s(work, rates, rows, position) - max(reading, computing),
    }
    return max(terms, key=lambda name: terms[name])


def _teams(rates: Rates, threads: int) -> tuple[TeamRates, TeamRates]:
    """Return the measured teams around `threads`; the nearest one twice outside of all."""
    lower = [team for team in rates.teams if team.threads <= threads]
    upper = [team for team in rates.teams if team.threads >= threads]
    return (lower or upper[:1])[-1], (upper or lower[-1:])[0]


def _step_of(
    work: Work, team: TeamRates, rows: int, position: int, sequences: int, logit_rows: int
) -> float:
    read_bytes = work.read_bytes + sequences * work.kv_bytes(position)
    cached = min(1.0, team.cached_bytes / read_bytes)
    total = team.call_s + team.product_overhead_s(rows) * work.num_products
    total += _products_s(work, team, rows, logit_rows, cached)
    for op, count, per_row, late_per_row in work.elements:
        # Rows are dealt out whole; what goes by heads and blocks is shared evenly.
        whole = op.startswith("norm") or op == "embed"
        total += count * team.op_s
        for at, elements in ((rows, per_row), (logit_rows, late_per_row)):
            share = -(-at // team.threads) if whole else at / team.threads
            total += share * elements * team.element(op)
    fresh = 1 - cached if position else 0.0
    for a in work.attention:
        each = (logit_rows if a.late else rows) // sequences
        if each:
            first = position + rows // sequences - each
            total += _attend_s(a, team, work.kv_format, each, first, sequences, fresh)
    return total


def _products_s(work: Work, team: TeamRates, rows: int, logit_rows: int, cached: float) -> float:
    rates = {rate.format: rate for rate in team.products}
    written_s, gated_s = team.element("matmul"), team.element(work.activation)
    total = 0.0
    for part in work.products:
        at = logit_rows if part.late else rows
        if not at:
            continue
        beside = at / team.threads * (part.written * written_s + part.gated * gated_s)
        pass_s = rates[timed_as(part.format)].weight_s(at, cached, beside / part.weights)
        total += beside + part.weights * pass_s
    # Logits that no cache holds are read before they are written, and written back.
    logit_bytes = logit_rows * work.vocab_size * _LOGIT_BYTES
    return total + (1 - cached) * 2 * logit_bytes / team.read_bytes_per_s


def _attend_s(
    a: Attention, team: TeamRates, kv_format: str, rows: int, position: int, sequences: int,
    fresh: float,
) -> float:  # fmt: skip
    """Return the seconds of all layers of one shape: `rows` of each sequence from `position` on.

    fresh: the share of the pages of earlier steps that no cache holds.
    """
    each = -(-rows // a.tile_rows)
    scored, paged = (total / rows for total in a.passes(position, rows))
    pages, elements = team.pages_of(kv_format), a.head_elements
    visit_s = fresh * (pages.visit_s + pages.element_s * elements)

    def pass_s(heads: int) -> float:
        queries = heads * rows / each
        rate = team.attend_at(kv_format, queries)
        start_s = rate.start_s + rate.start_element_s * elements
        return queries * (start_s + paged * rate.pair_s + scored * rate.mac_s * elements) + visit_s

    shares = attend_passes(a, each * sequences, team.threads)
    known = {heads: pass_s(heads) for share in shares for heads in share}
    busiest = max(sum(n * known[heads] for heads, n in share.items()) for share in shares)
    before = a.seen(position - 1) if position else 0
    reading = fresh * sequences * a.position_bytes * before * pages.byte_s
    return a.count * (busiest * team.threads + reading)
