"""The payload of a package: the product's files and the metadata derived from its description.

The payload is fixed before anybody signs: reviewers and registrars sign its subjects, and the
writer adds nothing to it later. Equal input gives equal bytes.

Source:
    RO-Crate 1.1 and Process Run Crate 0.5; W3C DCAT 3; W3C PROV-JSON.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from products import kinds
from products.errors import IncompleteError, MalformedError
from products.fields import time_text
from products.forms import FORM_TITLES, Form
from products.package import exports, paths
from products.package.bag import FileFacts, chunks_of, facts_of, manifest

DCAT = paths.METADATA + "dcat.jsonld"
_MEDIA_TYPES = {
    ".onnx": "application/octet-stream",
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".html": "text/html",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".parquet": "application/vnd.apache.parquet",
    ".txt": "text/plain",
    ".ttl": "text/turtle",
}


@dataclass(frozen=True, slots=True)
class Source:
    """One resource that the product was made from.

    Attributes:
        id, version: catalogue entry.
        name_zh, name_en: its names.
        holder: actor id of the department's node.
        registration: code of the resource's registration.
    """

    id: str
    version: int
    name_zh: str
    name_en: str
    holder: str
    registration: str


@dataclass(frozen=True, slots=True)
class ProductDescription:
    """What the metadata of a product says.

    Attributes:
        id, version, form: which product.
        name_zh, name_en, summary_zh, summary_en: for people.
        operator, operator_name: actor id and name of the operator.
        scenario, scenario_title, purpose, grant: what it may be used for, under which grant.
        pipeline: name of the pipeline that made it.
        sources: resources it was made from.
        sessions: sessions of the run.
        started_at, finished_at: the run.
        licence: under which terms it is given out.
    """

    id: str
    version: str
    form: Form
    name_zh: str
    name_en: str
    summary_zh: str
    summary_en: str
    operator: str
    operator_name: str
    scenario: str
    scenario_title: str
    purpose: str
    grant: str
    pipeline: str
    sources: Sequence[Source]
    sessions: Sequence[str]
    started_at: datetime
    finished_at: datetime
    licence: str


@dataclass(frozen=True, slots=True)
class Payload:
    """All files below ``data/`` with their digests.

    Attributes:
        contents: bytes, or the file that holds them, by path in the package.
        facts: size and digests by the same path.
    """

    contents: Mapping[str, bytes | Path]
    facts: Mapping[str, FileFacts]

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """(path, SHA-256 hex) of every file: subjects of the reviews and of the release."""
        return [(path, self.facts[path].sha256) for path in sorted(self.facts)]

    @property
    def product_subjects(self) -> list[tuple[str, str]]:
        """(path, SHA-256 hex) of ``data/product/``: subjects of build and privacy statements."""
        return [(path, digest) for path, digest in self.subjects if path.startswith(paths.PRODUCT)]

    @property
    def manifest_digests(self) -> dict[str, str]:
        """The field ``manifest`` of the release statement."""
        first = manifest({path: facts.sha256 for path, facts in self.facts.items()})
        second = manifest({path: facts.sm3 for path, facts in self.facts.items()})
        return {
            "sha256_manifest_sha256": hashlib.sha256(first).hexdigest(),
            "sm3_manifest_sha256": hashlib.sha256(second).hexdigest(),
        }


def build_payload(
    description: ProductDescription,
    *,
    product_files: Mapping[str, bytes | Path],
    metadata_files: Mapping[str, bytes | Path],
) -> Payload:
    """Put product files and metadata together, deterministically.

    Args:
        description: what the metadata says.
        product_files: the deliverable, by path below ``data/product/``.
        metadata_files: further documents (model card, method sheet, pre-release report, test
            findings), by path below ``data/metadata/``.

    Raises:
        IncompleteError: a part that this form needs is missing, or one that none may hold.
        MalformedError: a path that is not plain.
    """
    contents: dict[str, bytes | Path] = {paths.PRODUCT + name: item for name, item in product_files.items()}
    contents |= {paths.METADATA + name: item for name, item in metadata_files.items()}
    for path in contents:
        paths.require_path(path)
    if description.form == "dataset" and exports.CROISSANT not in contents:
        product = {path: facts_of(chunks_of(item), sm3=False) for path, item in contents.items()}
        contents[exports.CROISSANT] = exports.croissant(description, dict(contents), product)
    lacking = [need.title_en for need in kinds.missing(description.form, contents)]
    banned = kinds.forbidden(description.form, contents)
    if lacking or banned:
        raise IncompleteError(
            f"a {description.form} product lacks: {', '.join(lacking) or '-'};"
            f" must not hold: {', '.join(banned) or '-'}"
        )
    facts = {path: facts_of(chunks_of(item), sm3=True) for path, item in contents.items()}
    derived = derived_metadata(description, facts)
    facts |= {path: facts_of([data], sm3=True) for path, data in derived.items()}
    return Payload({**contents, **derived}, facts)


def derived_metadata(description: ProductDescription, facts: Mapping[str, FileFacts]) -> dict[str, bytes]:
    """Return the files of metadata that follow from a description and from the other files of ``data/``.

    Args:
        description: what the metadata says.
        facts: every other file of ``data/``.

    Raises:
        MalformedError: the run has no session.
    """
    if not description.sessions:
        raise MalformedError("expected at least one session of the run")
    # One order, so that whoever makes the files again from the statements gets the same bytes.
    sources = sorted(description.sources, key=lambda source: (source.id, source.version))
    description = replace(description, sources=sources, sessions=sorted(description.sessions))
    derived: dict[str, bytes] = {
        DCAT: _pretty(_dcat(description, facts)),
        paths.METADATA + "prov.json": _pretty(_prov(description, facts)),
        exports.PROV_TURTLE: exports.prov_turtle(description, facts),
    }
    if description.form == "model":
        derived[exports.MLBOM] = exports.ml_bom(description, facts)
    every = {**facts, **{path: facts_of([data], sm3=True) for path, data in derived.items()}}
    derived[paths.CRATE] = _pretty(_crate(description, every))
    return derived


def _pretty(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def _media_type(path: str) -> str:
    return _MEDIA_TYPES.get(PurePosixPath(path).suffix.lower(), "application/octet-stream")


def _crate(description: ProductDescription, facts: Mapping[str, FileFacts]) -> dict[str, Any]:
    names = {path: path.removeprefix(paths.DATA) for path in sorted(facts)}
    action, operator = f"urn:shufang:run:{description.sessions[0]}", f"urn:shufang:actor:{description.operator}"
    pipeline = f"urn:shufang:pipeline:{description.pipeline}"
    products = [{"@id": name} for path, name in names.items() if path.startswith(paths.PRODUCT)]
    graph: list[dict[str, Any]] = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "conformsTo": {"@id": "https://w3id.org/ro/wfrun/process/0.5"},
            "identifier": exports.product_urn(description),
            "name": f"{description.name_zh} / {description.name_en}",
            "description": f"{description.summary_zh} / {description.summary_en}",
            "version": description.version,
            "datePublished": time_text(description.finished_at),
            "license": {"@id": "#licence"},
            "publisher": {"@id": operator},
            "hasPart": [{"@id": name} for name in names.values()],
            "mentions": {"@id": action},
        },
        {"@id": "#licence", "@type": "CreativeWork", "name": description.licence, "description": description.licence},
        {"@id": operator, "@type": "Organization", "name": description.operator_name},
        {"@id": pipeline, "@type": "SoftwareApplication", "name": description.pipeline, "version": "1"},
        {
            "@id": action,
            "@type": "CreateAction",
            "name": f"{description.scenario_title} ({description.purpose})",
            "agent": {"@id": operator},
            "instrument": {"@id": pipeline},
            "object": [{"@id": exports.source_urn(source)} for source in description.sources],
            "result": products,
            "startTime": time_text(description.started_at),
            "endTime": time_text(description.finished_at),
        },
    ]
    graph += [
        {
            "@id": exports.source_urn(source),
            "@type": "Dataset",
            "name": f"{source.name_zh} / {source.name_en}",
            "identifier": source.registration,
            "version": str(source.version),
        }
        for source in description.sources
    ]
    graph += [
        {
            "@id": name,
            "@type": "File",
            "name": PurePosixPath(name).name,
            "contentSize": str(facts[path].size),
            "encodingFormat": _media_type(path),
            "sha256": facts[path].sha256,
        }
        for path, name in names.items()
    ]
    return {
        "@context": [
            "https://w3id.org/ro/crate/1.1/context",
            {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"},
        ],
        "@graph": graph,
    }


def _dcat(description: ProductDescription, facts: Mapping[str, FileFacts]) -> dict[str, Any]:
    form_zh, form_en = FORM_TITLES[description.form]
    return {
        "@context": {
            "dcat": "http://www.w3.org/ns/dcat#",
            "dcterms": "http://purl.org/dc/terms/",
            "odrl": "http://www.w3.org/ns/odrl/2/",
            "prov": "http://www.w3.org/ns/prov#",
            "spdx": "http://spdx.org/rdf/terms#",
            "xsd": "http://www.w3.org/2001/XMLSchema#",
        },
        "@id": exports.product_urn(description),
        "@type": "dcat:DataService" if description.form in ("verification", "interface", "service") else "dcat:Dataset",
        "dcterms:title": _text(description.name_zh, description.name_en),
        "dcterms:description": _text(description.summary_zh, description.summary_en),
        "dcterms:type": _text(form_zh, form_en),
        "dcterms:identifier": f"{description.id}@{description.version}",
        "dcat:version": description.version,
        "dcterms:issued": {"@type": "xsd:dateTime", "@value": time_text(description.finished_at)},
        "dcterms:publisher": {
            "@id": f"urn:shufang:actor:{description.operator}",
            "dcterms:title": description.operator_name,
        },
        "dcterms:license": description.licence,
        "prov:wasDerivedFrom": [{"@id": exports.source_urn(source)} for source in description.sources],
        "odrl:hasPolicy": {
            "@type": "odrl:Agreement",
            "odrl:uid": f"urn:shufang:grant:{description.grant}",
            "odrl:permission": {
                "odrl:action": {"@id": "odrl:use"},
                "odrl:target": {"@id": exports.product_urn(description)},
                "odrl:constraint": {
                    "odrl:leftOperand": {"@id": "odrl:purpose"},
                    "odrl:operator": {"@id": "odrl:eq"},
                    "odrl:rightOperand": description.purpose,
                },
            },
        },
        "dcat:distribution": [
            {
                "@type": "dcat:Distribution",
                "dcterms:title": path.removeprefix(paths.PRODUCT),
                "dcat:downloadURL": "../" + path.removeprefix(paths.DATA),
                "dcat:mediaType": _media_type(path),
                "dcat:byteSize": facts[path].size,
                "spdx:checksum": {"spdx:algorithm": "sha256", "spdx:checksumValue": facts[path].sha256},
            }
            for path in sorted(facts)
            if path.startswith(paths.PRODUCT)
        ],
    }


def _text(zh: str, en: str) -> list[dict[str, str]]:
    return [{"@language": "zh", "@value": zh}, {"@language": "en", "@value": en}]


def _prov(description: ProductDescription, facts: Mapping[str, FileFacts]) -> dict[str, Any]:
    run, operator = f"sf:run/{description.sessions[0]}", f"sf:actor/{description.operator}"
    sources = {f"sf:resource/{source.id}/{source.version}": source for source in description.sources}
    outputs = [path for path in sorted(facts) if path.startswith(paths.PRODUCT)]
    return {
        "prefix": {"sf": "urn:shufang:"},
        "entity": {
            **{name: {"prov:label": source.name_zh} for name, source in sources.items()},
            **{f"sf:{path}": {"sf:sha256": facts[path].sha256} for path in outputs},
        },
        "activity": {
            run: {
                "prov:startTime": time_text(description.started_at),
                "prov:endTime": time_text(description.finished_at),
                "sf:pipeline": description.pipeline,
                "sf:grant": description.grant,
            }
        },
        "agent": {
            operator: {"prov:type": "prov:Organization", "prov:label": description.operator_name},
            **{f"sf:actor/{source.holder}": {"prov:type": "prov:Organization"} for source in description.sources},
        },
        "used": {
            f"_:u{i}": {"prov:activity": run, "prov:entity": name} for i, name in enumerate(sorted(sources), start=1)
        },
        "wasGeneratedBy": {
            f"_:g{i}": {"prov:entity": f"sf:{path}", "prov:activity": run} for i, path in enumerate(outputs, start=1)
        },
        "wasAssociatedWith": {"_:a1": {"prov:activity": run, "prov:agent": operator}},
        "wasAttributedTo": {
            f"_:t{i}": {"prov:entity": name, "prov:agent": f"sf:actor/{sources[name].holder}"}
            for i, name in enumerate(sorted(sources), start=1)
        },
        "wasDerivedFrom": {
            f"_:d{i}": {"prov:generatedEntity": f"sf:{path}", "prov:usedEntity": name}
            for i, (path, name) in enumerate(((p, n) for p in outputs for n in sorted(sources)), start=1)
        },
    }
