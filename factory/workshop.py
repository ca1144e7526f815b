"""The operator's workshop: one product from build to package, step by step, each step on disk.

``<operator home>/products/<id>@<version>/`` holds what the steps made, so that every step can
be repeated after a crash and continues where the last one ended:

    recipe.toml  built.json  product/…  runs/<node>.dsse.json  grant/<n>.dsse.json
    sources/<statement>.<actor>.dsse.json  quality/<resource>.json     gathered and verified
    findings.json  metadata/…                                        tests, pre-release report
    signed/<statement>.<actor>.dsse.json                              joint statements, reviews, release
    bundle/  release/                                                 for reviewers and registrars

States, guards and clauses are those of ``factory.lifecycle.product``; the registry keeps them
with a chained event for every act.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory import environment
from factory.agency.client import AgencyClient
from factory.errors import FactoryError
from factory.files import write_atomic
from factory.identity import Identity
from factory.law.profile import Profile
from factory.lifecycle.product import ProductFacts
from factory.log.home import LogHome
from factory.log.log import Log
from factory.pipelines.build import Built
from factory.pipelines.recipe import Recipe, parse_recipe
from factory.registry.errors import TransitionRefusedError
from factory.registry.store import Case, Registry
from factory.release import assemble, registration, second
from factory.release.dossier import Accounting, Dossier, Provenance, Registered, release_statement
from factory.release.nodes import NodeDesk
from factory.release.registrar import lay_release, registrars_signed, second_files
from factory.review import prerelease
from factory.review.finding import Finding, failures, findings_json
from factory.review.review import collect_reviews, write_bundle
from factory.review.suite import Limits, run_tests
from factory.services.actor import Actor
from factory.services.desk import Desk
from factory.trust import Trust
from nodes.contract.grant import Grant
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.statement import parse_grant, time_text
from products.package import paths
from products.package.payload import Payload, ProductDescription, Source, build_payload
from products.package.writing import PackageSummary, SignedStatement

LICENCE = "按授权运营协议与应用场景使用，不得转授权 · under the authorised-operation agreement, for the scenario alone"

_METADATA = ("model_card.json", "model_card.md", "method.json", "method.md")
_MODEL_CARD = ("model_card.json", "model_card.md")


UNRELEASED = frozenset({"building", "built", "tested", "reviewed", "pre_release_reported", "registered", "priced"})
"""States of a product before it is released."""


class StepRefusedError(FactoryError):
    """The product cannot take this step now; the message cites the requirement."""

    code = "product.step_refused"


@dataclass(frozen=True, slots=True)
class Workshop:
    """The operator with everything it works with.

    Attributes:
        operator: identity of the operator.
        trust: verified trust data.
        desk: asks nodes.
        agency: asks the agency.
        registry: the operator's registry.
        log: home of the transparency log.
        law: profile of the jurisdiction.
        canaries: planted values, in deployments that test with them.
    """

    operator: Identity
    trust: Trust
    desk: NodeDesk
    agency: AgencyClient
    registry: Registry
    log: LogHome
    law: Profile
    canaries: tuple[str, ...] = ()

    def folder(self, product: str) -> Path:
        """Return the folder of a product, ``id@version``."""
        return self.operator.home / "products" / product

    def require_buildable(self, product: str) -> Case | None:
        """Return the case of a product that was returned to *building*, None if it is new.

        Raises:
            StepRefusedError: it has been built; what was tested or released is never replaced.
        """
        known = next((case for case in self.registry.cases("product") if case.id == product), None)
        if known is not None and known.state != "building":
            raise StepRefusedError(
                f"expected a product that has not been built, {product} is {known.state}; raise `version` in the recipe"
            )
        return known

    def take(self, built: Built, grant_envelopes: Sequence[Envelope]) -> str:
        """Keep a built product and return its name, ``id@version``.

        What an earlier attempt left, returned or interrupted, is kept beside it.

        Raises:
            StepRefusedError: it has been built already, a run statement is missing, or the grant is not in force.

        The departments' signatures on the grant are asked for again when the evidence is gathered.
        """
        recipe = built.recipe
        product = f"{recipe.product.id}@{recipe.product.version}"
        folder = self.folder(product)
        returned = self.require_buildable(product)
        _set_aside(folder)
        for name, content in built.files.items():
            part = "metadata" if recipe.product.form == "model" and name in _MODEL_CARD else "product"
            _write(folder / part / name, content)
        for node, data in built.node_runs.items():
            _write(folder / "runs" / f"{node}.dsse.json", data)
        registrars = {a.verify_key.keyid for a in self.trust.actors.actors if "registrar" in a.roles}
        for number, envelope in enumerate(item for item in grant_envelopes if item.keyid in registrars):
            _write(folder / "grant" / f"{number}.dsse.json", envelope.to_bytes())
        _write(folder / "recipe.toml", built.recipe_bytes)
        _write(folder / "built.json", _built_json(built))
        grant = parse_grant(grant_envelopes[0].payload)
        facts = ProductFacts(
            now=_now(),
            profile=self.law,
            departments=frozenset(built.participants),
            runs_signed=frozenset(built.node_runs),
            agreement_until=grant.not_after,  # a grant ends with its agreement at the latest (request.term)
            grant_until=grant.not_after,
            grant_struck=self._struck("grant", grant.grant_id),
        )
        document = {"product": product, "form": recipe.product.form, "grant": grant.grant_id}
        desk = Desk(self.registry, _now)
        with _in_words(product), desk.together():
            if returned is None:
                desk.open(self._operator, "product", product, "start", facts=facts, document=document)
            else:
                desk.amend(self._operator, returned, "product.start", document=document)
            evidence = {"recipe": sha256_hex(built.recipe_bytes)}
            desk.move(self._operator, "product", product, "build", facts=facts, evidence=evidence)
        return product

    def test(self, product: str) -> tuple[Finding, ...]:
        """Gather the evidence, run the automated tests and measure the ten items.

        Raises:
            StepRefusedError: a test failed; the product returns to *building* with the reason.
            EvidenceMissingError: a statement, report or signature is missing.
        """
        folder, item = self.folder(product), self._load(product)
        gathered = assemble.gather(
            self.desk,
            self.trust,
            grant_envelopes=[path.read_bytes() for path in sorted((folder / "grant").iterdir())],
            runs={path.name.removesuffix(".dsse.json"): path.read_bytes() for path in (folder / "runs").iterdir()},
            now=_now(),
        )
        for (name, actor), data in gathered.sources.items():
            _write(folder / "sources" / f"{name}.{actor}.dsse.json", data)
        for resource, report in gathered.quality_reports.items():
            _write(folder / "quality" / f"{resource}.json", report)
        files = {**_files(folder / "product"), **_files(folder / "metadata", _METADATA)}
        thresholds = item.recipe.thresholds
        findings = run_tests(
            item.recipe.product.form,
            files,
            metrics=item.facts["metrics"],
            limits=Limits(thresholds.cell_min, thresholds.round_base, self.law.review),
            canaries=self.canaries,
            declared=item.recipe.declared,
            earlier=self._released_over(product, item.recipe),
            sensitive=_sensitive(item.recipe),
        )
        _write(folder / "metadata" / "findings.json", findings_json(findings))
        items = prerelease.measure_items(
            prerelease.Evidence(
                form=item.recipe.product.form,
                product_files=_files(folder / "product"),
                metadata_files=_files(folder / "metadata", _METADATA),
                grant=gathered.grant,
                grant_sha256=gathered.grant_sha256,
                resources=_payloads(gathered.sources, "resource-"),
                quality_reports=gathered.quality_reports,
                runs=_payloads(gathered.sources, "run-"),
                findings=findings,
                now=_now(),
            )
        )
        report = prerelease.report_json(items, product=product, grant_sha256=gathered.grant_sha256, now=_now())
        _write(folder / "metadata" / "prerelease.json", report)
        _write(folder / "metadata" / "prerelease.html", prerelease.report_html(items, product=product))
        _write(folder / "problems.txt", _problems(items).encode())
        facts = ProductFacts(now=_now(), profile=self.law, tests=len(findings), test_failures=tuple(failures(findings)))
        evidence = {"findings": sha256_hex((folder / "metadata" / "findings.json").read_bytes())}
        case = self.registry.get("product", product)
        if facts.test_failures:
            reason = "; ".join(facts.test_failures)
            self._move(case, "return", ProductFacts(now=_now(), profile=self.law, reason=reason), evidence, reason)
            raise StepRefusedError(f"{product} returned to building: {reason}")
        self._move(case, "test", facts, evidence)
        return findings

    def lay_bundle(self, product: str) -> Path:
        """Have operator and nodes sign the joint statements and lay the bundle for the reviewers.

        The nodes search every file for values of their own rows before they sign.

        Raises:
            NodeRefusedError: a node found something, or does not know a run.
        """
        folder, dossier = self.folder(product), self._dossier(product)
        signed = _signed(folder / "signed")
        if not any(name == "privacy" for name, _ in signed):
            for (name, actor), data in assemble.sign_joint(dossier, self.operator, self.desk).items():
                _write(folder / "signed" / f"{name}.{actor}.dsse.json", data)
        bundle = folder / "bundle"
        if not bundle.exists():
            names = ["findings.json", "prerelease.json", "prerelease.html"]
            evidence = {name: (folder / "metadata" / name).read_bytes() for name in names}
            evidence["grant.json"] = _first(dossier.sources, "grant")
            evidence["privacy.json"] = _first(_signed(folder / "signed"), "privacy")
            evidence["build.json"] = _first(_signed(folder / "signed"), "build")
            write_bundle(
                bundle,
                product=product,
                operator=self.operator.id,
                nodes=dossier.participants,
                grant_sha256=dossier.grant_sha256,
                payload=dossier.payload.contents,
                evidence=evidence,
                points={
                    "SHUFANG_PURPOSE_AND_SCOPE": ["grant.json", "build.json"],
                    "SHUFANG_SOURCES_STATED": ["build.json", "prerelease.json"],
                    "SHUFANG_NO_EXPOSURE": ["findings.json", "privacy.json"],
                    "SHUFANG_NO_LEAK_OR_ABUSE": ["findings.json", "privacy.json"],
                    "SHUFANG_CROSS_BORDER": ["grant.json", "privacy.json"],
                    "SHUFANG_OTHER_POINTS": ["prerelease.html"],
                },
            )
        return bundle

    def register(self, product: str) -> str:
        """Take in the reviews, deliver the pre-release report, store the evidence and apply.

        Returns:
            Id of the application; the agency's official then decides.

        Raises:
            NotPermittedError: reviews are missing, or somebody returned the product.
            StepRefusedError: an item of the report is not met.
        """
        folder, dossier = self.folder(product), self._dossier(product)
        reviews = collect_reviews(folder / "bundle", self.trust, now=_now())
        for reviewer, data in reviews.items():
            _write(folder / "signed" / f"review-{reviewer}.{reviewer}.dsse.json", data)
        case = self.registry.get("product", product)
        if case.state == "tested":
            facts = ProductFacts(
                now=_now(),
                profile=self.law,
                reviewer_organisations={name: self._organisation(name) for name in reviews},
                involved_organisations=frozenset(
                    self._organisation(name) for name in (self.operator.id, *dossier.participants)
                ),
            )
            digests = {name: Envelope.from_bytes(data).payload_sha256 for name, data in reviews.items()}
            case = self._move(case, "review", facts, digests, by=self._reviewers(reviews))
        report = (folder / "metadata" / "prerelease.json").read_bytes()
        if case.state == "reviewed":
            receipt = self.agency.deliver_prerelease(product, report)
            _write(folder / "receipts" / "agency.dsse.json", receipt.to_bytes())
            facts = ProductFacts(
                now=_now(),
                profile=self.law,
                prerelease_problems=(folder / "problems.txt").read_text("utf-8"),
                prerelease_receipts=frozenset({"agency"}),
            )
            case = self._move(case, "report", facts, {"report": sha256_hex(report)})
        signed = self._all_signed(dossier, folder)
        with Log.open(self.log, now=_now(), wait_s=30.0) as log:
            evidence = assemble.store(log, signed, self.trust)
        filled = registration.application(
            dossier,
            signed,
            evidence.stored(_now()),
            registrant=self._actor(self.operator.id),
            prerelease=report,
            findings=_read_findings(folder),
            is_change=self._earlier(product) is not None,
            now=_now(),
        )
        return registration.apply(self.agency, filled)

    def lay_release(self, product: str) -> Path:
        """Take in the code, have operator and nodes sign the release and lay it for the registrars.

        Raises:
            RegistrationError: the agency has not given a code.
        """
        folder, dossier = self.folder(product), self._dossier(product)
        code, until, reply = registration.registered(self.agency, f"reg-{product.replace('@', '-')}"[:96])
        case = self.registry.get("product", product)
        coded = ProductFacts(
            now=_now(),
            profile=self.law,
            grant_until=dossier.grant.not_after,
            registration_code=code,
            registration_until=until,
        )
        if case.state == "pre_release_reported":
            case = self._move(case, "register", coded, {"answer": reply.envelope.payload_sha256}, by=self._agency())
        signed = self._all_signed(dossier, folder)
        path = folder / "release.json"
        if not path.exists():
            policy = self.trust.target("release-policy.json")
            body = json.loads(policy)
            earlier = self._earlier(product)
            registered = Registered(
                code,
                until,
                str(body["name"]),
                int(body["policy_version"]),
                sha256_hex(policy),
                previous=(earlier.version, earlier.sha256) if earlier else None,
            )
            before = {place: data for place, data in signed.items() if place[0] != "release"}
            _write(path, release_statement(dossier, before, registered, now=_now()))
        if not any(name == "release" for name, _ in signed):
            made = assemble.sign_release(dossier, path.read_bytes(), self.operator, self.desk)
            for (name, actor), data in made.items():
                _write(folder / "signed" / f"{name}.{actor}.dsse.json", data)
        signed = self._all_signed(dossier, folder)
        with Log.open(self.log, now=_now(), wait_s=30.0) as log:
            assemble.store(log, signed, self.trust)
        lay_release(folder / "release", path.read_bytes(), signed, reply.envelope)
        return folder / "release"

    def package(self, product: str, dest: Path) -> PackageSummary:
        """Take in the registrars' signatures and write the package.

        Args:
            product: ``id@version``.
            dest: folder of the package; must not exist.

        Raises:
            SigningRefusedError: a registrar is missing.
        """
        folder, dossier = self.folder(product), self._dossier(product)
        for (name, actor), data in registrars_signed(folder / "release", self.trust, now=_now()).items():
            _write(folder / "signed" / f"{name}.{actor}.dsse.json", data)
        signed = self._all_signed(dossier, folder)
        registrars = {p: d for p, d in signed.items() if p[0] == "release" and self._has_role(p[1], "registrar")}
        with Log.open(self.log, now=_now(), wait_s=30.0) as log:
            evidence = assemble.store(log, {p: d for p, d in signed.items() if p not in registrars}, self.trust)
            evidence = assemble.store(log, registrars, self.trust, before=evidence)
            previous = self._previous(product, log)
        summary = assemble.package(
            dest,
            dossier,
            evidence,
            trust_folder=self.operator.trust_path,
            second=self._second(folder, dossier),
            previous=previous,
        )
        release = json.loads((folder / "release.json").read_bytes())["predicate"]
        by_role = {
            role: frozenset(actor for name, actor in signed if name == "release" and self._has_role(actor, role))
            for role in ("operator", "node", "registrar")
        }
        facts = ProductFacts(
            now=_now(),
            profile=self.law,
            departments=frozenset(dossier.participants),
            grant_until=dossier.grant.not_after,
            registration_code=release["registration"]["code"],
            registration_until=datetime.fromisoformat(release["registration"]["valid_until"]),
            prerelease_receipts=frozenset({"agency", *dossier.participants}),
            release_signers=by_role,
        )
        case = self.registry.get("product", product)
        if case.state == "registered":
            self._move(case, "release", facts, {"release": sha256_hex((folder / "release.json").read_bytes())})
        return summary

    def _released_over(self, product: str, recipe: Recipe) -> dict[str, dict[str, bytes]]:
        """Return the files of other released products that read one of the recipe's resources, by product."""
        mine = {party.resource for party in recipe.parties}
        found = {}
        for case in self.registry.cases("product"):
            if case.id == product or case.state in UNRELEASED:
                continue
            other = self._load(case.id).recipe
            if mine & {party.resource for party in other.parties}:
                found[case.id] = _files(self.folder(case.id) / "product")
        return found

    def _earlier(self, product: str) -> "_Version | None":
        """Return the latest released version of the same product, if there is one."""
        name, found = product.partition("@")[0], []
        for case in self.registry.cases("product"):
            path = self.folder(case.id) / "release.json"
            is_other = case.id != product and case.id.partition("@")[0] == name
            if is_other and case.state not in UNRELEASED and path.is_file():
                payload = path.read_bytes()
                said = json.loads(payload)["predicate"]
                found.append((said["released_at"], _Version(case.id, said["product"]["version"], sha256_hex(payload))))
        return max(found, key=lambda item: str(item[0]))[1] if found else None

    def _previous(self, product: str, log: Log) -> list[SignedStatement]:
        """Return the registrars' envelopes of the version that this release names, with their log proofs."""
        said = json.loads((self.folder(product) / "release.json").read_bytes())["predicate"]["product"]["previous"]
        if said is None:
            return []
        folder = self.folder(f"{product.partition('@')[0]}@{said['version']}")
        signed = {
            place: data
            for place, data in _signed(folder / "signed").items()
            if place[0] == "release"
            and any(a.id == place[1] and "registrar" in a.roles for a in self.trust.actors.actors)
        }
        evidence = assemble.store(log, signed, self.trust)
        return [SignedStatement("release", place[1], data, evidence.proofs[place]) for place, data in signed.items()]

    def _second(self, folder: Path, dossier: Dossier) -> dict[str, bytes]:
        subjects = dossier.payload.subjects
        links = {path.stem: path.read_bytes() for path in sorted((folder / "bundle").glob("*.link"))}
        return {
            **second.operators_files(self.operator.key, dossier.description.form, subjects),
            **second.reviewers_files(links, self.trust, subjects, now=_now()),
            **second_files(folder / "release"),
            **second.read_sm2(folder / "bundle"),
            **self._sm2(dossier, folder),
        }

    def _sm2(self, dossier: Dossier, folder: Path) -> dict[str, bytes]:
        """Return the SM2 signatures of the operator and of the nodes that have such a key."""
        signed = self._all_signed(dossier, folder)
        found = second.own_sm2(self.operator, self.trust, {f"{name}.{actor}": d for (name, actor), d in signed.items()})
        for node in sorted(
            {actor for _, actor in signed if self._has_role(actor, "node") and self._actor(actor).sm2_spki}
        ):
            own = {place: data for place, data in signed.items() if place[1] == node}
            answers = self.desk.sm2_signatures(node, list(own.values()))
            found |= {paths.sm2_path(f"{name}.{node}"): a for (name, _), a in zip(own, answers, strict=True)}
        return found

    def _load(self, product: str) -> "_Item":
        self.registry.get("product", product)  # says so when there is none
        folder = self.folder(product)
        recipe_bytes = (folder / "recipe.toml").read_bytes()
        return _Item(
            parse_recipe(recipe_bytes.decode("utf-8")), recipe_bytes, json.loads((folder / "built.json").read_bytes())
        )

    def _dossier(self, product: str) -> Dossier:
        case = self.registry.get("product", product)
        if case.state in ("building", "built"):
            raise StepRefusedError(
                f"expected a tested product, {product} is {case.state}; next: shufang product "
                + ("build" if case.state == "building" else f"test {product}")
            )
        folder, item = self.folder(product), self._load(product)
        sources = _signed(folder / "sources")
        statement = Envelope.from_bytes(_first(sources, "grant"))
        grant = parse_grant(statement.payload)
        quality = {path.stem: path.read_bytes() for path in sorted((folder / "quality").iterdir())}
        payload, description = self._payload(item, folder, grant, sources)
        facts = item.facts
        return Dossier(
            description=description,
            payload=payload,
            grant=grant,
            grant_sha256=statement.payload_sha256,
            sources=sources,
            quality_reports=quality,
            provenance=Provenance(
                pipeline=item.recipe.pipeline.name,
                recipe_sha256=sha256_hex(item.recipe_bytes),
                code_sha256=facts["code_sha256"],
                lock_sha256=facts["libraries_sha256"],
                invocation=facts["sessions"][0],
            ),
            accounting=Accounting(
                mechanisms=facts["mechanisms"],
                learns=facts["learns"],
                cell_min=facts["cell_min"],
                round_base=facts["round_base"],
                suppressed=facts["suppressed"],
                attacks=[
                    {"test": f.test, "value": f.value, "limit": f.limit, "unit": f.unit, "ok": f.is_ok}
                    for f in _read_findings(folder)
                    if not f.test.startswith("declared.")
                ],
            ),
        )

    def _payload(
        self, item: "_Item", folder: Path, grant: Grant, sources: Mapping[tuple[str, str], bytes]
    ) -> tuple[Payload, ProductDescription]:
        product, facts = item.recipe.product, item.facts
        used = []
        for (name, _), data in sorted(sources.items()):
            if not name.startswith("resource-"):
                continue
            predicate = json.loads(Envelope.from_bytes(data).payload)["predicate"]
            resource = predicate["resource"]
            used.append(
                Source(
                    id=resource["id"],
                    version=resource["version"],
                    name_zh=resource["name_zh"],
                    name_en=resource["name_en"],
                    holder=resource["holder"],
                    registration=predicate["registration"]["code"],
                )
            )
        description = ProductDescription(
            id=product.id,
            version=product.version,
            form=product.form,
            name_zh=product.name_zh,
            name_en=product.name_en,
            summary_zh=product.summary_zh,
            summary_en=product.summary_en,
            operator=self.operator.id,
            operator_name=self.operator.title_zh,
            scenario=grant.scenario,
            scenario_title=grant.scenario_title,
            purpose=grant.purpose,
            grant=grant.grant_id,
            pipeline=item.recipe.pipeline.name,
            sources=used,
            sessions=facts["sessions"],
            started_at=datetime.fromisoformat(facts["started_at"]),
            finished_at=datetime.fromisoformat(facts["finished_at"]),
            licence=LICENCE,
        )
        payload = build_payload(
            description,
            product_files=_files(folder / "product"),
            metadata_files=_files(folder / "metadata"),
        )
        return payload, description

    def _all_signed(self, dossier: Dossier, folder: Path) -> dict[tuple[str, str], bytes]:
        return {**dossier.sources, **_signed(folder / "signed")}

    def _move(
        self,
        case: Case,
        act: str,
        facts: ProductFacts,
        evidence: Mapping[str, str],
        reason: str = "",
        *,
        by: Actor | None = None,
    ) -> Case:
        desk = Desk(self.registry, _now)
        with _in_words(case.id):
            return desk.move(
                by or self._operator, case.kind, case.id, act, facts=facts, reason=reason, evidence=evidence
            )

    @property
    def _operator(self) -> Actor:
        return Actor(self.operator.id, self.operator.organisation, frozenset({"operator"}), "home")

    def _reviewers(self, reviews: Mapping[str, bytes]) -> Actor:
        """Return who reviewed: by their signatures, which were verified."""
        bodies = sorted({self._organisation(name) for name in reviews})
        return Actor(",".join(sorted(reviews)), ",".join(bodies), frozenset({"reviewer"}), "key")

    def _agency(self) -> Actor:
        """Return the agency, whose signed answer gave the code."""
        name = self.agency.agency
        return Actor(name, self._organisation(name), frozenset({"agency"}), "key")

    def _struck(self, kind: str, subject: str) -> bool:
        return self.trust.status.state_of(kind, subject) is not None

    def _actor(self, name: str) -> Any:
        moment = _now()
        return next(actor for actor in self.trust.actors.actors if actor.id == name and actor.is_valid_at(moment))

    def _organisation(self, name: str) -> str:
        return str(self._actor(name).organisation)

    def _has_role(self, name: str, role: str) -> bool:
        return role in self._actor(name).roles


@dataclass(frozen=True, slots=True)
class _Version:
    """A released version: its case, number and the digest of its release statement."""

    product: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class _Item:
    recipe: Recipe
    recipe_bytes: bytes
    facts: dict[str, Any]


def _built_json(built: Built) -> bytes:
    value = {
        "metrics": dict(built.metrics),
        "participants": list(built.participants),
        "sessions": list(built.sessions),
        "mechanisms": [asdict(item) for item in built.mechanisms],
        "learns": [asdict(item) for item in built.learns],
        "cell_min": built.cell_min,
        "round_base": built.round_base,
        "suppressed": built.suppressed,
        "started_at": time_text(built.started_at),
        "finished_at": time_text(built.finished_at),
        "code_sha256": environment.code_sha256(),
        "libraries_sha256": environment.libraries_sha256(),
    }
    return (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def _sensitive(recipe: Recipe) -> dict[str, list[str]]:
    """Return the sensitive columns by table that the recipe of a report declares."""
    measures = recipe.parameters.get("measures", [])
    return {item["name"]: list(item.get("sensitive", ())) for item in measures} if isinstance(measures, list) else {}


def _signed(folder: Path) -> dict[tuple[str, str], bytes]:
    found = {}
    for path in sorted(folder.glob("*.dsse.json")) if folder.is_dir() else ():
        name, _, actor = path.name.removesuffix(".dsse.json").rpartition(".")
        found[name, actor] = path.read_bytes()
    return found


def _payloads(sources: Mapping[tuple[str, str], bytes], prefix: str) -> list[bytes]:
    return [Envelope.from_bytes(data).payload for (name, _), data in sorted(sources.items()) if name.startswith(prefix)]


def _first(sources: Mapping[tuple[str, str], bytes], wanted: str) -> bytes:
    return next(data for (name, _), data in sorted(sources.items()) if name == wanted)


def _files(folder: Path, names: Sequence[str] | None = None) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (names is None or path.name in names)
    }


def _read_findings(folder: Path) -> list[Finding]:
    from factory.review.finding import read_findings

    return read_findings((folder / "metadata" / "findings.json").read_bytes())


def _problems(items: Sequence[prerelease.Item]) -> str:
    try:
        prerelease.require_complete(items)
    except FactoryError as error:
        return str(error)
    return ""


def _set_aside(folder: Path) -> None:
    if folder.exists():
        number = next(n for n in itertools.count(1) if not folder.with_name(f"{folder.name}~{n}").exists())
        folder.rename(folder.with_name(f"{folder.name}~{number}"))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)


@contextmanager
def _in_words(product: str) -> Iterator[None]:
    """Raise what the desk refuses as the workshop's own error."""
    try:
        yield
    except TransitionRefusedError as error:
        raise StepRefusedError(f"{product}: {error}") from error


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
