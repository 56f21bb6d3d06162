"""What the server reports of itself, models, health, metrics, memory; and loading by call."""

from dataclasses import asdict
from typing import Any

from tonnage.server.http.decoding import decode
from tonnage.server.http.exchange import HttpExchange
from tonnage.server.models.pool import ModelPool
from tonnage.server.models.served_model import ServedModel
from tonnage.server.models.service import Service
from tonnage.server.models.tenants import Tenant
from tonnage.server.observe.activity import emit_activity, shown
from tonnage.server.observe.metrics import KIND, Samples, emit_drafts, emit_memory, emit_page_store
from tonnage.server.openai.schema import ModelRequest

STATES = ("unloaded", "loading", "loaded", "unloading")


async def models(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """List the names of all models, and where each of them is."""
    data = [_model(pool, model, name) for model in pool.models for name in model.names]
    await exchange.json({"object": "list", "data": data})


async def model(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Tell of one name, the last part of the path."""
    name = exchange.path.removeprefix("/v1/models/")
    await exchange.json(_model(pool, pool.find(name), name))


async def load(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Load a model; answered when it is in memory."""
    async with pool.using(decode(ModelRequest, body).model):
        await exchange.json({"success": True})


async def unload(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Unload a model; answered when its memory is free."""
    await pool.unload(decode(ModelRequest, body).model)
    await exchange.json({"success": True})


def _model(pool: ModelPool, model: ServedModel, name: str) -> dict[str, Any]:
    status: dict[str, Any] = {"value": pool.state(model)}
    if model.failed:
        status["failed"] = True
    return {
        "id": name,
        "object": "model",
        "created": pool.created_s,
        "owned_by": "tonnage",
        "max_model_len": model.context_tokens,
        "status": status,
        "pinned": model.pinned,
        "planned_bytes": model.size.resident_bytes,
    }


async def health(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Say that the process lives and takes requests; models come when they are asked for."""
    await exchange.json({"status": "ok"})


async def metrics(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Tell counters and bytes to Prometheus."""
    samples = Samples()
    pool.requests.emit(samples)
    samples.add("tonnage_connections", pool.num_connections())
    with pool.observed() as services:
        for model in pool.models:
            _emit_model(samples, pool, model)
        for name, service in services.items():
            activity = await service.observer.snapshot()
            emit_activity(samples, activity, service.observer.speed(activity), name)
            emit_page_store(samples, service.engine.page_counts, name)
            emit_drafts(samples, service.engine.draft_counts, name)
        emit_memory(samples, await pool.ledger())
    await exchange.whole(samples.text().encode(), KIND)


def _emit_model(samples: Samples, pool: ModelPool, model: ServedModel) -> None:
    model.metrics.emit(samples, model.name)
    samples.add("tonnage_context_tokens", model.context_tokens, model=model.name)
    size = model.size.resident_bytes
    samples.add("tonnage_model_planned_bytes", size, model=model.name)
    waiting = pool.policy.waiting(model.name)
    samples.add("tonnage_model_requests_waiting", waiting, model=model.name)
    for state in STATES:
        is_so = int(pool.state(model) == state)
        samples.add("tonnage_model_state", is_so, model=model.name, state=state)


async def memory(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Tell every item of the plan beside what it takes, now and at its peak, and what is going on.

    Of requests and prefixes only shapes are shown: they may be another tenant's. They are those of
    the model that the query names, else of the one that was used last.
    """
    prepared = exchange.query("model")
    name = pool.policy.latest() if prepared is None else pool.find(prepared).name
    with pool.observed() as services:
        progress = await _going_on(services.get(name or ""))
        ledger = await pool.ledger()
    every = [_in_brief(pool, model) for model in pool.models]
    values = {"model": name, "models": every, **ledger.to_dict(), **progress}
    if len(pool.models) > 1:
        values["all_side_by_side_bytes"] = pool.all_together_bytes
    await exchange.json(values)


async def _going_on(service: Service | None) -> dict[str, Any]:
    if service is None:
        return {}
    activity = await service.observer.snapshot()
    counts = service.engine.page_counts
    stored = {} if counts is None else {"page_store": asdict(counts)}
    return {"speed": service.observer.speed(activity), **shown(activity), **stored}


def _in_brief(pool: ModelPool, model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "names": model.names,
        "state": pool.state(model),
        "pinned": model.pinned,
        "side_by_side": model.place.together,
        "in_place_of": model.place.in_place_of,
        "context_tokens": model.context_tokens,
        "planned_bytes": model.size.resident_bytes,
        "placed_bytes": model.placed_bytes,
        "requests_running": pool.policy.users(model.name),
        "requests_waiting": pool.policy.waiting(model.name),
    }
