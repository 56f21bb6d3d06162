"""Every metric of `/metrics`: its kind and its meaning.

Names follow Prometheus' rules: counters end in _total, and a unit is a base unit in the plural
(seconds, bytes) or `ratio`. Names of the version before stay for one version, as OLD_NAMES says.
"""

from typing import Literal

from tonnage.core.record import record

Kind = Literal["counter", "gauge", "histogram"]


@record
class Metric:
    """help: a sentence for readers of /metrics."""

    kind: Kind
    help: str


def _named(kind: Kind, **helps: str) -> dict[str, Metric]:
    return {f"tonnage_{name}": Metric(kind, text) for name, text in helps.items()}


METRICS: dict[str, Metric] = {
    **_named(
        "counter",
        requests_total="Requests, by route and status; status 0: the client was gone.",
        cancelled_requests_total="Completions that ended before they were whole.",
        prompt_tokens_total="Tokens of prompts.",
        cached_prompt_tokens_total="Tokens of prompts that were found in the prefix cache.",
        generated_tokens_total="Tokens of completions.",
        dropped_prompt_tokens_total="Tokens dropped from the middle of prompts, where asked for.",
        model_loads_total="Loads of the model that succeeded.",
        model_unloads_total="Times that the model was unloaded.",
        embedded_inputs_total="Texts that became vectors.",
        embedded_tokens_total="Tokens of texts that became vectors.",
        memory_pressure_total="Uses of each pressure level since the model was loaded.",
        page_store_hits_total="KV pages found on disk since the model was loaded.",
        page_store_misses_total="KV pages asked for and not found on disk, damaged ones included.",
        page_store_damaged_pages_total="KV page files that were damaged, and deleted.",
        page_store_written_pages_total="KV pages written to disk.",
        page_store_unwritten_pages_total="KV pages that the disk did not take.",
        page_store_evicted_pages_total="KV page files deleted to stay within the cap.",
        draft_steps_total="Steps with drafts of speculation since the model was loaded.",
        drafted_tokens_total="Tokens that were drafted.",
        accepted_draft_tokens_total="Drafted tokens that were right.",
    ),
    **_named(
        "gauge",
        drafts_won_seconds="Time that drafts have saved; below 0 where they cost more.",
        connections="Open connections.",
        requests_in_progress="Requests of the model that are being answered.",
        requests_waiting="Sequences that wait for their turn in the scheduler.",
        requests_running="Sequences that are being computed.",
        kv_pages="KV pages of the model by state: free, cached or used.",
        kv_pages_capacity="KV pages of the model in all.",
        decode_tokens_per_second="Tokens per second of the last 3 s of decoding.",
        forecast_tokens_per_second="Tokens per second that were forecast for it.",
        memory_bandwidth_ratio="Share of the measured memory bandwidth that decoding uses.",
        forecast_error_ratio="Measured over forecast tokens per second, minus 1.",
        context_tokens="Positions of a prompt and its completion.",
        model_planned_bytes="What the model takes of its own once it is loaded.",
        model_requests_waiting="Requests that wait for the model to be loaded.",
        model_state="1 for the state that the model is in, 0 for others.",
        memory_planned_bytes="Planned bytes of each item of the process.",
        memory_now_bytes="Bytes of each item of the process now.",
        memory_peak_bytes="Most bytes of each item of the process so far.",
        process_budget_bytes="The budget of the whole process.",
        process_resident_bytes="Resident bytes of the process.",
        process_peak_resident_bytes="Most resident bytes of the process so far.",
        process_unaccounted_bytes="Resident bytes that no item explains.",
    ),
    **_named(
        "histogram",
        time_to_first_token_seconds="From the queue to the first token of a completion.",
        time_per_output_token_seconds="Mean time between tokens of a completion.",
        model_load_seconds="Time to load the model.",
    ),
}
# Old name -> what to use, and the labels it had in its name.
OLD_NAMES: dict[str, tuple[str, dict[str, str]]] = {
    "tonnage_pages_free": ("tonnage_kv_pages", {"state": "free"}),
    "tonnage_pages_cached": ("tonnage_kv_pages", {"state": "cached"}),
    "tonnage_pages_used": ("tonnage_kv_pages", {"state": "used"}),
    "tonnage_decode_tokens_per_s": ("tonnage_decode_tokens_per_second", {}),
    "tonnage_forecast_tokens_per_s": ("tonnage_forecast_tokens_per_second", {}),
    "tonnage_bandwidth_share": ("tonnage_memory_bandwidth_ratio", {}),
    "tonnage_forecast_error": ("tonnage_forecast_error_ratio", {}),
    "tonnage_pressure_total": ("tonnage_memory_pressure_total", {}),
}
