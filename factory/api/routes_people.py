"""Signing in, the caller's own account, organisations, accounts and the parties of agreements."""

from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from factory.accounts.credentials import KEY_DAYS_MAX, PASSWORD_MAX, Credential
from factory.api.session import (
    EVERYBODY,
    Acting,
    After,
    CaseId,
    Here,
    Limit,
    OnceOnly,
    for_act,
    for_roles,
    listed,
    shown,
)
from factory.lifecycle.roles import SEES_ALL
from factory.services.people import NewAccount, NewOrganisation
from nodes.contract import canonical
from nodes.contract.messages import Name, Text

router = APIRouter(prefix="/v1")

Secret = Annotated[str, StringConstraints(max_length=PASSWORD_MAX)]
KeyDays = Annotated[int, Field(ge=1, le=KEY_DAYS_MAX)]
Answer = dict[str, Any]

READERS = ("administrator", *sorted(SEES_ALL))


class Closed(BaseModel):
    """A body without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Login(Closed):
    """Login, password, and the code of the second factor where there is one."""

    login: Secret
    password: Secret
    code: Annotated[str, StringConstraints(max_length=16)] = ""


class Accepting(Closed):
    """An invitation and the password to set."""

    invitation: Secret
    password: Secret


class NewPassword(Closed):
    """The password that counts and the one to come."""

    old: Secret
    new: Secret


class Code(Closed):
    """Code of a second factor."""

    code: Annotated[str, StringConstraints(max_length=16)]


class NewKey(Closed):
    """An API key to make.

    Attributes:
        label: what it is for.
        days: how long it counts.
        purposes: purpose codes it is bound to; empty for any.
        account: a service the caller answers for; the caller's own account if empty.
    """

    label: Text
    days: KeyDays
    purposes: Annotated[list[Name], Field(max_length=20)] = []
    account: Name | None = None


class Days(Closed):
    """How long a new key counts."""

    days: KeyDays


class Reason(Closed):
    """Why."""

    reason: Text


class NewRoles(Closed):
    """The roles that an account has from now on, and why."""

    roles: Annotated[list[Name], Field(min_length=1, max_length=20)]
    reason: Text


class Party(Closed):
    """A body and its role under an agreement."""

    organisation: Name
    role: Name


@router.post("/sessions", status_code=201, **for_roles())
def sign_in(here: Here, body: Login) -> Answer:
    """密码登录 | Open a session with password and second factor."""
    return {"token": here.authentication.login(body.login, body.password, body.code)}


@router.post("/sessions/challenges", status_code=201, **for_roles())
def challenge(here: Here) -> Answer:
    """密钥登录：取得随机数 | A nonce for a key to sign."""
    return {"nonce": here.authentication.challenge(), "audience": here.office.identity.id}


@router.post("/sessions/by-key", status_code=201, **for_roles())
def sign_in_by_key(here: Here, body: Annotated[dict[str, Any], Body()]) -> Answer:
    """密钥登录 | Open a session with a signed challenge: a DSSE envelope over a key login."""
    return {"token": here.authentication.login_by_key(canonical.dumps(body))}


@router.delete("/sessions/current", **for_roles(*EVERYBODY))
def sign_out(here: Here, actor: Acting) -> Answer:
    """退出 | End the session or key of this call."""
    here.authentication.logout(actor)
    return {}


@router.post("/invitations/accept", **for_roles())
def accept(here: Here, body: Accepting) -> Answer:
    """设置首个口令 | Set the password of an invited account."""
    return {"account": here.authentication.accept(body.invitation, body.password)}


@router.get("/me", **for_roles(*EVERYBODY))
def me(actor: Acting) -> Answer:
    """当前身份 | Who calls, and as what."""
    return {
        "id": actor.id,
        "organisation": actor.organisation,
        "roles": sorted(actor.roles),
        "means": actor.means,
        "purposes": sorted(actor.purposes),
    }


@router.post("/me/password", **for_roles(*EVERYBODY))
def change_password(here: Here, actor: Acting, body: NewPassword) -> Answer:
    """修改口令 | Set a new password; every session ends."""
    here.authentication.change_password(actor, body.old, body.new)
    return {}


@router.post("/me/totp", status_code=201, **for_roles(*EVERYBODY))
def start_totp(here: Here, actor: Acting) -> Answer:
    """启用动态口令 | The secret of a second factor, shown once."""
    return {"address": here.authentication.start_totp(actor)}


@router.post("/me/totp/confirm", **for_roles(*EVERYBODY))
def confirm_totp(here: Here, actor: Acting, body: Code) -> Answer:
    """确认动态口令 | Make the second factor count."""
    here.authentication.confirm_totp(actor, body.code)
    return {}


@router.get("/me/keys", **for_roles(*EVERYBODY))
def keys(here: Here, actor: Acting, account: Name | None = None) -> Answer:
    """密钥列表 | Credentials of the caller, or of a service the caller answers for; no secret."""
    return {"items": [_credential(item) for item in here.authentication.keys(actor, account or "")], "next": None}


@router.post("/me/keys", status_code=201, **for_roles(*EVERYBODY))
def make_key(here: Here, actor: Acting, body: NewKey) -> Answer:
    """新建 API 密钥 | Make an API key; it is shown this once."""
    key = here.authentication.make_key(
        actor, account=body.account or "", label=body.label, days=body.days, purposes=frozenset(body.purposes)
    )
    return {"key": key}


@router.post("/me/keys/{key_id}/rotate", status_code=201, **for_roles(*EVERYBODY))
def rotate_key(here: Here, actor: Acting, key_id: CaseId, body: Days) -> Answer:
    """更换 API 密钥 | Make a key in place of this one, which ends at once."""
    return {"key": here.authentication.rotate_key(actor, key_id, days=body.days)}


@router.delete("/me/keys/{key_id}", **for_roles(*EVERYBODY))
def revoke_key(here: Here, actor: Acting, key_id: CaseId) -> Answer:
    """吊销密钥 | End a key or session at once."""
    here.authentication.revoke_key(actor, key_id)
    return {}


@router.get("/organisations", **for_roles(*EVERYBODY))
def organisations(here: Here, after: After = None, limit: Limit = 50) -> Answer:
    """机构列表 | The bodies on the platform."""
    return listed(here.desk.registry.cases("organisation", after=after or "", limit=limit + 1), limit)


@router.post("/organisations", status_code=201, **for_act("organisation", "register"))
def register(here: Here, actor: Acting, once: OnceOnly, body: NewOrganisation) -> Answer:
    """登记机构 | Register a body with the roles it may have."""
    return once(lambda: shown(here.people.register(actor, body)))


@router.get("/organisations/{organisation}", **for_roles(*EVERYBODY))
def organisation(here: Here, organisation: CaseId) -> Answer:
    """机构 | One body."""
    return shown(here.desk.registry.get("organisation", organisation))


@router.get("/accounts", **for_roles("administrator", "supervisor"))
def accounts(here: Here, after: After = None, limit: Limit = 50) -> Answer:
    """账户列表 | Accounts of persons and services."""
    return listed(here.desk.registry.cases("account", after=after or "", limit=limit + 1), limit)


@router.post("/accounts", status_code=201, **for_act("account", "open"))
def open_account(here: Here, actor: Acting, once: OnceOnly, body: NewAccount) -> Answer:
    """开立账户 | Open the account of one natural person, or of a service somebody answers for."""
    return once(lambda: shown(here.people.open_account(actor, body)))


@router.get("/accounts/{account}", **for_roles("administrator", "supervisor"))
def account(here: Here, account: CaseId) -> Answer:
    """账户 | One account."""
    return shown(here.desk.registry.get("account", account))


@router.post("/accounts/{account}/assign", **for_act("account", "assign"))
def assign_roles(here: Here, actor: Acting, once: OnceOnly, account: CaseId, body: NewRoles) -> Answer:
    """变更账户角色 | Give an account other roles of its body; its sessions end."""
    return once(lambda: shown(here.people.change_roles(actor, account, body.roles, reason=body.reason)))


@router.post("/accounts/{account}/invitations", status_code=201, **for_roles("administrator"))
def invite(here: Here, actor: Acting, account: CaseId) -> Answer:
    """邀请设置口令 | A token with which the owner sets a password; it is shown this once."""
    return {"invitation": here.authentication.invite(actor, account)}


@router.get("/accounts/{account}/credentials", **for_roles("administrator"))
def credentials(here: Here, actor: Acting, account: CaseId) -> Answer:
    """账户凭据 | Credentials of an account; no secret."""
    return {"items": [_credential(item) for item in here.authentication.keys(actor, account)], "next": None}


@router.post("/agreements/{agreement}/parties", **for_act("parties", "assign"))
def assign(here: Here, actor: Acting, once: OnceOnly, agreement: CaseId, body: Party) -> Answer:
    """指定协议角色 | Give one more body its one role under an agreement."""
    return once(lambda: shown(here.people.assign(actor, agreement, body.organisation, body.role)))


@router.get("/agreements/{agreement}/parties", **for_roles(*EVERYBODY))
def parties(here: Here, actor: Acting, agreement: CaseId) -> Answer:
    """协议各方 | The bodies of an agreement and their roles."""
    return shown(here.desk.read(actor, "parties", agreement))


def _changes(path: str, kind: str, act: str, summary: str) -> None:
    def change(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Reason) -> Answer:
        people = here.people
        do = people.change_organisation if kind == "organisation" else people.change_account
        return once(lambda: shown(do(actor, name, act, reason=body.reason)))

    change.__doc__ = summary
    router.post(f"/{path}/{{name}}/{act}", name=f"{act}_{kind}", **for_act(kind, act))(change)


for _act, _zh, _en in (("suspend", "暂停", "Suspend"), ("restore", "恢复", "Restore"), ("close", "注销", "Close")):
    _changes("organisations", "organisation", _act, f"{_zh}机构 | {_en} a body.")
    _changes("accounts", "account", _act, f"{_zh}账户 | {_en} an account.")


def _credential(item: Credential) -> Answer:
    return {
        "id": item.id,
        "owner": item.owner,
        "kind": item.kind,
        "created_at": item.created_at,
        "expires_at": item.expires_at,
        "revoked_at": item.revoked_at,
        "label": str(item.settings.get("label", "")),
        "purposes": list(item.settings.get("purposes", ())),
    }
