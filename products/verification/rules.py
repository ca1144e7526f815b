"""Step 7: the statements agree with each other and stay within the grant.

A rule is a function from the facts to its problems; ``RULES`` names them all. Correct signatures
are taken for granted here: these rules catch signers who sign what is not so.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta

from products import canonical, kinds, registration_code
from products.errors import ProductError
from products.fields import time_text
from products.forms import NODE_RUN, RESOURCE
from products.limits import LIMITS
from products.package import paths
from products.statements import Grant, GrantedUse, NodeRun, Resource, UsedResource
from products.verification.facts import Facts

Rule = Callable[[Facts], Iterator[str]]


def grant_of(facts: Facts) -> Grant | None:
    """Return the one grant that the release names, or None."""
    found = [grant for joint, grant in facts.grants if joint.sha256 == facts.release.grant.sha256]
    return found[0] if len(facts.grants) == 1 and len(found) == 1 else None


def _granted(facts: Facts) -> Grant:
    grant = grant_of(facts)
    if grant is None:
        raise _NoGrantError("expected exactly one grant, the one that the release names")
    return grant


class _NoGrantError(ProductError):
    """The release rests on no grant, or on another than the package holds."""

    code = "products.no_grant"


def _resources(facts: Facts) -> Iterator[str]:
    grant = _granted(facts)
    granted = {(party.node, use.resource, use.version): use for party in grant.parties for use in party.resources}
    used: set[tuple[str, int]] = set()
    for _, run in facts.runs:
        for item in run.resources:
            used.add((item.id, item.version))
            use = granted.get((run.node, item.id, item.version))
            if use is None:
                yield f"{run.node} used {item.id}@{item.version}, which the grant does not give"
            else:
                yield from _use_problems(run, item, use)
            stated = facts.resources.get((item.id, item.version))
            if stated is None:
                yield f"{item.id}@{item.version} has no resource statement"
            else:
                yield from _stated_problems(run, item, stated)
    for resource, version in sorted(set(facts.resources) - used):
        yield f"{resource}@{version} is stated, but no run used it"
    for joint in facts.of_type(RESOURCE):
        if isinstance(joint.statement.predicate, Resource):
            entry = joint.statement.predicate.resource
            if set(joint.statement.subjects) != {f"resource/{entry.id}@{entry.version}"}:
                yield f"{joint.signed[0].path}: expected the subject resource/{entry.id}@{entry.version}"


def _use_problems(run: NodeRun, item: UsedResource, use: GrantedUse) -> Iterator[str]:
    extra = sorted(set(item.columns) - set(use.columns))
    if extra:
        yield f"{run.node} used columns of {item.id} that the grant does not give: {', '.join(extra[:5])}"
    if any(condition not in item.row_filter for condition in use.row_filter):
        yield f"{run.node} used rows of {item.id} beyond the grant's row filter"


def _stated_problems(run: NodeRun, item: UsedResource, stated: Resource) -> Iterator[str]:
    if stated.resource.holder != run.node:
        yield f"{run.node} used {item.id}, which {stated.resource.holder} holds"
    if _commitment(item.commitment) != _commitment(stated.resource.commitment):
        yield f"{run.node} used {item.id}@{item.version} with another commitment than its resource statement"
    unknown = sorted(set(item.columns) - {column.name for column in stated.resource.columns})
    if unknown:
        yield f"{item.id}@{item.version} does not state the columns {', '.join(unknown[:5])}"


def _commitment(value: object) -> object:
    """Return the keyed digest, which a run may state alone or with the name of its algorithm."""
    return value.get("value") if isinstance(value, dict) else value


def _purpose(facts: Facts) -> Iterator[str]:
    grant, product = _granted(facts), facts.release.product
    if facts.release.grant.id != grant.grant_id:
        yield f"the release names the grant {facts.release.grant.id}, its digest that of {grant.grant_id}"
    yield from _other_operators(facts, grant)
    if product.form != grant.product_form:
        yield f"the product is a {product.form}, the grant is for a {grant.product_form}"
    for joint, run in facts.runs:
        where = joint.signed[0].path
        if (run.grant.id, run.grant.sha256) != (grant.grant_id, facts.release.grant.sha256):
            yield f"{where}: ran under another grant"
        if (run.scenario, run.purpose) != (grant.scenario, grant.purpose):
            yield f"{where}: scenario and purpose are not the grant's"
        if run.task not in grant.tasks:
            yield f"{where}: the grant does not give the task {run.task}"
    for joint, build in facts.builds:
        asked = build.buildDefinition.externalParameters
        if (asked.grant.id, asked.grant.sha256) != (grant.grant_id, facts.release.grant.sha256):
            yield f"{joint.signed[0].path}: built under another grant"
        if (asked.purpose, asked.product_form) != (grant.purpose, product.form):
            yield f"{joint.signed[0].path}: purpose or form of the build are not the grant's"


def _other_operators(facts: Facts, grant: Grant) -> Iterator[str]:
    for joint in (facts.release_joint, *(joint for joint, _ in facts.builds)):
        for item in joint.signed:
            if "operator" in item.actor.roles and item.actor.id != grant.operator:
                yield f"{item.path}: {item.actor.id} is not the operator of the grant, {grant.operator} is"


def _window(facts: Facts) -> Iterator[str]:
    grant, release = _granted(facts), facts.release
    skew = timedelta(seconds=facts.policy.clock_skew_s_max)
    for joint, run in facts.runs:
        if not grant.not_before - skew <= run.started_at <= run.finished_at <= grant.not_after + skew:
            yield f"{joint.signed[0].path}: ran outside the window of the grant, or ended before it began"
        if run.finished_at > release.released_at + skew:
            yield f"{joint.signed[0].path}: ended after the release"
    for joint, build in facts.builds:
        metadata = build.runDetails.metadata
        first = min((run.started_at for _, run in facts.runs), default=metadata.startedOn)
        if not metadata.startedOn - skew <= first <= metadata.finishedOn <= release.released_at + skew:
            yield f"{joint.signed[0].path}: the times of build, runs and release are not in order"
    last_run = max((run.finished_at for _, run in facts.runs), default=release.released_at)
    for joint, review in facts.reviews:
        if not last_run - skew <= review.timeCreated <= release.released_at + skew:
            yield f"{joint.signed[0].path}: reviewed before the runs ended or after the release"
    yield from _claimed_times(facts, grant, skew)


def _claimed_times(facts: Facts, grant: Grant, skew: timedelta) -> Iterator[str]:
    release, policy = facts.release, facts.policy
    if grant.issued_at > release.released_at:
        yield "the grant was issued after the release"
    claimed = [run.finished_at for _, run in facts.runs] + [release.released_at, grant.issued_at]
    if max(claimed) > facts.released_witnessed_at + skew:
        yield "a statement claims a time after its signatures were witnessed"
    if facts.released_witnessed_at - release.released_at > timedelta(seconds=policy.release_delay_s_max):
        yield "the release is back-dated: it was witnessed long after the time it claims"


def _quality(facts: Facts) -> Iterator[str]:
    yield from _report_files(facts)
    minimum = _granted(facts).thresholds.quality_score_min
    age_max = timedelta(days=facts.policy.quality_age_days_max)
    for _, run in facts.runs:
        for item in run.resources:
            found = facts.resources.get((item.id, item.version))
            if found is None:
                continue  # rule.resources says so
            if item.quality.model_dump() != found.quality.model_dump(include={"report_sha256", "score_x100"}):
                yield f"{run.node} used {item.id} under another quality report than its resource statement"
            if item.quality.score_x100 < minimum:
                yield f"{item.id} scored {item.quality.score_x100} hundredths, the grant asks {minimum}"
            if not timedelta(0) <= run.started_at - found.quality.assessed_at <= age_max:
                yield f"the quality report of {item.id} was stale, or not yet made, when {run.node} ran"


def _report_files(facts: Facts) -> Iterator[str]:
    for (resource, version), stated in facts.resources.items():
        path = paths.quality_path(resource)
        report = facts.files.content.get(path)
        if report is None:
            yield f"expected the quality report {path}"
        elif hashlib.sha256(report).hexdigest() != stated.quality.report_sha256:
            yield f"{path}: not the report that the statement of {resource}@{version} names"
        else:
            yield from _report_problems(path, report, stated)
    known = {paths.quality_path(resource) for resource, _ in facts.resources}
    for path in sorted(facts.files.below(paths.ATTESTATIONS + "quality-")):
        if path not in known and not path.endswith(paths.ENVELOPE_SUFFIX):
            yield f"{path}: no resource statement names this report"


def _report_problems(path: str, report: bytes, stated: Resource) -> Iterator[str]:
    try:
        value = canonical.loads(report, size_max=LIMITS.tag_file_bytes_max)
        said = (value["resource"]["id"], int(value["resource"]["version"]), value["node"], value["assessed_at"])
        score, verdict = value["score"]["total_x100"], value["score"]["verdict"]
    except (ProductError, KeyError, TypeError, ValueError):
        yield f"{path}: expected a quality report with resource, node, score and time"
        return
    entry, quality = stated.resource, stated.quality
    if said != (entry.id, entry.version, entry.holder, time_text(quality.assessed_at)):
        yield f"{path}: of another resource, version, node or time than the resource statement says"
    if score != quality.score_x100:
        yield f"{path}: scored {score} hundredths, the statement of {entry.id} says {quality.score_x100}"
    if verdict != "pass":
        yield f"{path}: the resource did not pass, its quality is {str(verdict)[:20]}"


def _budget(facts: Facts) -> Iterator[str]:
    grant = _granted(facts)
    for node in sorted({run.node for _, run in facts.runs}):
        runs = sorted(
            (run for _, run in facts.runs if run.node == node), key=lambda r: (r.budget.before, r.uses.before)
        )
        spent = uses = 0
        for run in runs:
            if run.budget.unit != grant.budget.unit:
                yield f"{node} counts in {run.budget.unit}, the grant in {grant.budget.unit}"
            if run.budget.before < spent or run.budget.after < run.budget.before:
                yield f"{node}: the budget of its sessions overlaps or runs backwards"
            if run.uses.before < uses or run.uses.after <= run.uses.before:
                yield f"{node}: the uses of its sessions overlap or are not counted"
            spent, uses = max(spent, run.budget.after), max(uses, run.uses.after)
        if spent > grant.budget.total:
            yield f"{node} used {spent} of {grant.budget.total} {grant.budget.unit}"
        if uses > grant.uses_max:
            yield f"{node} used the grant {uses} times of {grant.uses_max}"


def _participants(facts: Facts) -> Iterator[str]:
    grant = _granted(facts)
    stated = set(facts.release.participants)
    if len(stated) != len(facts.release.participants):
        yield "expected each participant once"
    ran = {run.node for _, run in facts.runs}
    for node in sorted(stated - ran):
        yield f"{node} took part, but its run statement is missing"
    for node in sorted(ran - stated):
        yield f"{node} has a run statement, but the release does not name it"
    for node in sorted(stated - {party.node for party in grant.parties}):
        yield f"{node} is no party of the grant"
    yield from _run_problems(facts, grant)


def _run_problems(facts: Facts, grant: Grant) -> Iterator[str]:
    fewest = grant.thresholds.contributors_min
    seen: set[tuple[str, str]] = set()
    for joint, run in facts.runs:
        if (run.node, run.session) in seen:
            yield f"{run.node} states the session {run.session} twice"
        seen.add((run.node, run.session))
        if f"run/{run.session}/{run.node}" not in joint.statement.subjects:
            yield f"{joint.signed[0].path}: expected the subject run/{run.session}/{run.node}"
        for path, sha256 in joint.statement.subjects.items():
            own = facts.files.facts.get(path)
            if path.startswith(paths.DATA) and (own is None or own.sha256 != sha256):
                yield f"{joint.signed[0].path}: the output {path} is not the product's file"
        if run.contributor_count < fewest:
            yield f"{run.node}: {run.contributor_count} contributors, the grant asks {fewest}"


def _product_files(facts: Facts) -> dict[str, str]:
    return {path: item.sha256 for path, item in facts.files.facts.items() if path.startswith(paths.PRODUCT)}


def _build(facts: Facts) -> Iterator[str]:
    if len(facts.builds) != 1:
        yield f"expected one build statement, got {len(facts.builds)}"
    sources = {joint.sha256: joint for joint in facts.joints if joint.statement.predicate_type in (RESOURCE, NODE_RUN)}
    for joint, build in facts.builds:
        where = joint.signed[0].path
        if joint.statement.subjects != _product_files(facts):
            yield f"{where}: its subjects are not the files below data/product/"
        named = {item.digest.get("sha256") for item in build.buildDefinition.resolvedDependencies}
        for sha256 in sorted(set(sources) - named):
            yield f"{where}: does not name {sources[sha256].signed[0].path} as a source"
        inner = build.buildDefinition.internalParameters
        if set(inner.parties) != set(facts.release.participants):
            yield f"{where}: its parties are not the participants of the release"
        if set(inner.sessions) != {run.session for _, run in facts.runs}:
            yield f"{where}: its sessions are not those of the run statements"


def _privacy(facts: Facts) -> Iterator[str]:
    grant = _granted(facts)
    if len(facts.privacy) != 1:
        yield f"expected one privacy account, got {len(facts.privacy)}"
    for joint, account in facts.privacy:
        where = joint.signed[0].path
        if joint.statement.subjects != _product_files(facts):
            yield f"{where}: its subjects are not the files below data/product/"
        if account.unit != grant.budget.unit:
            yield f"{where}: counts in {account.unit}, the grant in {grant.budget.unit}"
        ledgers = {ledger.node: (ledger.before, ledger.after) for ledger in account.ledgers}
        if len(ledgers) != len(account.ledgers) or ledgers != _spans(facts):
            yield f"{where}: its ledgers are not those of the run statements"
        if account.consumed != max(_spending(facts).values(), default=0):
            yield f"{where}: consumed is not the largest spending of one node"
        limits = account.disclosure
        if limits is not None and (
            limits.cell_min < grant.thresholds.cell_min or limits.round_base % grant.thresholds.round_base
        ):
            yield f"{where}: cells smaller, or rounding finer, than the grant allows"
        for attack in account.attacks:
            if not attack.ok:
                yield f"{where}: {attack.test} measured {attack.value} {attack.unit}, allowed are {attack.limit}"


def _attacks(facts: Facts) -> list[str]:
    """What each attack measured, as the account states it."""
    return [f"{a.test} {a.value} of {a.limit} {a.unit}" for _, account in facts.privacy for a in account.attacks]


def _spans(facts: Facts) -> dict[str, tuple[int, int]]:
    spans: dict[str, tuple[int, int]] = {}
    for _, run in facts.runs:
        before, after = spans.get(run.node, (run.budget.before, run.budget.after))
        spans[run.node] = min(before, run.budget.before), max(after, run.budget.after)
    return spans


def _spending(facts: Facts) -> dict[str, int]:
    spending: dict[str, int] = {}
    for _, run in facts.runs:
        spending[run.node] = spending.get(run.node, 0) + run.budget.after - run.budget.before
    return spending


def _review(facts: Facts) -> Iterator[str]:
    # An unknown form has no list of points; release.required refuses it.
    form = facts.policy.forms.get(facts.release.product.form)
    needed = set(form.review_properties) if form is not None else set()
    data = {path: item.sha256 for path, item in facts.files.payload.items()}
    for joint, review in facts.reviews:
        where = joint.signed[0].path
        if joint.statement.subjects != data:
            yield f"{where}: does not cover exactly the files of data/"
        for point in sorted(needed - set(review.properties)):
            yield f"{where}: does not confirm {point}"


def _registration(facts: Facts) -> Iterator[str]:
    release, product = facts.release, facts.release.product
    try:
        code = registration_code.read(release.registration.code)
    except ProductError as error:
        yield str(error)
    else:
        if code.form != product.form:
            yield f"the registration code is of a {code.form}, the product is a {product.form}"
        if code.year > release.released_at.year:
            yield "the registration code is of a later year than the release"
    yield from _terms(facts)
    previous = product.previous
    if previous is not None and (previous.version == product.version or previous.sha256 == facts.release_joint.sha256):
        yield "the version before has the same version as this one"


def _terms(facts: Facts) -> Iterator[str]:
    release = facts.release
    validity, term = release.validity, release.registration.valid_until
    if not validity.not_before < validity.not_after <= term or not release.released_at < term:
        yield "expected a validity within the term of the registration, which ends after the release"
    if abs(validity.not_before - release.released_at) > timedelta(seconds=facts.policy.clock_skew_s_max):
        yield "expected a validity that begins with the release"
    grant = grant_of(facts)
    if grant is not None and validity.not_after > grant.not_after:
        yield "expected a validity that ends with the grant, or before"
    if term > release.released_at.replace(year=release.released_at.year + 3, day=min(release.released_at.day, 28)) + (
        timedelta(days=4)
    ):
        yield "a registration runs for at most three years"  # 发改数据规〔2025〕26号: 3 years from the code date
    years = facts.policy.retain_years_min
    if release.retain_until < release.released_at + timedelta(days=365 * years):
        yield f"expected the evidence to be kept for at least {years} years"
    for (resource, version), stated in sorted(facts.resources.items()):
        end = stated.registration.valid_until
        if end is None or not stated.registration.platform or not stated.registration.code:
            yield f"{resource}@{version} is not registered: platform, code or term is empty"
        elif end <= release.released_at:
            yield f"the registration of {resource}@{version} had ended when the product was released"


def _registrars(facts: Facts) -> Iterator[str]:
    last = [item for item in facts.release_joint.signed if "registrar" in item.actor.roles]
    others = [item for item in facts.signed if item not in last]
    if len({item.actor.id for item in last}) < 2:
        yield f"expected two registrars on the release, got {len({item.actor.id for item in last})}"
    for item in last:
        if "operator" in item.actor.roles or "node" in item.actor.roles:
            yield f"{item.actor.id} is registrar and party at once"
        later = [other.path for other in others if other.index >= item.index if other.origin == item.origin] + [
            other.path for other in others if other.origin != item.origin and other.at > item.at
        ]
        if later:
            yield f"{item.path}: logged before {later[0]}; registrars sign last"


def _form(facts: Facts) -> Iterator[str]:
    form, names = facts.release.product.form, sorted(facts.files.payload)
    for need in kinds.missing(form, names):
        yield f"a {form} lacks: {need.title_zh} {need.title_en} ({' or '.join(need.patterns)})"
    for name in kinds.forbidden(form, names):
        yield f"{name}: executable content has no place in a {form}"
    for name in names:
        content = facts.files.content.get(name)
        if content is not None:
            try:
                kinds.require_content(name, content)
            except ProductError as error:
                yield str(error)
    if paths.CRATE not in facts.files.facts:
        yield f"expected {paths.CRATE}"


RULES: dict[str, Rule] = {
    "rule.resources": _resources,
    "rule.purpose": _purpose,
    "rule.window": _window,
    "rule.quality": _quality,
    "rule.budget": _budget,
    "rule.participants": _participants,
    "rule.build": _build,
    "rule.privacy": _privacy,
    "rule.review": _review,
    "rule.registration": _registration,
    "rule.registrars": _registrars,
    "rule.form": _form,
}
"""Every rule by the code of its check."""


def evidence_of(code: str, facts: Facts) -> str:
    """Return what a rule that holds has looked at, in a few words."""
    grant = grant_of(facts)
    used = sorted({f"{item.id}@{item.version}" for _, run in facts.runs for item in run.resources})
    texts = {
        "rule.resources": f"{', '.join(used)}",
        "rule.purpose": f"{grant.scenario}, {grant.purpose}, {grant.product_form}" if grant else "",
        "rule.window": f"released {facts.release.released_at:%Y-%m-%dT%H:%M:%SZ}, witnessed in time",
        "rule.quality": f"{len(facts.resources)} reports",
        "rule.budget": ", ".join(f"{n}: {a} of {grant.budget.total}" for n, (_, a) in sorted(_spans(facts).items()))
        if grant
        else "",
        "rule.participants": ", ".join(facts.release.participants),
        "rule.build": f"{len(_product_files(facts))} product files",
        "rule.privacy": f"{len(facts.privacy)} account, "
        + (", ".join(_attacks(facts)) or "no figure of an attack in it"),
        "rule.review": ", ".join(review.verifier.id for _, review in facts.reviews),
        "rule.registration": facts.release.registration.code,
        "rule.registrars": ", ".join(
            f"{item.actor.id} at {item.index}" for item in facts.release_joint.signed if "registrar" in item.actor.roles
        ),
        "rule.form": facts.release.product.form,
    }
    return texts[code]
