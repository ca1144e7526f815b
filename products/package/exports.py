"""Derived descriptions for tools of others: ML-BOM of models, Croissant of data sets, PROV as Turtle.

Pure and deterministic: equal input gives equal bytes. They are part of the payload, so
reviewers and registrars sign them.

Source:
    CycloneDX 1.6 (ECMA-424), machine-learning BOM; MLCommons Croissant 1.0; W3C PROV-O.
"""

import csv
import json
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from products.fields import time_text
from products.package import paths
from products.package.bag import FileFacts

if TYPE_CHECKING:
    from products.package.payload import ProductDescription, Source

CROISSANT = paths.METADATA + "croissant.json"
MLBOM = paths.METADATA + "mlbom.cdx.json"
PROV_TURTLE = paths.METADATA + "prov.ttl"
_HEADER_BYTES_MAX = 64 * 1024


def ml_bom(description: "ProductDescription", facts: Mapping[str, FileFacts]) -> bytes:
    """Return the bill of materials of a model: its files, its sources, what it may be used for."""
    urn = product_urn(description)
    files = [path for path in sorted(facts) if path.startswith(paths.PRODUCT)]
    datasets = [source_urn(source) for source in description.sources]
    components: list[dict[str, Any]] = [
        {
            "type": "file",
            "bom-ref": path,
            "name": path.removeprefix(paths.PRODUCT),
            "hashes": [{"alg": "SHA-256", "content": facts[path].sha256}],
        }
        for path in files
    ]
    components += [
        {
            "type": "data",
            "bom-ref": source_urn(source),
            "name": f"{source.name_zh} / {source.name_en}",
            "version": str(source.version),
            "data": [
                {
                    "type": "dataset",
                    "name": source.id,
                    "governance": {"custodians": [{"organization": {"name": source.holder}}]},
                }
            ],
            "properties": [{"name": "shufang:registration", "value": source.registration}],
        }
        for source in description.sources
    ]
    model = {
        "type": "machine-learning-model",
        "bom-ref": urn,
        "name": f"{description.name_zh} / {description.name_en}",
        "version": description.version,
        "description": f"{description.summary_zh} / {description.summary_en}",
        "supplier": {"name": description.operator_name},
        "licenses": [{"license": {"name": description.licence}}],
        "modelCard": {
            "bom-ref": f"{urn}#card",
            "modelParameters": {"datasets": [{"ref": ref} for ref in datasets]},
            "considerations": {"useCases": [f"{description.scenario_title} ({description.purpose})"]},
        },
    }
    return _pretty(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, urn)}",
            "version": 1,
            "metadata": {"timestamp": time_text(description.finished_at), "component": model},
            "components": components,
            "dependencies": [
                {"ref": urn, "dependsOn": sorted([*files, *datasets])},
                *[{"ref": ref} for ref in sorted([*files, *datasets])],
            ],
        }
    )


def croissant(
    description: "ProductDescription", contents: Mapping[str, bytes | Path], facts: Mapping[str, FileFacts]
) -> bytes:
    """Return the Croissant description of a data set: its files, and the columns of its CSV tables."""
    tables = [path for path in sorted(contents) if path.startswith(paths.PRODUCT)]
    record_sets = []
    for path in tables:
        if not path.endswith(".csv"):
            continue
        name = PurePosixPath(path).stem
        record_sets.append(
            {
                "@type": "cr:RecordSet",
                "@id": name,
                "name": name,
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"{name}/{column}",
                        "name": column,
                        "dataType": "sc:Text",
                        "source": {"fileObject": {"@id": _name(path)}, "extract": {"column": column}},
                    }
                    for column in _columns(contents[path])
                ],
            }
        )
    return _pretty(
        {
            "@context": _CROISSANT_CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.0",
            "name": description.id,
            "description": f"{description.summary_zh} / {description.summary_en}",
            "version": description.version,
            "license": description.licence,
            "url": product_urn(description),
            "citeAs": f"{description.operator_name}: {description.name_zh} {description.version}",
            "datePublished": time_text(description.finished_at)[:10],
            "creator": {"@type": "sc:Organization", "name": description.operator_name},
            "distribution": [
                {
                    "@type": "cr:FileObject",
                    "@id": _name(path),
                    "name": _name(path),
                    "contentUrl": f"../product/{_name(path)}",
                    "contentSize": f"{facts[path].size} B",
                    "encodingFormat": "text/csv" if path.endswith(".csv") else "application/octet-stream",
                    "sha256": facts[path].sha256,
                }
                for path in tables
            ],
            "recordSet": record_sets,
        }
    )


def prov_turtle(description: "ProductDescription", facts: Mapping[str, FileFacts]) -> bytes:
    """Return the same provenance as ``prov.json`` in PROV-O, as Turtle."""
    run, operator = _iri(f"run/{description.sessions[0]}"), _iri(f"actor/{description.operator}")
    sources = sorted(description.sources, key=lambda item: (item.id, item.version))
    lines = [
        "@prefix prov: <http://www.w3.org/ns/prov#> .",
        "@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .",
        "@prefix sf: <urn:shufang:> .",
        "@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .",
        "",
        f"{operator} a prov:Agent, prov:Organization ; rdfs:label {_literal(description.operator_name)} .",
    ]
    lines += [
        f"{_iri(f'actor/{name}')} a prov:Agent, prov:Organization ." for name in sorted({s.holder for s in sources})
    ]
    lines.append(
        f"{run} a prov:Activity ; prov:startedAtTime {_time(time_text(description.started_at))} ;"
        f" prov:endedAtTime {_time(time_text(description.finished_at))} ; prov:wasAssociatedWith {operator} ;"
        f" sf:pipeline {_literal(description.pipeline)} ; sf:grant {_literal(description.grant)} ."
    )
    for source in sources:
        entity = _iri(f"resource/{source.id}/{source.version}")
        lines.append(
            f"{entity} a prov:Entity ; rdfs:label {_literal(source.name_zh)} ;"
            f" prov:wasAttributedTo {_iri(f'actor/{source.holder}')} ."
        )
        lines.append(f"{run} prov:used {entity} .")
    for path in sorted(facts):
        if path.startswith(paths.PRODUCT):
            derived = "".join(
                f" ; prov:wasDerivedFrom {_iri(f'resource/{source.id}/{source.version}')}" for source in sources
            )
            lines.append(
                f"{_iri(path)} a prov:Entity ; prov:wasGeneratedBy {run} ;"
                f" sf:sha256 {_literal(facts[path].sha256)}{derived} ."
            )
    return ("\n".join(lines) + "\n").encode()


def product_urn(description: "ProductDescription") -> str:
    """Return the name of a product version."""
    return f"urn:shufang:product:{description.id}:{description.version}"


def source_urn(source: "Source") -> str:
    """Return the name of a resource version."""
    return f"urn:shufang:resource:{source.id}:{source.version}"


def _name(path: str) -> str:
    return path.removeprefix(paths.PRODUCT)


def _columns(content: bytes | Path) -> list[str]:
    if isinstance(content, bytes):
        head = content[:_HEADER_BYTES_MAX]
    else:
        with content.open("rb") as stream:
            head = stream.read(_HEADER_BYTES_MAX)
    first = head.decode("utf-8-sig").splitlines()[:1]
    return next(csv.reader(first), []) if first else []


def _iri(name: str) -> str:
    # Every character that Turtle's IRIREF does not allow is written as an escape.
    return "<urn:shufang:" + "".join(c if c not in '<>"{}|^`\\' and c > " " else f"\\u{ord(c):04X}" for c in name) + ">"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _time(text: str) -> str:
    return f'"{text}"^^xsd:dateTime'


def _pretty(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


_CROISSANT_CONTEXT = {
    "@language": "zh",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
