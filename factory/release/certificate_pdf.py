"""The page of the registration certificate 登记凭证 as PDF, with a QR code of the release's digest.

Needs the extra ``reports`` (typst, segno and a font wheel); without it no page is made and a
release is as valid. Fonts come from the wheel alone and no clock is read, so two registrars
on two machines get the same bytes, which is what they sign.
"""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

from products.certificate import CertificateFacts, certificate_json
from products.forms import FORM_TITLES

_NEEDS = ("typst", "segno", "manimgx_fonts_cjk")


def is_available() -> bool:
    """Whether the extra ``reports`` is installed."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDS)


def qr_text(release_sha256: str) -> str:
    """Return what the QR code says: the name of the release, as a URI."""
    return f"urn:shufang:release:sha256:{release_sha256}"


def render(facts: CertificateFacts, names: Mapping[str, str] | None = None) -> bytes:
    """Return the page.

    Args:
        facts: from signed statements; places in the log are not printed, since registrars sign before them.
        names: Chinese name by actor id, from the agency's list.
    """
    import segno
    import typst

    matrix = [list(row) for row in segno.make(qr_text(facts.release_sha256), error="m", micro=False).matrix]
    value = json.loads(certificate_json(facts))
    form_zh, form_en = FORM_TITLES[facts.release.product.form]
    parties = {facts.grant.operator, *(item.resource.holder for item in facts.resources)}
    value |= {"names": {party: names[party] for party in sorted(parties) if names and party in names}}
    value |= {"form": f"{form_zh} {form_en}", "qr": ["".join(str(int(cell)) for cell in row) for row in matrix]}
    return bytes(
        typst.compile(
            str(Path(__file__).with_name("certificate.typ")),
            format="pdf",
            font_paths=[str(_fonts())],
            ignore_system_fonts=True,
            sys_inputs={"facts": json.dumps(value, ensure_ascii=False, sort_keys=True)},
            timestamp=int(facts.release.released_at.timestamp()),
        )
    )


def _fonts() -> Path:
    spec = importlib.util.find_spec("manimgx_fonts_cjk")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("expected the font wheel of the extra `reports`")
    return Path(next(iter(spec.submodule_search_locations)))
