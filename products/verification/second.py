"""Step 5: the second signatures that tools of others read say nothing but what the release says.

They are optional: a package without them loses no claim. One that is there has to be the one
that follows from the release, signed by the actor that it names.
"""

from collections.abc import Iterator

from products.errors import ProductError
from products.package import interop, paths
from products.verification.checks import CheckList
from products.verification.facts import Facts

REGISTRARS = 2
"""How many registrars vouch for the page of a certificate."""


def check_second(facts: Facts, checks: CheckList) -> None:
    """Compare every file below ``interop/`` with what it has to be."""
    files = {
        path: data for path, data in facts.files.below(paths.INTEROP).items() if not path.endswith(paths.SM2_SUFFIX)
    }
    checks.found("interop.signatures", list(_problems(facts, files)), f"{len(files)} files")


def _problems(facts: Facts, files: dict[str, bytes]) -> Iterator[str]:
    expected = _expected(facts)
    for path, data in sorted(files.items()):
        if path not in expected:
            yield f"{path}: of nobody who signed the release or reviewed it"
            continue
        spki, payload = expected[path]
        try:
            if path == paths.MODEL_SIGNATURE:
                interop.require_model_signature(data, spki, payload)
            else:
                interop.require_file(data, spki, payload)
        except ProductError as error:
            yield f"{path}: {error}"
    vouched = [path for path in files if path.startswith("interop/certificate.")]
    if paths.CERTIFICATE_PDF in facts.files.facts and len(vouched) < REGISTRARS:
        yield f"{paths.CERTIFICATE_PDF}: expected the signatures of {REGISTRARS} registrars on it"


def _expected(facts: Facts) -> dict[str, tuple[bytes, bytes]]:
    """Return key and payload by path of every second signature that this release can have."""
    subjects = sorted(facts.release_joint.statement.subjects.items())
    signers = [item.actor for item in facts.release_joint.signed]
    operators = [actor.spki for actor in signers if "operator" in actor.roles]
    reviewers = {item.actor.id: item.actor.spki for joint, _ in facts.reviews for item in joint.signed}
    found = {
        interop.link_path(interop.REVIEW_STEP, spki): (spki, interop.review_link(subjects))
        for spki in reviewers.values()
    }
    if not operators:
        return found
    operator, release = operators[0], facts.release
    layout = interop.layout(
        interop.Functionaries(operator, reviewers),
        [path for path, _ in subjects],
        expires=release.validity.not_after,
        readme=interop.readme(release.product.id, release.product.version, release.registration.code),
    )
    registrars = [actor for actor in signers if "registrar" in actor.roles]
    if paths.CERTIFICATE_PDF in facts.files.facts:
        page = facts.files.facts[paths.CERTIFICATE_PDF].sha256
        vouched = interop.certificate_statement(page, facts.release_joint.sha256)
        found |= {interop.certificate_path(actor.id): (actor.spki, vouched) for actor in registrars}
    found |= {interop.layout_path(a.id): (a.spki, layout) for a in registrars}
    found[interop.link_path(interop.BUILD_STEP, operator)] = (operator, interop.build_link(subjects))
    found[paths.MODEL_SIGNATURE] = (operator, interop.model_statement(subjects))
    return found
