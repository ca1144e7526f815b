"""The registration certificate 登记凭证 of a release, as JSON and as one page of HTML.

Derived from the signed statements alone: the verifier makes it again and compares bytes, so a
certificate that says anything else than the statements is found. Format 1 of the page stays
as it is; a change is format 2.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from products import canonical
from products.fields import time_text
from products.forms import FORM_TITLES
from products.statements import Grant, Release, Resource


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where one signature on the release stands in the log."""

    signer: str
    origin: str
    index: int


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """All that a certificate is made from.

    Attributes:
        release: the release statement.
        release_sha256: digest of its payload.
        grant: the grant it rests on.
        resources: the resource statements it rests on.
        places: where the signatures on the release stand in the log.
    """

    release: Release
    release_sha256: str
    grant: Grant
    resources: Sequence[Resource]
    places: Sequence[LogPlace]


def certificate_json(facts: CertificateFacts) -> bytes:
    """Return the certificate as canonical JSON."""
    release = facts.release
    return canonical.dumps(
        {
            "format": 1,
            "registration": {
                "code": release.registration.code,
                "valid_until": time_text(release.registration.valid_until),
            },
            "product": {
                "id": release.product.id,
                "version": release.product.version,
                "form": release.product.form,
                "name_zh": release.product.name_zh,
                "name_en": release.product.name_en,
            },
            "release": {"sha256": facts.release_sha256, "released_at": time_text(release.released_at)},
            "operator": facts.grant.operator,
            "scenario": {
                "id": facts.grant.scenario,
                "title": facts.grant.scenario_title,
                "purpose": facts.grant.purpose,
            },
            "grant": {"id": facts.grant.grant_id, "sha256": release.grant.sha256},
            "sources": [
                {
                    "resource": f"{item.resource.id}@{item.resource.version}",
                    "holder": item.resource.holder,
                    "platform": item.registration.platform,
                    "registration": item.registration.code,
                }
                for item in sorted(facts.resources, key=lambda item: (item.resource.id, item.resource.version))
            ],
            "evidence": [
                {"signer": place.signer, "log": place.origin, "index": place.index}
                for place in sorted(facts.places, key=lambda place: (place.origin, place.index))
            ],
        }
    )


def certificate_html(facts: CertificateFacts) -> bytes:
    """Return the certificate as one page, Chinese first; no script, no outside resource."""
    release, product = facts.release, facts.release.product
    form_zh, form_en = FORM_TITLES[product.form]
    rows = [
        ("登记编码", "Registration code", release.registration.code),
        ("产品名称", "Product", f"{product.name_zh} / {product.name_en}"),
        ("产品标识与版本", "Identifier and version", f"{product.id} @ {product.version}"),
        ("产品形态", "Form", f"{form_zh} / {form_en}"),
        ("登记主体", "Registrant", facts.grant.operator),
        ("应用场景", "Scenario", f"{facts.grant.scenario_title} ({facts.grant.purpose})"),
        ("授权", "Grant", facts.grant.grant_id),
        ("发布时间", "Released at", time_text(release.released_at)),
        ("有效期至", "Valid until", time_text(release.registration.valid_until)),
        ("发布声明摘要 SHA-256", "Digest of the release statement", facts.release_sha256),
    ]
    rows += [
        (
            "来源资源及其登记",
            "Source and its registration",
            f"{item.resource.id}@{item.resource.version} · {item.registration.platform} · {item.registration.code}",
        )
        for item in sorted(facts.resources, key=lambda item: (item.resource.id, item.resource.version))
    ]
    rows += [
        ("存证", "Evidence in the log", f"{place.signer} · {place.origin} · {place.index}")
        for place in sorted(facts.places, key=lambda place: (place.origin, place.index))
    ]
    body = "\n".join(
        f"<tr><th>{html.escape(zh)}<br><small>{html.escape(en)}</small></th><td>{html.escape(value)}</td></tr>"
        for zh, en, value in rows
    )
    return _PAGE.replace("@ROWS@", body).encode()


_PAGE = """<!DOCTYPE html>
<html lang="zh">
<head>
<meta charset="utf-8">
<title>公共数据产品登记凭证 Registration certificate</title>
<style>
body { font-family: "Noto Sans CJK SC", "Source Han Sans SC", sans-serif;
  max-width: 46em; margin: 2em auto; color: #1b1b1b; }
h1 { text-align: center; font-size: 1.6em; }
h1 small { display: block; font-size: 0.6em; font-weight: normal; }
table { border-collapse: collapse; width: 100%; }
th, td { border: 1px solid #999; padding: 0.5em 0.7em; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { width: 30%; background: #f3f5f7; font-weight: normal; }
</style>
</head>
<body>
<h1>公共数据产品登记凭证<small>Registration certificate of a public-data product</small></h1>
<table>
@ROWS@
</table>
<p>本凭证由签名声明生成,以 <code>shufang verify</code> 离线核验为准。<br>
This page is derived from signed statements; <code>shufang verify</code> checks it offline.</p>
</body>
</html>
"""
