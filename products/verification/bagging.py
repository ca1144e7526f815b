"""Step 5: the files are those of the release statement, and nothing outside ``data/`` is free.

Manifests, tag files and certificate are made again from what is signed and compared byte by
byte. The tag manifest covers every file outside ``data/``.
"""

import hashlib
from collections.abc import Iterator

from products import certificate
from products.certificate import CertificateFacts, LogPlace
from products.package import bag, paths
from products.verification.checks import CheckList
from products.verification.facts import Facts
from products.verification.rules import grant_of


def check_tagmanifest(facts_files: dict[str, bag.FileFacts], content: dict[str, bytes], checks: CheckList) -> None:
    """Check the tag manifest, also where there is no release statement to be believed."""
    tags = {p: f.sha256 for p, f in facts_files.items() if not p.startswith(paths.DATA) and p != paths.TAGMANIFEST}
    actual = content.get(paths.TAGMANIFEST, b"")
    if actual == bag.manifest(tags):
        checks.passed("bag.tagmanifest", f"{len(tags)} tag files")
    else:
        checks.failed("bag.tagmanifest", list(_manifest_problems(actual, tags)))


def _manifest_problems(actual: bytes, digests: dict[str, str]) -> Iterator[str]:
    lines = actual.decode("utf-8", "replace").splitlines()
    listed = {line[66:]: line[:64] for line in lines if line[64:66] == "  "}
    found = False
    for path in sorted(set(listed) | set(digests)):
        if listed.get(path) != digests.get(path):
            found = True
            state = "is not listed" if path not in listed else "is missing" if path not in digests else "was altered"
            yield f"{path} {state}"
    if not found:
        yield "expected the one spelling of the manifest: sorted lines of digest, two spaces, path"


def check_bag(facts: Facts, checks: CheckList) -> None:
    """Compare payload, manifests, tag files and certificate with the release statement."""
    payload = facts.files.payload
    subjects = facts.release_joint.statement.subjects
    checks.found(
        "release.files",
        list(_file_problems(subjects, {path: item.sha256 for path, item in payload.items()})),
        f"{len(payload)} files",
    )
    expected = bag.tag_files(facts.release, payload)
    actual = {
        "sha256_manifest_sha256": hashlib.sha256(expected[paths.MANIFEST_SHA256]).hexdigest(),
        "sm3_manifest_sha256": hashlib.sha256(expected[paths.MANIFEST_SM3]).hexdigest(),
    }
    stated = facts.release.manifest.model_dump()
    checks.found(
        "release.manifest",
        [f"{name}: not the manifest of these files" for name in actual if actual[name] != stated[name]],
        "SHA-256 and SM3",
    )
    wrong = [path for path, data in expected.items() if facts.files.content.get(path) != data]
    checks.found("bag.tags", [f"{path}: not the bytes that follow from the release" for path in wrong], "4 tag files")
    grant = grant_of(facts)
    if grant is not None:
        made = certificate_facts(facts)
        pages = {
            paths.CERTIFICATE_JSON: certificate.certificate_json(made),
            paths.CERTIFICATE_HTML: certificate.certificate_html(made),
        }
        wrong = [path for path, data in pages.items() if facts.files.content.get(path) != data]
        checks.found(
            "certificate.derived",
            [f"{path}: not the certificate that follows from the statements" for path in wrong],
            facts.release.registration.code,
        )


def _file_problems(subjects: dict[str, str], present: dict[str, str]) -> Iterator[str]:
    for path in sorted(set(subjects) | set(present)):
        if path not in present:
            yield f"{path} is missing"
        elif path not in subjects:
            yield f"{path} is not part of the release"
        elif subjects[path] != present[path]:
            yield f"{path} was altered"


def certificate_facts(facts: Facts) -> CertificateFacts:
    """Return what the certificate has to say.

    Raises:
        ValueError: the package holds no single grant; the caller has checked that.
    """
    grant = grant_of(facts)
    if grant is None:
        raise ValueError("expected one grant")
    places = [LogPlace(item.actor.id, item.origin, item.index) for item in facts.release_joint.signed]
    return CertificateFacts(facts.release, facts.release_joint.sha256, grant, list(facts.resources.values()), places)
