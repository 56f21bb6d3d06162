"""What the server tells of itself: models, health, metrics, memory."""

from typing import Any

from tonnage.server.activity import gauges, rung_lines, shown
from tonnage.server.exchange import Exchange
from tonnage.server.metrics import KIND
from tonnage.server.service import Service
from tonnage.server.tenants import Tenant


async def models(service: Service, exchange: Exchange, tenant: Tenant, body: bytes) -> None:
    """List the names of the model."""
    data = [_model(service, name) for name in service.names]
    await exchange.json({"object": "list", "data": data})


async def model(service: Service, exchange: Exchange, tenant: Tenant, body: bytes) -> None:
    """Tell of one name, the last part of the path."""
    name = exchange.path.removeprefix("/v1/models/")
    service.require_model(name)
    await exchange.json(_model(service, name))


def _model(service: Service, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": service.created_s,
        "owned_by": "tonnage",
        "max_model_len": service.context_tokens,
    }


async def health(service: Service, exchange: Exchange, tenant: Tenant, body: bytes) -> None:
    """Say that the process lives and the model is loaded."""
    await exchange.json({"status": "ok"})


async def metrics(service: Service, exchange: Exchange, tenant: Tenant, body: bytes) -> None:
    """Tell counters and bytes to Prometheus."""
    ledger = await service.onlooker.ledger()
    activity = await service.onlooker.look()
    now = {
        "connections": service.num_connections(),
        "context_tokens": service.context_tokens,
        **gauges(activity, service.onlooker.speed(activity)),
    }
    text = service.metrics.text(now, ledger) + "\n".join([*rung_lines(activity), ""])
    await exchange.whole(text.encode(), KIND)


async def memory(service: Service, exchange: Exchange, tenant: Tenant, body: bytes) -> None:
    """Tell every item of the plan beside what it takes, now and at its peak, and what is going on.

    Of requests and prefixes only shapes are told: they may be another tenant's.
    """
    activity = await service.onlooker.look()
    told = {"speed": service.onlooker.speed(activity), **shown(activity)}
    ledger = await service.onlooker.ledger()
    await exchange.json({"model": service.name, **ledger.to_dict(), **told})
