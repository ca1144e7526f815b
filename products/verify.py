"""The offline verifier: one call from a package folder to a verdict with every check.

Needs no network and no database, and of ours nothing but ``products``. The ten steps are those of
PROVENANCE 3.5; ``docs/reference/verify.md`` lists every check. A check that fails is a value in the
report, never an exception.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from products.errors import ProductError
from products.fields import time_text
from products.package.reading import PackageFiles, read_package, read_trust
from products.repository import TrustData, open_repository
from products.verification import bagging, derived, earlier, evidence, rules, second, shapes, signers, sm2, status
from products.verification.checks import Check, CheckList
from products.verification.evidence import Joint
from products.verification.facts import Facts, releases

Verdict = Literal["valid", "invalid", "suspended", "revoked", "superseded", "expired", "unknown"]

EXIT_CODES: dict[Verdict, int] = {
    "valid": 0,
    "invalid": 1,
    "suspended": 2,
    "revoked": 2,
    "superseded": 2,
    "expired": 2,
    "unknown": 3,
}
"""Exit code of each verdict; 4 is a wrong use of the command."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the verifier found.

    Attributes:
        verdict: ``valid``, ``invalid``, or valid in itself but not in force (``suspended``, ``revoked``,
            ``superseded``, ``expired``), or ``unknown`` for want of fresh trust data or a pinned root.
        checks: every check of the procedure, in order.
        product: id, version, form, names and registration code; empty when no release holds.
        release_sha256: name of the release; empty when there is none.
        root_sha256: digest of the first root that was relied on.
        is_root_pinned: whether that digest came from the caller.
        checked_at: the time that counted as now.
    """

    verdict: Verdict
    checks: tuple[Check, ...]
    product: dict[str, str]
    release_sha256: str
    root_sha256: str
    is_root_pinned: bool
    checked_at: datetime

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0 valid, 1 invalid, 2 not in force, 3 unknown."""
        return EXIT_CODES[self.verdict]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome == "failed")

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; the schema only grows."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "product": self.product,
            "release_sha256": self.release_sha256,
            "root_sha256": self.root_sha256,
            "root_pinned": self.is_root_pinned,
            "checked_at": time_text(self.checked_at),
            "checks": [
                {
                    "code": check.code,
                    "step": check.step,
                    "title_zh": check.title_zh,
                    "title_en": check.title_en,
                    "outcome": check.outcome,
                    "evidence": check.evidence,
                }
                for check in self.checks
            ],
        }


def verify(
    package: Path,
    *,
    root_sha256: str | None,
    fresh_trust: Path | None,
    now: datetime,
    profile: Literal["standard", "gm"] = "standard",
    with_shapes: bool = False,
) -> Report:
    """Verify a package.

    Args:
        package: its folder.
        root_sha256: SHA-256 hex of the agency's ``1.root.json``, known from elsewhere. Without it the
            package's own root is used and the verdict is never better than ``unknown``.
        fresh_trust: folder of a current copy of the agency's trust repository, for the status.
        now: current time, aware.
        profile: ``gm`` asks for SM2 signatures whatever the agency's policy says.
        with_shapes: run the agency's shapes in a second engine too (extra ``shapes``).
    """
    run = _Run(CheckList(), package, root_sha256, fresh_trust, now)
    run.profile, run.with_shapes = profile, with_shapes
    return run.report()


class _Run:
    """One verification; each method is a step and leaves its findings in the check list."""

    def __init__(
        self, checks: CheckList, package: Path, root_sha256: str | None, fresh: Path | None, now: datetime
    ) -> None:
        self.checks, self.package, self.fresh_folder, self.now = checks, package, fresh, now
        self.is_pinned, self.root_sha256 = root_sha256 is not None, root_sha256 or ""
        self.facts: Facts | None = None
        self.profile, self.with_shapes = "standard", False
        self.standing = status.Standing(is_known=False, state="valid")

    def report(self) -> Report:
        files = self.checks.attempt("package.tree", lambda: read_package(self.package))
        if files is not None:
            size = sum(item.size for item in files.facts.values())
            self.checks.passed("package.tree", f"{len(files.facts)} files, {size} bytes")
            self._establish(files)
        if self.facts is not None:
            self._apply(self.facts)
        product: dict[str, str] = {}
        if self.facts is not None:
            release = self.facts.release
            product = {
                **{k: str(v) for k, v in release.product.model_dump(exclude={"previous"}).items()},
                "registration": release.registration.code,
            }
        return Report(
            verdict=self._verdict(),
            checks=self.checks.checks(),
            product=product,
            release_sha256=self.facts.release_joint.sha256 if self.facts is not None else "",
            root_sha256=self.root_sha256,
            is_root_pinned=self.is_pinned,
            checked_at=self.now,
        )

    def _establish(self, files: PackageFiles) -> None:
        """Steps 1 to 4: everything that must hold before a statement may be believed."""
        evidence.check_layout(files, self.checks)
        bagging.check_tagmanifest(files.facts, files.content, self.checks)
        envelopes = evidence.parse_envelopes(files, self.checks)
        trust = self._trust(files)
        if trust is None:
            return
        self.trust = trust
        signed = evidence.verify_signatures(files, envelopes, trust, self.checks)
        joints = evidence.read_statements(signed, self.checks)
        self.checks.passed("package.statements", f"{len(envelopes)} envelopes, {len(joints)} statements")
        found = releases(joints)
        problems = [] if len(found) == 1 else [f"expected one release statement that holds, got {len(found)}"]
        if self.checks.found("release.one", problems, found[0].sha256 if found else ""):
            self._release(files, trust, found[0], joints)

    def _trust(self, files: PackageFiles) -> TrustData | None:
        embedded = self.checks.attempt("trust.metadata", lambda: evidence.trust_files(files))
        if embedded is None:
            return None
        own = hashlib.sha256(embedded.get("metadata/1.root.json", b"")).hexdigest()
        if not self.is_pinned:
            self.root_sha256 = own
            self.checks.warned(
                "trust.root",
                f"not pinned: the package's own root {own} was used; compare it with the agency's published digest, "
                "or pass --root",
            )
        elif own != self.root_sha256:
            self.checks.failed(
                "trust.root", [f"expected the root {self.root_sha256[:16]}…, the package has {own[:16]}…"]
            )
            return None
        else:
            self.checks.passed("trust.root", own)
        trust = self.checks.attempt("trust.metadata", lambda: open_repository(embedded, root_sha256=self.root_sha256))
        if trust is not None:
            self.checks.passed("trust.metadata", ", ".join(f"{r} {v}" for r, v in sorted(trust.versions.items())))
            with self.checks.guard("trust.metadata"):
                evidence.check_trust_files(files, trust)
        return trust

    def _release(self, files: PackageFiles, trust: TrustData, release: Joint, joints: list[Joint]) -> None:
        evidence.check_current(trust, release, self.checks)
        others = [joint for joint in joints if joint is not release]
        self.facts = Facts(files, trust.release_policy, trust.release_policy_sha256, release, others)

    def _apply(self, facts: Facts) -> None:
        """Steps 4 to 9: files, signers, rules, standing."""
        named, policy = facts.release.policy, facts.policy
        same = (named.name, named.version, named.sha256) == (policy.name, policy.policy_version, facts.policy_sha256)
        self.checks.found(
            "release.policy",
            [] if same else ["the release was made under another policy than the agency's current one"],
            f"{policy.name} {policy.policy_version}",
        )
        sm2.check_sm2(facts, self.checks, is_required="gm" in (policy.profile, self.profile))
        bagging.check_bag(facts, self.checks)
        second.check_second(facts, self.checks)
        for code, problems, text in (
            ("release.attestations", signers.attestation_problems, f"{len(facts.joints)} statements"),
            ("release.required", signers.required_problems, facts.release.product.form),
            ("release.signers", signers.signer_problems, f"{sum(1 for _ in facts.signed)} signatures"),
        ):
            self.checks.found(code, list(problems(facts)), text)
        for code, rule in rules.RULES.items():
            with self.checks.guard(code):
                self.checks.found(code, list(rule(facts)), rules.evidence_of(code, facts))
        if not self.with_shapes:
            self.checks.skipped("rule.shapes", "not asked for: pass --shapes")
        else:
            shapes.check_shapes(facts, self.trust.policy_shapes, self.checks, is_pinned=self.is_pinned)
        with self.checks.guard("rule.previous"):
            before = facts.release.product.previous
            found = list(earlier.previous_problems(facts, self.trust))
            self.checks.found("rule.previous", found, before.version if before else "first version")
        with self.checks.guard("metadata.derived"):
            self.checks.found("metadata.derived", list(derived.metadata_problems(facts)), "DCAT, PROV, RO-Crate")
        struck = [text for _, text in status.struck(facts, self.trust.status)]
        self.checks.found("release.standing", struck, f"{len(self.trust.status.items)} entries in the status list")
        self.standing = status.check_standing(facts, self._fresh(), self.now, self.checks)

    def _fresh(self) -> TrustData | None:
        if self.fresh_folder is None:
            self.checks.warned("status.trust", "none given: pass --trust with a current copy of the trust repository")
            return None
        try:
            fresh = open_repository(read_trust(self.fresh_folder), root_sha256=self.root_sha256)
            status.require_fresh(fresh, self.trust, self.now)
        except ProductError as error:
            self.checks.warned("status.trust", f"not usable: {error}")
            return None
        ends = min(fresh.expires.values())
        self.checks.passed("status.trust", f"version {fresh.versions['timestamp']}, current until {time_text(ends)}")
        return fresh

    def _verdict(self) -> Verdict:
        in_force = ("status.force", "status.term")
        if any(check.outcome == "failed" and check.code not in in_force for check in self.checks.checks()):
            return "invalid"
        if self.facts is None:
            return "invalid"
        states: dict[str, Verdict] = {
            "suspended": "suspended",
            "revoked": "revoked",
            "superseded": "superseded",
            "expired": "expired",
        }
        if self.standing.state in states:
            return states[self.standing.state]
        return "valid" if self.standing.is_known and self.is_pinned and not self.checks.has_warned else "unknown"
