"""Alerts over HTTP: see them, take one, say what was done."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from factory.api.session import Acting, Here, OnceOnly, for_roles
from factory.services.alerts import KIND, OWNERS
from nodes.contract.messages import Text

router = APIRouter(prefix="/v1/alerts")
Answer = dict[str, Any]
AlertName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,95}$", description="预警编号 | its name")]


class Outcome(BaseModel):
    """What was done about an alert."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Text


@router.get("", **for_roles(*OWNERS))
def alerts(here: Here, actor: Acting) -> Answer:
    """预警列表 | What stands out among events and clocks, the gravest first, with grade, owner and limit."""
    return {"items": [one.to_json() for one in here.alerts.seen(actor)], "next": None}


@router.post("/{name}/own", **for_roles(*OWNERS, kind=KIND, act="own"))
def own(here: Here, actor: Acting, once: OnceOnly, name: AlertName) -> Answer:
    """认领预警 | Take an alert as a person of the role that owns it."""
    return once(lambda: here.alerts.own(actor, name).to_json())


@router.post("/{name}/close", **for_roles(*OWNERS, kind=KIND, act="close"))
def close(here: Here, actor: Acting, once: OnceOnly, name: AlertName, body: Outcome) -> Answer:
    """处置预警 | Say what was done about an alert."""
    return once(lambda: here.alerts.close(actor, name, outcome=body.outcome).to_json())
