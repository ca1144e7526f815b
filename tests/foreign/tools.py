"""Verifiers that others wrote, applied to one package; runs in an environment of its own.

    .venv-foreign/bin/python tests/foreign/tools.py PACKAGE

Prints one JSON object: per tool ``ok``, ``none`` (the package holds nothing for it), or what it
said. Nothing of ours is imported.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def envelopes(package):
    return sorted((package / "attestations").glob("*.dsse.json"))


def actors(package):
    (path,) = (package / "trust" / "targets").glob("*.actors.json")
    found = {}
    for actor in json.loads(path.read_bytes())["actors"]:
        der = base64.b64decode(actor["statement_spki"])
        found[hashlib.sha256(der).hexdigest()] = {"id": actor["id"], "roles": actor["roles"], "pem": pem(der)}
    return found


def pem(der):
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_der_public_key(der)
    return key.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo).decode()


def pae(envelope):
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def bagit_validate(package):
    import logging

    import bagit

    logging.disable(logging.CRITICAL)
    bagit.Bag(str(package)).validate()


def sha256sum(package):
    for name in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        run(["sha256sum", "--check", "--strict", "--quiet", name], package)


def openssl(package):
    keys = actors(package)
    with tempfile.TemporaryDirectory() as folder:
        for path in envelopes(package)[:6]:
            envelope = json.loads(path.read_bytes())
            signature = envelope["signatures"][0]
            (Path(folder) / "pae").write_bytes(pae(envelope))
            (Path(folder) / "sig").write_bytes(base64.b64decode(signature["sig"]))
            (Path(folder) / "pub.pem").write_text(keys[signature["keyid"]]["pem"])
            run(["openssl", "dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "pae"], folder)


def securesystemslib_dsse(package):
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    keys = actors(package)
    for path in envelopes(package):
        envelope = Envelope.from_dict(json.loads(path.read_bytes()))
        (keyid,) = envelope.signatures
        key = SSlibKey(keyid, "ecdsa", "ecdsa-sha2-nistp256", {"public": keys[keyid]["pem"]})
        assert len(envelope.verify([key], 1)) == 1


def in_toto_attestation(package):
    from google.protobuf.json_format import Parse
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    for path in envelopes(package):
        message = Parse(base64.b64decode(json.loads(path.read_bytes())["payload"]), Message())
        Statement.copy_from_pb(message).validate()


def in_toto_verify(package):
    folder = package / "interop" / "in-toto"
    if not folder.is_dir():
        return "none"
    keys = {value["id"]: value["pem"] for value in actors(package).values()}
    layouts = sorted(folder.glob("root.*.layout"))
    assert len(layouts) >= 2, "expected a layout of each registrar"
    for layout in layouts:
        with tempfile.TemporaryDirectory() as work:
            copy = Path(work) / "package"
            shutil.copytree(package, copy)
            key = Path(work) / "registrar.pem"
            key.write_text(keys[layout.name.split(".", 1)[1].removesuffix(".layout")])
            inside = f"interop/in-toto/{layout.name}"
            verify = [BIN / "in-toto-verify", "--layout", inside, "--verification-keys", key]
            run([*verify, "--link-dir", "interop/in-toto"], copy)
            # The same layout refuses an altered file: the tool does look.
            victim = next(path for path in sorted((copy / "data" / "product").rglob("*")) if path.is_file())
            victim.write_bytes(victim.read_bytes() + b" ")
            (copy / "package.link").unlink(missing_ok=True)
            try:
                run([*verify, "--link-dir", "interop/in-toto"], copy)
            except RuntimeError:
                continue
            raise AssertionError("in-toto-verify accepted an altered file")
    return None


def python_tuf(package):
    from tuf.ngclient import FetcherInterface, Updater

    class Folder(FetcherInterface):
        def _fetch(self, url):
            from tuf.api.exceptions import DownloadHTTPError

            path = package / "trust" / url.removeprefix("folder:///")
            if not path.is_file():
                raise DownloadHTTPError("not found", 404)
            yield path.read_bytes()

    with tempfile.TemporaryDirectory() as folder:
        updater = Updater(
            metadata_dir=folder,
            metadata_base_url="folder:///metadata/",
            target_dir=folder,
            target_base_url="folder:///targets/",
            fetcher=Folder(),
            bootstrap=(package / "trust" / "metadata" / "1.root.json").read_bytes(),
        )
        # A package is judged at the time of its release; python-tuf has no public name for that.
        updater._trusted_set.reference_time = released_at(package)
        updater.refresh()
        for name in ("actors.json", "status.json", "release-policy.json", "tlog-policy.txt"):
            info = updater.get_targetinfo(name)
            updater.download_target(info)


def released_at(package):
    release = next(path for path in envelopes(package) if path.name.startswith("release."))
    payload = json.loads(base64.b64decode(json.loads(release.read_bytes())["payload"]))
    return datetime.fromisoformat(payload["predicate"]["released_at"]).astimezone(UTC)


def cyclonedx(package):
    path = package / "data" / "metadata" / "mlbom.cdx.json"
    if not path.is_file():
        return "none"
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text())
    return None if error is None else str(error)[:500]


def pyshacl_dcat(package):
    import pyshacl
    import rdflib

    graph = rdflib.Graph().parse(package / "data" / "metadata" / "dcat.jsonld", format="json-ld")
    ok, _, text = pyshacl.validate(graph, shacl_graph=rdflib.Graph().parse(HERE / "dcat-shapes.ttl"), advanced=True)
    return None if ok else text[:800]


def prov(package):
    import prov.model
    import rdflib

    document = prov.model.ProvDocument.deserialize(package / "data" / "metadata" / "prov.json")
    entities = {str(record.identifier.uri) for record in document.get_records(prov.model.ProvEntity)}
    graph = rdflib.Graph().parse(package / "data" / "metadata" / "prov.ttl")
    kind = rdflib.URIRef("http://www.w3.org/ns/prov#Entity")
    assert entities == {str(item) for item in graph.subjects(rdflib.RDF.type, kind)}


def rocrate(package):
    from rocrate.rocrate import ROCrate

    crate = ROCrate(str(package / "data"))
    listed = {item.id for item in crate.data_entities if item.type == "File"}
    present = {
        path.relative_to(package / "data").as_posix() for path in (package / "data").rglob("*") if path.is_file()
    }
    assert listed == present - {"ro-crate-metadata.json"}, listed ^ present


def croissant(package):
    path = package / "data" / "metadata" / "croissant.json"
    if not path.is_file():
        return "none"
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(path))
    assert not dataset.metadata.ctx.issues.errors, dataset.metadata.ctx.issues.report()
    return None


def model_signing(package):
    signature = package / "interop" / "model.sig"
    if not signature.is_file():
        return "none"
    (operator,) = [value["pem"] for value in actors(package).values() if "operator" in value["roles"]]
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "operator.pem"
        key.write_text(operator)
        command = [BIN / "model_signing", "verify", "key", "--signature", signature, "--public_key", key]
        run([*command, package / "data" / "product"], folder)
    return None


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} {done.returncode}: {(done.stdout + done.stderr)[-800:]}")


TOOLS = {
    "bagit": bagit_validate,
    "sha256sum": sha256sum,
    "openssl": openssl,
    "securesystemslib": securesystemslib_dsse,
    "in-toto-attestation": in_toto_attestation,
    "in-toto-verify": in_toto_verify,
    "python-tuf": python_tuf,
    "cyclonedx": cyclonedx,
    "pyshacl": pyshacl_dcat,
    "prov": prov,
    "rocrate": rocrate,
    "mlcroissant": croissant,
    "model_signing": model_signing,
}


def main():
    package, found = Path(sys.argv[1]).resolve(), {}
    for name, tool in TOOLS.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        try:
            found[name] = tool(package) or "ok"
        except Exception as error:  # noqa: BLE001  every tool fails in its own way; the answer is the text
            found[name] = f"{type(error).__name__}: {error}"[:900]
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
