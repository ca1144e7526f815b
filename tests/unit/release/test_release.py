"""A release from signed runs to a package that verifies, and everything that stops it on the way."""

import base64
import dataclasses
import json
import threading
from datetime import datetime, timedelta

import pytest

from factory.agency.client import AgencyClient
from factory.agency.errors import RequestRefusedError
from factory.agency.national import NationalRegistrations
from factory.agency.registrations import Registrations
from factory.agency.rulings import Rulings, sign_grant
from factory.agency.service import AgencyService
from factory.errors import NodeRefusedError
from factory.identity import new_signing_key
from factory.law.files import proposed
from factory.lifecycle.request import Ruling
from factory.log.home import LogHome, WitnessPlace
from factory.log.log import Log
from factory.log.witness import WitnessServer, create_home, open_home
from factory.registry.request import read_agreement, read_request
from factory.registry.store import Registry
from factory.release.assemble import gather, package, sign_joint, sign_release, store
from factory.release.dossier import Accounting, Dossier, Provenance, Registered, release_statement
from factory.release.errors import EvidenceMissingError, RegistrationError, SigningRefusedError
from factory.release.nodes import QUALITY_REPORT_TYPE, NodeDesk
from factory.release.registrar import lay_release, registrars_signed, sign_as_registrar
from factory.release.registration import application, apply, registered
from factory.review.errors import PrereleaseError
from factory.review.prerelease import Evidence, measure_items, report_json, require_complete
from factory.review.review import POINTS, collect_reviews, sign_review, write_bundle
from factory.review.suite import Limits, run_tests
from nodes.contract import canonical, wire
from nodes.contract.enrolment import Enrolment, sign_enrolment
from nodes.contract.errors import BadSignatureError
from nodes.contract.messages import Query, Result, decode, encode
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import NODE_RUN, PAYLOAD_TYPE, RESOURCE, statement, time_text
from products.forms import FORMS
from products.package.payload import ProductDescription, Source, build_payload
from products.trust import DEFAULT_RELEASE_POLICY
from products.verify import verify
from tests import offices, request_texts
from tests.attack_figures import HONEST
from tests.offices import NOW
from tests.town import catalogue_entries

DISTRICTS = ("east", "west", "north")
MODEL = {"model.onnx": b"\x08\x0a model bytes"}


class Department:
    """A node in memory: real key, real statements, signs what it is asked to."""

    def __init__(self, name):
        self.id = f"node-{name}"
        self.resource = f"res.{name}.clinic"
        self.key = new_signing_key()
        self.commitment = {"alg": "hmac-sha256", "value": sha256_hex(name.encode())}
        dimensions = [
            {"name": d, "name_zh": d, "score_x100": 9500, "threshold_x100": 8000}
            for d in ("accuracy", "consistency", "conformity", "completeness", "timeliness", "accessibility")
        ]
        self.report = canonical.dumps(
            {
                "resource": {"id": self.resource, "version": "1"},
                "node": self.id,
                "assessed_at": time_text(NOW - timedelta(days=2)),
                "score": {"total_x100": 9500, "verdict": "pass"},
                "dimensions": dimensions,
            }
        )
        self.quality = {"report_sha256": sha256_hex(self.report), "score_x100": 9500}
        self.grant = {}
        self.valid_until = NOW + timedelta(days=400)

    def enrolment(self):
        return sign_enrolment(
            Enrolment(
                id=self.id,
                organisation=f"dept-{self.id[5:]}",
                title_zh=self.id,
                title_en=self.id,
                roles=("node",),
                statement_spki=base64.b64encode(self.key.public.spki).decode(),
                made_at=NOW,
            ),
            self.key,
        )

    def signed(self, payload, kind=PAYLOAD_TYPE):
        return sign(self.key, kind, payload).to_bytes()

    def resource_statement(self):
        predicate = {
            "resource": {
                "id": self.resource,
                "version": 1,
                "name_zh": "门诊",
                "name_en": "clinic",
                "holder": self.id,
                "columns": [{"name": n, "type": "number"} for n in ("age", "target")],
                "schema_sha256": "ab" * 32,
                "commitment": self.commitment,
            },
            "registration": {"platform": "cn", "code": f"R-{self.id}", "valid_until": time_text(self.valid_until)},
            "quality": {**self.quality, "grade": "A", "assessed_at": time_text(NOW - timedelta(days=2))},
            "stated_at": time_text(NOW),
        }
        return self.signed(statement(RESOURCE, [(f"resource/{self.resource}@1", "cd" * 32)], predicate))

    def run(self, grant, digest):
        predicate = {
            "node": self.id,
            "session": "s-1",
            "task": "linear.secagg",
            "scenario": grant.scenario,
            "purpose": grant.purpose,
            "grant": {"id": grant.grant_id, "sha256": digest},
            "order": {"id": "o-1", "sha256": "ef" * 32},
            "resources": [
                {
                    "id": self.resource,
                    "version": 1,
                    "columns": ["age", "target"],
                    "row_filter": [],
                    "commitment": self.commitment,
                    "quality": self.quality,
                }
            ],
            "uses": {"before": 0, "after": 1},
            "budget": {"unit": "session", "before": 0, "after": 1},
            "ledger": {"first_seq": 1, "last_seq": 9, "last_sha256": "12" * 32},
            "contributors": 3,
            "facts": {},
            "code": {"version": "1", "tree_sha256": "34" * 32},
            "started_at": time_text(NOW + timedelta(minutes=1)),
            "finished_at": time_text(NOW + timedelta(minutes=2)),
        }
        return self.signed(statement(NODE_RUN, [(f"run/s-1/{self.id}", "56" * 32)], predicate))

    def answer(self, query, attachments):
        match query.kind:
            case "grant.offer":
                payload = Envelope.from_bytes(attachments[0]).payload
                self.grant[sha256_hex(payload)] = self.signed(payload)
                return {"state": "approved"}, ()
            case "grant.status":
                own = self.grant.get(query.body["grant_sha256"])
                return {}, ((own,) if own else ())
            case "resource.statement":
                return {}, (self.resource_statement(),)
            case "quality.report":
                return {}, (self.signed(self.report, QUALITY_REPORT_TYPE),)
            case "statement.countersign":
                return {}, tuple(self.signed(item) for item in attachments[: len(query.body["statements"])])
        raise AssertionError(query.kind)


class Bus:
    """Carries queries to departments and the agency in this process."""

    def __init__(self, departments, agency, operator_key):
        self.departments, self.agency, self.operator_key = departments, agency, operator_key

    def ask(self, node, parcel, *, timeout_s):
        if node == "agency":
            return self.agency(parcel)
        department = self.departments[node]
        envelope, attachments = wire.unpack(parcel)
        query = decode(Query, envelope, attachments, self.operator_key)
        body, parts = department.answer(query, attachments)
        result = Result(
            request_sha256=envelope.payload_sha256,
            kind=query.kind,
            sender=node,
            body=body,
            attachments_sha256=wire.digests(parts),
            ledger_seq=0,
            ledger_sha256="0" * 64,
            answered_at=NOW,
        )
        return encode(result, department.key, parts)


class Factory:
    """The operator with everything around it, up to the signed grant.

    Attributes:
        form, product_files, metadata_files, metrics: of the product that it builds.
    """

    form = "model"
    product_files = MODEL
    metadata_files = {"model_card.md": b"# card\n"}  # noqa: RUF012  replaced as a whole, never changed
    metrics = HONEST

    def __init__(self, folder):
        self.folder = folder
        self.at = NOW
        self.world = offices.world(folder)
        self.operator = self.world.add("operator", "operator-ltd", "operator")
        self.reviewers = [self.world.add(f"reviewer-{i}", f"body-{i}", "reviewer") for i in (1, 2)]
        self.departments = {f"node-{name}": Department(name) for name in DISTRICTS}
        for department in self.departments.values():
            bundle = department.enrolment()
            offices.ready(self.world.office, bundle)
            self.world.office.admit(bundle)
        self._log(folder)
        self.world.office.set_target("tlog-policy.txt", self.log_home.policy_text())
        self.world.office.set_target("release-policy.json", DEFAULT_RELEASE_POLICY.to_bytes())
        self.world.publish()
        self.registry = Registry.at(folder / "registry.db")
        self.service = AgencyService(self.world.office, self.registry)
        self.bus = Bus(self.departments, self.service.handle, self.operator.key.public)
        keys = {name: d.key.public for name, d in self.departments.items()}
        self.desk = NodeDesk(self.bus, "operator", self.operator.key, keys, now=lambda: NOW)
        agency_key = self.world.office.identity.key.public
        self.client = AgencyClient(self.bus, "operator", self.operator.key, "agency", agency_key, now=lambda: self.at)
        self._grant()

    def _log(self, folder):
        vkey = create_home(folder / "witness", name="supervisor")
        witness = open_home(folder / "witness")
        self.server = WitnessServer(witness, clock=(NOW + timedelta(hours=3)).timestamp)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        place = WitnessPlace(vkey, self.server.url)
        self.log_home = LogHome.create(folder / "log", operator="operator", witnesses=(place,))
        self.log_home.prepare(2026)
        witness.store.watch(self.log_home.key(2026))

    def _grant(self):
        rulings = Rulings(self.world.office, self.registry)
        nodes = {d.resource.split(".")[1]: (d.key, f"dept-{d.id[5:]}") for d in self.departments.values()}
        catalogue_entries(self.world.office, self.registry, nodes)
        rulings.add_agreement(
            read_agreement(request_texts.AGREEMENT.replace('["model", "report"]', json.dumps(FORMS))),
            official="official",
        )
        text = request_texts.request_text(replace={'product_form = "model"': f'product_form = "{self.form}"'})
        text = text.replace(', "name"]', "]")
        payload = read_request(text, operator="operator", now=NOW).to_payload()
        request_id = self.client.submit_request(payload)["request_id"]
        findings = dict.fromkeys(("reasonable", "compliant", "secure"), "yes")
        grant = rulings.rule(request_id, Ruling("official", "data-bureau", True, findings, "needed"))
        for registrar in self.world.registrars:
            sign_grant(registrar, rulings.desk / grant.grant_id)
        self.grant_envelopes = self.client.fetch_grant(request_id)
        self.grant = grant
        self.grant_sha256 = self.grant_envelopes[0].payload_sha256

    def runs(self):
        return {name: d.run(self.grant, self.grant_sha256) for name, d in self.departments.items()}

    def gather(self, *, offered=True, **changes):
        if offered:
            self.desk.offer_grant(list(self.departments), self.grant_envelopes)
        envelopes = changes.pop("envelopes", [e.to_bytes() for e in self.grant_envelopes])
        return gather(self.desk, self.trust(), grant_envelopes=envelopes, runs=self.runs(), now=NOW)

    def trust(self):
        return self.world.office.trust()

    def dossier(self, gathered, findings, prerelease):
        description = ProductDescription(
            id="prod.risk",
            version="1.0.0",
            form=self.form,
            name_zh="风险模型",
            name_en="Risk model",
            summary_zh="三区联合",
            summary_en="three districts",
            operator="operator",
            operator_name=self.operator.title_zh,
            scenario=self.grant.scenario,
            scenario_title=self.grant.scenario_title,
            purpose=self.grant.purpose,
            grant=self.grant.grant_id,
            pipeline="linear",
            sources=[Source(d.resource, 1, "门诊", "clinic", n, f"R-{n}") for n, d in self.departments.items()],
            sessions=["s-1"],
            started_at=NOW,
            finished_at=NOW + timedelta(minutes=3),
            licence="granted purpose only",
        )
        payload = build_payload(
            description,
            product_files=self.product_files,
            metadata_files={**self.metadata_files, "tests.json": findings, "prerelease.json": prerelease},
        )
        return Dossier(
            description=description,
            payload=payload,
            grant=gathered.grant,
            grant_sha256=gathered.grant_sha256,
            sources=gathered.sources,
            quality_reports=gathered.quality_reports,
            provenance=Provenance("linear", "aa" * 32, "bb" * 32, "cc" * 32, "s-1"),
            accounting=Accounting(
                [{"name": "secagg", "source": "Bonawitz 2017", "parameter_set": "p"}],
                [{"party": "operator", "what_zh": "总和", "what_en": "sums"}],
                5,
                5,
                0,
            ),
        )

    def measured(self, gathered):
        limits = Limits(5, 5, proposed("NATIONAL").review)
        findings = run_tests(
            self.form, self.product_files, metrics=self.metrics, limits=limits, canaries=["金丝雀甲乙丙"]
        )
        payloads = {name: Envelope.from_bytes(d).payload for (name, _), d in gathered.sources.items()}
        evidence = Evidence(
            form=self.form,
            product_files=self.product_files,
            metadata_files=self.metadata_files,
            grant=gathered.grant,
            grant_sha256=gathered.grant_sha256,
            resources=[p for n, p in payloads.items() if n.startswith("resource-")],
            quality_reports=gathered.quality_reports,
            runs=[p for n, p in payloads.items() if n.startswith("run-")],
            findings=findings,
            now=NOW + timedelta(hours=1),
        )
        return findings, evidence

    def to_evidence(self, log):
        """Run steps 1 to 4 and return what step 5 needs."""
        gathered = self.gather()
        findings, evidence = self.measured(gathered)
        items = measure_items(evidence)
        require_complete(items)
        prerelease = report_json(items, product="prod.risk@1.0.0", grant_sha256=self.grant_sha256, now=evidence.now)
        dossier = self.dossier(gathered, b"{}", prerelease)
        joint = sign_joint(dossier, self.operator, self.desk)
        folder = self.folder / "bundle"
        write_bundle(
            folder,
            product="prod.risk@1.0.0",
            operator="operator",
            nodes=dossier.participants,
            grant_sha256=self.grant_sha256,
            payload=dossier.payload.contents,
            evidence={"prerelease.json": prerelease},
            points=dict.fromkeys(POINTS, ("prerelease.json",)),
        )
        for reviewer in self.reviewers:
            sign_review(folder, reviewer, self.trust(), now=NOW + timedelta(hours=2))
        reviews = collect_reviews(folder, self.trust(), now=NOW)
        signed = {**gathered.sources, **joint, **{(f"review-{n}", n): d for n, d in reviews.items()}}
        stored = store(log, signed, self.trust())
        return dossier, signed, stored, findings, prerelease

    def apply(self, dossier, signed, stored, findings, prerelease):
        self.at = NOW + timedelta(seconds=200)
        operator = self.trust().actors.find("operator", role="operator", moment=NOW)
        return application(
            dossier,
            signed,
            stored.stored(NOW),
            registrant=operator,
            prerelease=prerelease,
            findings=findings,
            now=NOW + timedelta(seconds=5),
        )

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.server.witness.store.close()
        self.registry.close()


@pytest.fixture
def factory(tmp_path):
    factory = Factory(tmp_path)
    yield factory
    factory.close()


def test_a_department_that_has_not_signed_the_grant_stops_the_release(factory):
    with pytest.raises(EvidenceMissingError, match="node-east"):
        factory.gather(offered=False)


def test_one_registrar_on_the_grant_is_not_enough(factory):
    with pytest.raises(EvidenceMissingError, match="registrars: 1"):
        factory.gather(envelopes=[factory.grant_envelopes[0].to_bytes()] * 2)


@pytest.mark.requirement("PC-ENV")
def test_a_run_statement_of_another_key_stops_the_release(factory):
    factory.departments["node-west"].key = new_signing_key()
    with pytest.raises((EvidenceMissingError, BadSignatureError), match="key"):
        factory.gather()


@pytest.mark.requirement("PREREL-ITEM")
def test_an_expired_source_registration_empties_legality(factory):
    factory.departments["node-west"].valid_until = NOW - timedelta(days=1)
    _, evidence = factory.measured(factory.gather())
    with pytest.raises(PrereleaseError, match="Legality"):
        require_complete(measure_items(evidence))


@pytest.mark.requirement("PREREL-ITEM")
def test_an_item_without_measurement_refuses(factory):
    _, evidence = factory.measured(factory.gather())
    with pytest.raises(PrereleaseError, match=r"Masking.*is empty"):
        require_complete(measure_items(dataclasses.replace(evidence, findings=())))


@pytest.mark.requirement("PREREL-ITEM", "RECON")
def test_a_failed_test_stops_the_report(factory):
    _, evidence = factory.measured(factory.gather())
    worse = tuple(dataclasses.replace(f, is_ok=False, value=f.limit + 1) for f in evidence.findings)
    with pytest.raises(PrereleaseError, match="circulation"):
        require_complete(measure_items(dataclasses.replace(evidence, findings=worse)))


@pytest.mark.requirement("PROV-TRACE", "PROD-OPREV", "PROD-BUILD", "RECON")
def test_the_whole_way_ends_in_a_package_that_verifies(factory):
    with Log.open(factory.log_home, now=NOW) as log:
        dossier, signed, stored, findings, prerelease = factory.to_evidence(log)
        filled = factory.apply(dossier, signed, stored, findings, prerelease)

        broken = dict(stored.indices)
        broken.pop(("build", "operator"))
        with pytest.raises(EvidenceMissingError, match="NR-07-4"):
            application(
                dossier,
                signed,
                dataclasses.replace(stored.stored(NOW), indices=broken),
                registrant=factory.trust().actors.find("operator", role="operator", moment=NOW),
                prerelease=prerelease,
                findings=findings,
                now=NOW,
            )

        early = filled.model_copy(update={"applied_at": NOW - timedelta(hours=1), "application_id": "reg-early"})
        with pytest.raises(NodeRefusedError, match="evidence"):
            apply(factory.client, early)
        application_id = apply(factory.client, filled)
        with pytest.raises(RegistrationError, match="is applied"):
            registered(factory.client, application_id)
        registrations = Registrations(factory.world.office, factory.registry)
        registrations.decide(application_id, approve=True, official="official", reason="complete")
        again = filled.model_copy(update={"application_id": "reg-again"})
        with pytest.raises(NodeRefusedError, match="apply for a change"):
            apply(factory.client, again)
        code, until, answer = registered(factory.client, application_id)

        policy = DEFAULT_RELEASE_POLICY
        terms = Registered(code, until, policy.name, policy.policy_version, sha256_hex(policy.to_bytes()))
        released_at = NOW + timedelta(hours=2, minutes=30)
        payload = release_statement(dossier, signed, terms, now=released_at)
        release = sign_release(dossier, payload, factory.operator, factory.desk)
        stored = store(log, release, factory.trust(), before=stored)

        folder = factory.folder / "release"
        lay_release(folder, payload, stored.envelopes, answer.envelope)
        _every_gap_is_refused(factory, folder, released_at)
        for number, registrar in enumerate(factory.world.registrars):
            with pytest.raises(SigningRefusedError, match=f"got {number}"):
                registrars_signed(folder, factory.trust(), now=released_at)
            sign_as_registrar(folder, registrar, factory.trust(), now=released_at)
        with pytest.raises(EvidenceMissingError, match="two registrars"):
            package(factory.folder / "early", dossier, stored, trust_folder=factory.world.office.trust_folder)
        last = registrars_signed(folder, factory.trust(), now=released_at)
        stored = store(log, last, factory.trust(), before=stored)
    summary = package(factory.folder / "package", dossier, stored, trust_folder=factory.world.office.trust_folder)
    report = verify(
        summary.path,
        root_sha256=sha256_hex(factory.world.office.root()),
        fresh_trust=factory.world.office.trust_folder,
        now=NOW + timedelta(hours=4),
    )
    failed = [(c.code, c.outcome, c.evidence) for c in report.checks if c.outcome not in ("ok", "skipped")]
    assert (report.exit_code, failed) == (0, [])
    _later_applications(factory, registrations, application_id, code)


def _later_applications(factory, registrations, application_id, code):
    """The operator asks over the agency's service; the official settles."""
    with pytest.raises(NodeRefusedError, match="renewal opens"):
        factory.client.ask_registration(application_id, "renewal", reason="in good time")
    ask = factory.client.ask_registration
    ask(application_id, "correction", reason="typing error", field="product.summary", value="the right summary")
    with pytest.raises(NodeRefusedError):
        ask(application_id, "cancellation", reason="while another waits")
    registrations.settle(application_id, approve=True, official="official", reason="evident")
    case = factory.registry.get("registration", application_id)
    assert case.document["application"]["product"]["summary"] == "the right summary"
    ask(application_id, "cancellation", reason="withdrawn")
    registrations.settle(application_id, approve=False, official="official", reason="still in use")
    assert registrations.status(application_id)["state"] == "coded"
    _national_filing(factory, application_id)
    ask(application_id, "cancellation", reason="withdrawn")
    registrations.settle(application_id, approve=True, official="official", reason="agreed")
    status = registrations.status(application_id)
    assert (status["state"], status["code"]) == ("cancelled", code)
    assert status["accept_by"] < status["review_by"] < status["publicity_until"]


def _national_filing(factory, application_id):
    """Returned once, accepted, publicised with an objection, coded once the publicity is over."""
    world = factory.world

    def desk():
        return NationalRegistrations(world.office, factory.registry)

    with pytest.raises(NodeRefusedError, match="there is none"):
        factory.client.national_status(application_id)
    assert factory.client.file_nationally(application_id)["state"] == "filed"
    with pytest.raises(NodeRefusedError, match="starts from"):
        factory.client.file_nationally(application_id)
    desk().act(application_id, "return", official="official", reason="the summary is missing its unit")
    assert factory.client.national_status(application_id)["defects"] == "the summary is missing its unit"
    assert factory.client.file_nationally(application_id)["state"] == "filed"
    with pytest.raises(RequestRefusedError, match="one notice"):
        desk().act(application_id, "return", official="official", reason="and another thing")
    desk().act(application_id, "accept", official="official")
    desk().act(application_id, "publish", official="official")
    found = desk().status(application_id)
    assert set(found["published"]) == {"registrant", "kind", "name", "summary"}
    with pytest.raises(RequestRefusedError, match="name"):
        desk().object(application_id, objector="", reason="mine", evidence_sha256="ab" * 32)
    desk().object(application_id, objector="张三", reason="mine", evidence_sha256="ab" * 32)
    with pytest.raises(RequestRefusedError, match="10 working days"):
        desk().act(application_id, "code", official="official", national_code="N-1")
    now = world.office.now()
    world.at(datetime.fromisoformat(found["due"] + "T23:00:00+00:00"))
    with pytest.raises(RequestRefusedError, match="objections first"):
        desk().act(application_id, "code", official="official", national_code="N-1")
    desk().act(application_id, "dismiss", official="official", reason="the evidence is of another product")
    assert desk().act(application_id, "code", official="official", national_code="N-1").state == "coded"
    assert desk().status(application_id)["national_code"] == "N-1"
    world.at(now)


def _every_gap_is_refused(factory, folder, now):
    registrar, trust = factory.world.registrars[0], factory.trust()
    for name, word in {
        "review-reviewer-1.reviewer-1": "review-reviewer-1",
        "release.node-west": "node-west",
        "release.operator": "operator",
        "grant.registrar-2": "registrars on the grant",
        "run-node-east.node-east": "run-node-east",
    }.items():
        path = folder / "envelopes" / f"{name}.dsse.json"
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(SigningRefusedError, match=word):
            sign_as_registrar(folder, registrar, trust, now=now)
        path.write_bytes(data[:-40] + b"A" * 4 + data[-36:])
        with pytest.raises(SigningRefusedError):
            sign_as_registrar(folder, registrar, trust, now=now)
        path.write_bytes(data)
    with pytest.raises(SigningRefusedError, match="dated"):
        sign_as_registrar(folder, registrar, trust, now=now - timedelta(hours=1))
    with pytest.raises(SigningRefusedError, match="as a registrar"):
        sign_as_registrar(folder, factory.operator, trust, now=now)
    release = folder / "release.json"
    data = release.read_bytes()
    release.write_bytes(data.replace(b'"prod.risk"', b'"prod.rusk"'))
    with pytest.raises(SigningRefusedError):
        sign_as_registrar(folder, registrar, trust, now=now)
    release.write_bytes(data)
