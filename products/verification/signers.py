"""Step 6: which statements there are, and whether each has the signers that the policy demands.

Signers are counted as persons and as keys; reviewers also as organisations. The rules are
the agency's data (``release-policy.json``); this module only counts.
"""

from collections.abc import Iterable, Iterator

from products.forms import GRANT, NODE_RUN, RELEASE, RESOURCE, REVIEW
from products.package import paths
from products.statements import Grant, NodeRun, Resource, Review
from products.trust import SignerRule
from products.verification.evidence import Joint, Signed
from products.verification.facts import Facts


def attestation_problems(facts: Facts) -> Iterator[str]:
    """Compare the statements of the package with those that the release lists, both ways."""
    listed = {link.sha256: link for link in facts.release.attestations}
    names = [link.name for link in facts.release.attestations]
    if len(listed) != len(names) or len(set(names)) != len(names) or "release" in names:
        yield "expected each statement listed once, under a name of its own"
    present = {joint.sha256: joint for joint in facts.joints}
    for sha256, link in listed.items():
        if sha256 not in present:
            yield f"the statement {link.name} that the release lists is missing"
        elif present[sha256].statement.predicate_type != link.predicate_type:
            yield f"the statement {link.name} is of another type than the release says"
    for sha256, joint in present.items():
        if sha256 not in listed:
            yield f"{joint.signed[0].path}: the release does not list this statement"
    yield from _name_problems(facts, {sha256: link.name for sha256, link in listed.items()})


def _name_problems(facts: Facts, listed: dict[str, str]) -> Iterator[str]:
    for joint in (facts.release_joint, *facts.joints):
        name = "release" if joint is facts.release_joint else None
        if joint.sha256 in listed:
            name = listed[joint.sha256]
        for item in joint.signed:
            if name is not None and item.path != paths.envelope_path(name, item.actor.id):
                yield f"{item.path}: expected the name {paths.envelope_path(name, item.actor.id)}"


def required_problems(facts: Facts) -> Iterator[str]:
    """Compare the types of the statements with those that this form needs."""
    form = facts.release.product.form
    if form not in facts.policy.forms:
        yield f"the agency's policy does not provide for products of the form {form}"
        return
    present = {joint.statement.predicate_type for joint in facts.joints}
    for kind in facts.policy.forms[form].required:
        if kind not in present:
            yield f"expected a statement of type {kind}"
    for kind in sorted(present - set(facts.policy.signers)):
        yield f"the agency's policy does not say who signs {kind}"


def signer_problems(facts: Facts) -> Iterator[str]:
    """Count the signers of every statement against the policy."""
    for kind in sorted({joint.statement.predicate_type for joint in facts.joints} | {RELEASE}):
        joints = [facts.release_joint] if kind == RELEASE else facts.of_type(kind)
        # Reviews are one statement per reviewer: their signers count together.
        groups = [joints] if kind == REVIEW else [[joint] for joint in joints]
        for group in groups:
            for rule in facts.policy.signers.get(kind, ()):
                yield from _rule_problems(facts, group, rule)
            yield from _stranger_problems(facts, group)


def _rule_problems(facts: Facts, group: list[Joint], rule: SignerRule) -> Iterator[str]:
    name = group[0].signed[0].path
    signers = [item for joint in group for item in joint.signed if rule.role in item.actor.roles]
    if rule.who != "any":
        wanted = facts.release.participants if rule.who == "participants" else _subjects(facts, group[0], rule)
        have = {item.actor.id for item in signers}
        for actor in sorted(set(wanted) - have):
            yield f"{name}: expected the signature of {actor} as {rule.role}"
    barred = _organisations(facts, rule)
    counted = [item for item in signers if item.actor.organisation not in barred]
    if len(counted) < len(signers):
        yield f"{name}: a {rule.role} is of an organisation that must not act here"
    people, keys = {item.actor.id for item in counted}, {item.envelope.keyid for item in counted}
    organisations = {item.actor.organisation for item in counted}
    if min(len(people), len(keys)) < rule.count_min:
        yield f"{name}: expected {rule.count_min} signers as {rule.role}, got {min(len(people), len(keys))}"
    if len(organisations) < rule.organisations_min:
        yield f"{name}: expected signers of {rule.organisations_min} organisations, got {len(organisations)}"


def _subjects(facts: Facts, joint: Joint, rule: SignerRule) -> Iterable[str]:
    """Return whom a statement is about, in the role of the rule."""
    match joint.statement.predicate:
        case NodeRun() as run:
            return [run.node]
        case Resource() as resource:
            return [resource.resource.holder]
        case Grant() as grant:
            if rule.role == "registrar":
                return grant.registrars
            return [party.node for party in grant.parties]
        case _:
            return [grant.operator for _, grant in facts.grants]


def _organisations(facts: Facts, rule: SignerRule) -> set[str]:
    roles = set(rule.organisations_apart_from)
    return {item.actor.organisation for item in facts.release_joint.signed if roles & set(item.actor.roles)}


def _stranger_problems(facts: Facts, group: list[Joint]) -> Iterator[str]:
    """Refuse a statement of one actor that is signed by another: a run, a resource, a review."""
    for joint in group:
        if joint.statement.predicate_type in (NODE_RUN, RESOURCE, REVIEW):
            if isinstance(joint.statement.predicate, Review):
                own = {joint.statement.predicate.verifier.id}
            else:
                own = set(_subjects(facts, joint, SignerRule(role="node")))
            for item in joint.signed:
                if item.actor.id not in own:
                    yield f"{item.path}: signed by {item.actor.id}, who is not its author"
        elif joint.statement.predicate_type == GRANT and isinstance(joint.statement.predicate, Grant):
            yield from _grant_strangers(joint.signed, joint.statement.predicate)


def _grant_strangers(signed: Iterable[Signed], grant: Grant) -> Iterator[str]:
    parties = {party.node for party in grant.parties}
    for item in signed:
        is_registrar = "registrar" in item.actor.roles and item.actor.id in grant.registrars
        if not is_registrar and not ("node" in item.actor.roles and item.actor.id in parties):
            yield f"{item.path}: {item.actor.id} has no part in this grant"
