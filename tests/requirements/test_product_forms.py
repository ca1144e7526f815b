"""Acceptance of the forms of product: each is built, tested, reviewed, registered, released and delivered by its rules."""

import json
from datetime import timedelta

import pytest

from factory.agency.registrations import Registrations
from factory.identity import install_admission
from factory.lifecycle.serving import Client, Offer, Screening
from factory.log.log import Log
from factory.registry.request import RequestFileError, read_request
from factory.registry.store import Registry
from factory.release.assemble import package, sign_release, store
from factory.release.dossier import Registered, release_statement
from factory.release.registrar import lay_release, registrars_signed, sign_as_registrar
from factory.release.registration import apply, registered
from factory.review.errors import PrereleaseError
from factory.serving.shop import Shop
from nodes.contract.signing import sha256_hex
from products.forms import FORMS
from products.registration_code import FORM_LETTERS
from products.trust import DEFAULT_RELEASE_POLICY
from products.verify import verify
from tests import request_texts
from tests.attack_figures import HONEST
from tests.offices import NOW
from tests.requirements.test_serving import FOUND, GATEWAY, code, get, served
from tests.unit.release.test_release import MODEL, Factory

METHOD = {"method.md": "# 方法说明\n".encode()}
OPENAPI = {"openapi.json": json.dumps({"openapi": "3.1.0", "info": {}, "paths": {"/v1": {}}}).encode()}
TABLE = {"version": 1, "tables": [], "reasons": {}}
SAMPLES = {
    "model": (MODEL, {"model_card.md": b"# card\n"}),
    "verification": ({**OPENAPI, **METHOD}, {}),
    "report": (
        {
            "report.html": b"<html></html>",
            "tables.json": json.dumps(TABLE).encode(),
            "tables.csv": b"band,count\nb1,50\n",
        },
        {},
    ),
    "index": ({"index.csv": b"district,score\nd1,61\n", "sensitivity.json": b"{}", **METHOD}, {}),
    "dataset": ({"bands.csv": b"band,count\nb1,50\n"}, {}),
    "interface": (OPENAPI, {}),
    "service": ({**OPENAPI, **METHOD}, {}),
    "component": ({"component.py": b"RATE = 2\n", **METHOD}, {}),
    "tool": ({"tool.py": b"print(2)\n", **METHOD}, {}),
}
"""Product files and metadata of a small sample of every form."""
QUICK = ("report", "component")


class Maker(Factory):
    """A factory of one form."""

    def __init__(self, folder, form):
        self.form = form
        self.product_files, self.metadata_files = SAMPLES[form]
        self.metrics = HONEST if form == "model" else {}
        super().__init__(folder)

    def released(self):
        """Take the sample from its runs to a verified package; return path, code and end of registration."""
        with Log.open(self.log_home, now=NOW) as log:
            dossier, signed, stored, findings, prerelease = self.to_evidence(log)
            application = apply(self.client, self.apply(dossier, signed, stored, findings, prerelease))
            Registrations(self.world.office, self.registry).decide(
                application, approve=True, official="official", reason="complete"
            )
            given, until, answer = registered(self.client, application)
            policy, at = DEFAULT_RELEASE_POLICY, NOW + timedelta(hours=2, minutes=30)
            terms = Registered(given, until, policy.name, policy.policy_version, sha256_hex(policy.to_bytes()))
            payload = release_statement(dossier, signed, terms, now=at)
            stored = store(log, sign_release(dossier, payload, self.operator, self.desk), self.trust(), before=stored)
            folder = self.folder / "release"
            lay_release(folder, payload, stored.envelopes, answer.envelope)
            for registrar in self.world.registrars:
                sign_as_registrar(folder, registrar, self.trust(), now=at)
            stored = store(log, registrars_signed(folder, self.trust(), now=at), self.trust(), before=stored)
        made = package(self.folder / "package", dossier, stored, trust_folder=self.world.office.trust_folder)
        return made.path, given, until

    def verified(self, path):
        root, trust = sha256_hex(self.world.office.root()), self.world.office.trust_folder
        return verify(path, root_sha256=root, fresh_trust=trust, now=NOW + timedelta(hours=4)).exit_code

    def delivered(self, path, given, until, name):
        """Put the package's files on the gateway and fetch one as a client, over HTTP."""
        install_admission(self.operator, self.world.office.response("operator"), now=NOW)
        product, place = "prod.risk@1.0.0", self.folder / "released" / "prod.risk_1.0.0"
        place.mkdir(parents=True)
        for file in (path / "data" / "product").iterdir():
            (place / file.name).write_bytes(file.read_bytes())
        with Registry.at(self.folder / "shop.db") as registry:
            shop = Shop(
                registry=registry, operator="operator-ltd", controlled=frozenset(), gateways=frozenset({GATEWAY}),
                files=self.folder / "released", trust_path=self.operator.trust_path, mark_key=b"k" * 32,
                clock=lambda: NOW + timedelta(hours=4),
            )  # fmt: skip
            offer = {
                "product": product, "description": "d", "price": {"kind": "free", "fee_fen": 0, "per": "call"},
                "scenarios": {"clinic-risk": ("bank",)}, "purpose": "risk-screening",
                "terms_version": "t1", "terms_sha256": "aa" * 32, "per_minute": 9, "per_day": 9,
                "endpoint": f"{GATEWAY}/v1", "agreement": "agr-2026-1", "agreement_until": until, "grant": "g",
                "files": {file.name: sha256_hex(file.read_bytes()) for file in place.iterdir()},
                "grant_until": self.grant.not_after, "registration_code": given, "registration_until": until,
                "resources": tuple(d.resource for d in self.departments.values()),
            }  # fmt: skip
            shop.offer(Offer.model_validate(offer), by="operator")
            client = {"id": "bank", "organisation": "bank", "title": "b", "client_type": "bank", "country": "CN"}
            screening = {"findings": FOUND, "by": "o", "not_after": NOW + timedelta(days=9)}
            shop.admit(Client.model_validate(client), Screening.model_validate(screening), by="o")
            key = shop.give_key("bank", product, scenario="clinic-risk", by="o")
            shop.accept_terms(key, "t1")
            with served(shop) as http:
                return get(http, key, name, product=product, scenario="clinic-risk")


@pytest.mark.requirement("PROD-TYPES")
@pytest.mark.parametrize("form", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FORMS])
def test_a_sample_of_each_form_goes_from_its_runs_to_its_client_and_one_without_its_parts_does_not(form, tmp_path):
    maker = Maker(tmp_path, form)
    try:
        whole = maker.product_files
        maker.product_files = {"something.csv" if form != "dataset" else "something.bin": b"x"}
        with pytest.raises(PrereleaseError, match="Conformity"):
            maker.released()
        maker.product_files = {**whole, "weights.pkl": b"x"}
        with pytest.raises(PrereleaseError, match="Conformity"):
            maker.released()
        assert maker.registry.cases("registration") == []
        maker.product_files = whole
        path, given, until = maker.released()
        assert given.split("-")[2] == FORM_LETTERS[form]
        assert maker.verified(path) == 0
        name = next(iter(whole))
        answer = maker.delivered(path, given, until, name)
        assert (answer.status_code, code(answer)) == (200, "")
        changed = path / "data" / "product" / name
        changed.write_bytes(changed.read_bytes() + b" ")
        assert maker.verified(path) != 0
    finally:
        maker.close()


@pytest.mark.requirement("PROD-TYPES")
@pytest.mark.parametrize("form", ["poem", "", "Model", "raw"])
def test_an_unknown_form_is_refused(form):
    text = request_texts.request_text(replace={'product_form = "model"': f'product_form = "{form}"'})
    with pytest.raises(RequestFileError) as told:
        read_request(text, operator="operator", now=NOW)
    assert "product_form" in str(told.value)
