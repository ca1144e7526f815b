"""The list of products: drafted, joined, filed; what is filed is public."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from factory.api.session import (
    EVERYBODY,
    Acting,
    After,
    Here,
    Limit,
    OnceOnly,
    for_act,
    for_roles,
    listed,
    shown,
)
from factory.services.product_list import KIND, NewListing, ProductId
from nodes.contract.messages import Name, Text

router = APIRouter(prefix="/v1")
Answer = dict[str, Any]
Product = Annotated[ProductId, Path(description="产品（无版本）| product without its version")]


class Struck(BaseModel):
    """Why an item leaves the list."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reason: Text


@router.get("/public/product-list", **for_roles())
def public_list(here: Here) -> Answer:
    """产品清单（公开）| The filed list of products; needs no identity."""
    return {"items": here.product_list.public(), "next": None}


@router.get("/listings", **for_roles(*EVERYBODY))
def list_listings(
    here: Here, actor: Acting, state: Name | None = None, after: After = None, limit: Limit = 50
) -> Answer:
    """产品清单事项 | Items of the list that the caller may see."""
    return listed(here.desk.list(actor, KIND, state=state, after=after or "", limit=limit + 1), limit)


@router.get("/listings/{name}", **for_roles(*EVERYBODY))
def read_listing(here: Here, actor: Acting, name: Product) -> Answer:
    """产品清单事项 | One item of the list."""
    return shown(here.desk.read(actor, KIND, name))


@router.post("/listings", status_code=201, **for_act(KIND, "draft"))
def draft_listing(here: Here, actor: Acting, once: OnceOnly, body: NewListing) -> Answer:
    """拟列入产品清单 | Draft an item from catalogue entries and a demand."""
    return once(lambda: shown(here.product_list.draft(actor, body)))


@router.post("/listings/{name}/join", **for_act(KIND, "join"))
def join_listing(here: Here, actor: Acting, once: OnceOnly, name: Product) -> Answer:
    """共同编制 | Join an item as source department or developer."""
    return once(lambda: shown(here.product_list.join(actor, name)))


@router.post("/listings/{name}/file", **for_act(KIND, "file"))
def file_listing(here: Here, actor: Acting, once: OnceOnly, name: Product) -> Answer:
    """备案公开 | File an item; from then on it is public."""
    return once(lambda: shown(here.product_list.file(actor, name)))


@router.post("/listings/{name}/strike", **for_act(KIND, "strike"))
def strike_listing(here: Here, actor: Acting, once: OnceOnly, name: Product, body: Struck) -> Answer:
    """移出清单 | Take an item off the list."""
    return once(lambda: shown(here.product_list.strike(actor, name, reason=body.reason)))
