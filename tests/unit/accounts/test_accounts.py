"""Accounts: nobody gets in by guessing, learns who exists, shares an account or holds two roles that stay apart."""

import base64
import json
import threading

import pyotp
import pytest

from factory.accounts.authentication import FAILURES_MAX, LOCK_MINUTES, KeyLogin
from factory.accounts.errors import CredentialError, LockedError, UnauthenticatedError, WeakPasswordError
from factory.accounts.keys import AccountKeys
from factory.identity import HomeError
from factory.lifecycle.roles import APART, PERSON_APART
from factory.registry import schema
from factory.registry.errors import CaseExistsError, TransitionRefusedError
from factory.services.people import NewAccount, NewOrganisation
from nodes.contract.signing import sign
from tests import offices
from tests.registries import KINDS, PASSWORD, Platform, registry_url


@pytest.fixture(params=KINDS)
def platform(request, tmp_path):
    with registry_url(request.param, tmp_path) as url:
        found = Platform(url, tmp_path)
        yield found
        found.close()


@pytest.fixture
def small(tmp_path):
    found = Platform(f"sqlite:///{tmp_path / 'registry.db'}", tmp_path)
    yield found
    found.close()


class refused:
    def __init__(self, code):
        self.code = code
        self.inner = pytest.raises(TransitionRefusedError)

    def __enter__(self):
        self.found = self.inner.__enter__()
        return self.found

    def __exit__(self, *args):
        ended = self.inner.__exit__(*args)
        assert self.found.value.refusal.code == self.code
        return ended


def acts(platform):
    return [event.body["act"] for event in platform.registry.events()]


def test_a_person_signs_in_and_is_who_the_registry_says(platform):
    platform.body("org-operator", "operator")
    platform.person("li", "org-operator", "operator")
    platform.with_password("li")
    actor = platform.authentication.actor(platform.authentication.login("li", PASSWORD))
    assert (actor.id, actor.organisation, actor.roles, actor.means) == (
        "li", "org-operator", frozenset({"operator"}), "password",
    )  # fmt: skip
    assert acts(platform)[-1] == "account.login"
    assert platform.registry.verify_chain() == len(acts(platform))


@pytest.mark.requirement("SEC-IDENT")
@pytest.mark.parametrize(("login", "password"), [("li", "wrong"), ("nobody", PASSWORD), ("", ""), ("li\0", "x" * 9999)])
def test_what_was_wrong_is_not_told(platform, login, password):
    platform.body("org-operator", "operator")
    platform.person("li", "org-operator", "operator")
    platform.with_password("li")
    messages = set()
    for name, word in ((login, password), ("somebody-else", "whatever")):
        with pytest.raises(UnauthenticatedError) as told:
            platform.authentication.login(name, word)
        messages.add(str(told.value))
    assert len(messages) == 1
    assert acts(platform)[-1] == "account.login.refused"
    assert login not in json.dumps(platform.registry.events()[-1].body) or not login


@pytest.mark.parametrize("login", ["li", "nobody"])
def test_a_login_locks_whether_it_exists_or_not_and_opens_again(platform, login):
    platform.body("org-operator", "operator")
    platform.person("li", "org-operator", "operator")
    platform.with_password("li")
    for _ in range(FAILURES_MAX):
        with pytest.raises(UnauthenticatedError):
            platform.authentication.login(login, "wrong")
    with pytest.raises(LockedError) as told:
        platform.authentication.login(login, PASSWORD)
    assert login not in str(told.value)
    platform.clock.pass_time(minutes=LOCK_MINUTES)
    if login == "li":
        assert platform.authentication.login(login, PASSWORD)
    else:
        with pytest.raises(UnauthenticatedError):
            platform.authentication.login(login, PASSWORD)


def test_guesses_in_parallel_are_guesses(small):
    small.body("org-operator", "operator")
    small.person("li", "org-operator", "operator")
    small.with_password("li")
    told = []

    def guess():
        try:
            small.authentication.login("li", "wrong")
        except (UnauthenticatedError, LockedError) as error:
            told.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(3 * FAILURES_MAX)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count(UnauthenticatedError) == FAILURES_MAX
    assert told.count(LockedError) == 2 * FAILURES_MAX


@pytest.mark.parametrize(
    "password", ["short", "lili-is-my-name-li"[:11], "aaaaaaaaaaaaaaaa", "x-li-42-x-li-42", "y" * 300]
)
def test_a_weak_password_is_refused(small, password):
    small.body("org-operator", "operator")
    small.person("li", "org-operator", "operator")
    invitation = small.authentication.invite(small.admin, "li")
    with pytest.raises(WeakPasswordError):
        small.authentication.accept(invitation, password)
    assert small.authentication.accept(invitation, PASSWORD) == "li"
    with pytest.raises(UnauthenticatedError):
        small.authentication.accept(invitation, PASSWORD + "2")


def test_passwords_are_kept_as_argon2id_of_the_cost_the_standard_recommends(small):
    from factory.accounts.credentials import Credentials

    small.body("org-operator", "operator")
    Credentials(small.registry, small.keys).set_password("li", PASSWORD, now=small.clock())
    with small.registry.database.reading() as connection:
        kept = connection.execute(schema.table("credentials").select()).one().secret
    assert kept.startswith(b"$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_new_password_ends_the_sessions_before_it(small):
    small.body("org-operator", "operator")
    actor = small.person("li", "org-operator", "operator")
    small.with_password("li")
    token = small.authentication.login("li", PASSWORD)
    with pytest.raises(UnauthenticatedError):
        small.authentication.change_password(actor, "wrong", "another-long-one-7")
    small.authentication.change_password(actor, PASSWORD, "another-long-one-7")
    with pytest.raises(UnauthenticatedError):
        small.authentication.actor(token)
    with pytest.raises(UnauthenticatedError):
        small.authentication.login("li", PASSWORD)
    assert small.authentication.login("li", "another-long-one-7")


# RFC 6238 appendix B, SHA-1, eight digits
@pytest.mark.parametrize(
    ("at", "code"),
    [(59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
     (2000000000, "69279037"), (20000000000, "65353130")],
)  # fmt: skip
def test_the_codes_are_those_of_the_standard(at, code):
    secret = base64.b32encode(b"12345678901234567890").decode()
    assert pyotp.TOTP(secret, digits=8).at(at) == code


def test_a_second_factor_counts_from_its_confirmation_and_each_code_once(small):
    small.body("org-operator", "operator")
    actor = small.person("li", "org-operator", "operator")
    small.with_password("li")
    address = small.authentication.start_totp(actor)
    assert small.authentication.login("li", PASSWORD)  # not confirmed yet
    totp = pyotp.parse_uri(address)

    def code(offset=0):
        return totp.at(int(small.clock().timestamp()) + offset)

    with pytest.raises(CredentialError):
        small.authentication.confirm_totp(actor, "000000" if code() != "000000" else "000001")
    small.authentication.confirm_totp(actor, code())
    for wrong in ("", code(), code(90), "123"):
        with pytest.raises(UnauthenticatedError):
            small.authentication.login("li", PASSWORD, wrong)
    small.clock.pass_time(minutes=LOCK_MINUTES)
    assert small.authentication.login("li", PASSWORD, code(-30))
    assert small.authentication.login("li", PASSWORD, code(30))
    with pytest.raises(UnauthenticatedError):
        small.authentication.login("li", PASSWORD, code())


@pytest.mark.requirement("SEC-CRED")
@pytest.mark.parametrize("end", ["expired", "revoked", "rotated", "account", "organisation"])
def test_a_key_that_ended_is_refused(platform, end):
    platform.body("org-operator", "operator")
    actor = platform.person("li", "org-operator", "operator")
    token = platform.authentication.make_key(actor, label="批处理", days=30, purposes=frozenset({"risk-screening"}))
    assert platform.authentication.actor(token).purposes == {"risk-screening"}
    key = next(item for item in platform.authentication.keys(actor) if item.kind == "api_key")
    assert (key.owner, key.expires_at, key.revoked_at) == ("li", "2026-04-01T08:00:00Z", "")
    if end == "expired":
        platform.clock.pass_time(days=30)
    elif end == "revoked":
        platform.authentication.revoke_key(actor, key.id)
    elif end == "rotated":
        assert platform.authentication.actor(platform.authentication.rotate_key(actor, key.id, days=30)).id == "li"
    elif end == "account":
        platform.people.change_account(platform.admin, "li", "suspend", reason="left")
    else:
        platform.people.change_organisation(platform.admin, "org-operator", "suspend", reason="audit")
    with pytest.raises(UnauthenticatedError):
        platform.authentication.actor(token)


@pytest.mark.requirement("SEC-CRED")
def test_no_secret_is_in_events_exports_or_what_is_shown(platform):
    platform.body("org-operator", "operator")
    actor = platform.person("li", "org-operator", "operator", identity="370102199001011234")
    platform.with_password("li")
    token = platform.authentication.make_key(actor, label="k", days=1)
    session = platform.authentication.login("li", PASSWORD)
    totp = pyotp.parse_uri(platform.authentication.start_totp(actor)).secret
    secrets = [PASSWORD, token.split("_", 2)[2], session.split("_", 2)[2], totp, "370102199001011234"]
    readable = repr(platform.keys) + repr([event.body for event in platform.registry.events()])
    readable += repr(platform.authentication.keys(actor)) + repr(platform.registry.cases("account"))
    everything = readable
    with platform.registry.database.reading() as connection:
        for name in schema.tables().tables:
            everything += repr([tuple(row) for row in connection.execute(schema.table(name).select())])
    assert [secret for secret in secrets if secret in everything] == []


def test_another_persons_keys_are_not_touched(small):
    small.body("org-operator", "operator")
    li, wu = (small.person(name, "org-operator", "operator") for name in ("li", "wu"))
    small.authentication.make_key(li, label="k", days=1)
    key = small.authentication.keys(li)[0]
    for attempt in (
        lambda: small.authentication.revoke_key(wu, key.id),
        lambda: small.authentication.rotate_key(wu, key.id, days=1),
        lambda: small.authentication.keys(wu, "li"),
        lambda: small.authentication.make_key(wu, account="li", label="mine", days=1),
        lambda: small.authentication.make_key(wu, label="long", days=9999),
        lambda: small.authentication.revoke_key(wu, "nothing"),
    ):
        with pytest.raises(CredentialError):
            attempt()
    small.authentication.revoke_key(small.admin, key.id)


@pytest.mark.requirement("LOG-PERSON")
def test_shared_accounts_are_refused_and_a_persons_acts_are_found(platform):
    platform.body("org-operator", "operator")
    with refused("account.shared"):
        platform.people.open_account(
            platform.admin, NewAccount(id="team", name="一组", organisation="org-operator", roles=("operator",))
        )
    platform.person("li", "org-operator", "operator", identity="370102 1990")
    with refused("account.person"):
        platform.person("li-2", "org-operator", "operator", identity="3701021990")
    platform.with_password("li")
    platform.authentication.login("li", PASSWORD)
    found = [(e.body["act"], e.body["case"], e.body["at"]) for e in platform.registry.events(actor="li")]
    assert found == [
        ("account.set_password", "li", "2026-03-02T08:00:00Z"),
        ("account.login", "li", "2026-03-02T08:00:00Z"),
    ]
    assert "account.open.refused" in acts(platform)


def test_a_service_has_keys_no_password_and_a_person_who_answers(small):
    small.body("org-operator", "operator")
    li = small.person("li", "org-operator", "operator")

    def service(responsible):
        asked = NewAccount(
            id="batch", name="夜间批处理", organisation="org-operator", roles=("operator",), responsible=responsible
        )
        return small.people.open_account(small.admin, asked)

    for nobody in ("wu", "admin"):
        with refused("account.responsible"):
            service(nobody)
    service("li")
    with pytest.raises(CredentialError):
        small.authentication.invite(small.admin, "batch")
    token = small.authentication.make_key(li, account="batch", label="night", days=30)
    assert small.authentication.actor(token).id == "batch"


@pytest.mark.requirement("ROLE")
@pytest.mark.parametrize("pair", sorted(tuple(sorted(pair)) for pair in APART if "witness" not in pair))
def test_no_body_and_no_person_holds_two_roles_that_stay_apart(small, pair):
    with refused("roles.apart"):
        small.body("org-both", *pair)
    small.body("org-one", pair[0])
    with refused("roles.body"):
        small.person("li", "org-one", pair[1])


@pytest.mark.requirement("ROLE")
@pytest.mark.parametrize("pair", sorted(tuple(sorted(pair)) for pair in PERSON_APART - APART))
def test_nor_a_person_in_a_body_that_may_be_both(small, pair):
    with refused("roles.person_apart"):
        small.person("li", "org-platform", *pair)


@pytest.mark.requirement("ROLE")
def test_one_role_per_organisation_and_agreement(platform):
    platform.body("org-operator", "operator")
    platform.body("org-bureau", "agency", "data_administration")
    platform.body("org-west", "source_department")
    official = platform.person("wang", "org-bureau", "agency")
    platform.people.form_parties(official, "agr-1", {"org-operator": "operator", "org-bureau": "agency"})
    for body, role, code in (
        ("org-operator", "agency", "roles.body"),
        ("org-operator", "data_administration", "roles.body"),
        ("org-bureau", "data_administration", "roles.agreement"),
        ("org-west", "operator", "roles.body"),
        ("org-nobody", "source_department", "roles.body"),
        ("org-west", "administrator", "roles.unknown"),
    ):
        with refused(code):
            platform.people.assign(official, "agr-1", body, role)
    platform.people.assign(official, "agr-1", "org-west", "source_department")
    assert platform.desk.roles_under("agr-1") == {
        "org-bureau": "agency", "org-operator": "operator", "org-west": "source_department",
    }  # fmt: skip
    platform.body("org-other", "agency")
    other = platform.person("zhao", "org-other", "agency")
    platform.body("org-north", "source_department")
    with refused("roles.agreement"):
        platform.people.assign(other, "agr-1", "org-north", "source_department")


@pytest.mark.requirement("PLAT-UNIFIED")
def test_a_county_takes_part_as_a_tenant_under_its_city(small):
    with refused("organisation.parent"):
        small.body("county-a", "agency", level="county", parent="")
    with refused("organisation.parent"):
        small.body("county-a", "agency", level="county", parent="nowhere")
    small.body("city", "data_administration", level="city")
    small.body("county-a", "agency", level="county", parent="city")
    with refused("organisation.parent"):
        small.body("county-b", "agency", level="county", parent="county-a")
    with refused("organisation.level"):
        small.body("village", "agency", level="village", parent="city")


def test_the_first_administrator_is_made_once(small):
    body = NewOrganisation(id="org-x", name_zh="x", name_en="x", roles=("administrator",))
    with pytest.raises(CaseExistsError):
        small.people.found(
            body, NewAccount(id="second", name="x", organisation="org-x", roles=("administrator",), identity="9")
        )
    assert [case.id for case in small.registry.cases("organisation")] == ["org-platform"]


def test_nobody_changes_an_account_of_their_own(small):
    for act in ("suspend", "close"):
        with refused("duties.own_account"):
            small.people.change_account(small.admin, "admin", act, reason="bye")


def test_the_key_file_is_private(tmp_path):
    AccountKeys.of_home(tmp_path)
    path = tmp_path / "keys" / "accounts.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(HomeError, match="chmod 600"):
        AccountKeys.of_home(tmp_path)
    sealed = AccountKeys(bytes(32)).seal(b"x")
    with pytest.raises(HomeError):
        AccountKeys(bytes(31) + b"1").unseal(sealed)


class ByKey:
    """A platform whose agency lists a node's key."""

    def __init__(self, small, folder):
        from factory.accounts.authentication import Authentication

        self.world = offices.world(folder)
        self.node = self.world.add("node-east", "org-east", "node")
        self.world.publish()
        self.small = small
        small.clock.moment = self.world.office.now()
        self.authentication = Authentication(
            small.desk, small.credentials, platform="agency", trust=self.world.office.trust
        )

    def envelope(self, *, key=None, **changes):
        value = {
            "actor": "node-east",
            "audience": "agency",
            "nonce": self.authentication.challenge(),
            "at": self.small.clock(),
            **changes,
        }
        payload = KeyLogin.model_validate(value).to_payload()
        return sign(key or self.node.key, KeyLogin.payload_type, payload).to_bytes()


@pytest.mark.requirement("SEC-IDENT")
def test_a_node_signs_in_with_the_key_the_agency_lists(small, tmp_path):
    by_key = ByKey(small, tmp_path)
    envelope = by_key.envelope()
    token = by_key.authentication.login_by_key(envelope)
    actor = by_key.authentication.actor(token)
    assert (actor.id, actor.organisation, actor.means) == ("node-east", "org-east", "key")
    assert actor.roles == {"node", "source_department"}
    for bad in (
        envelope,  # again
        by_key.envelope(audience="other"),
        by_key.envelope(actor="operator"),
        by_key.envelope(nonce="sfc_0000_1111"),
        by_key.envelope(nonce=small.authentication.invite(small.admin, "admin")),
        by_key.envelope(key=by_key.world.registrars[0].key),
        by_key.envelope(at=small.clock().replace(year=2025)),
        b"{}",
    ):
        with pytest.raises(UnauthenticatedError):
            by_key.authentication.login_by_key(bad)
    by_key.world.office.remove("node-east")
    by_key.world.publish()
    with pytest.raises(UnauthenticatedError):
        by_key.authentication.actor(token)
