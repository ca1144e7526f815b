"""What a product of each form must hold, and what none may hold.

The verifier checks the files of ``data/`` against this: names first, then that the small
machine-readable ones parse. No product holds executable serialisation (pickle and its kin).
"""

import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from products.errors import MalformedError
from products.forms import Form

CONTENT_BYTES_MAX = 16 * 1024**2
"""A file whose content is checked is at most this long, in bytes."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One part that must be there.

    Attributes:
        title_zh, title_en: what it is, for people.
        patterns: any file that matches one of them will do.
    """

    title_zh: str
    title_en: str
    patterns: tuple[str, ...]


_METHOD = Requirement("方法说明", "method sheet", ("data/product/method.*", "data/metadata/method.*"))
_OPENAPI = Requirement("接口说明", "OpenAPI document", ("data/product/openapi.json",))
_CARD = Requirement("模型卡", "model card", ("data/metadata/model_card.*", "data/product/model_card.*"))

REQUIREMENTS: Mapping[Form, tuple[Requirement, ...]] = {
    "model": (
        Requirement(
            "ONNX 模型，或分方持有的模型清单",
            "ONNX model, or the list of a model's parts",
            ("data/product/model.onnx", "data/product/*/model.onnx", "data/product/parts.json"),
        ),
        _CARD,
    ),
    "verification": (_OPENAPI, _METHOD),
    "report": (
        Requirement("报告", "report", ("data/product/report.html", "data/product/report.pdf")),
        Requirement("表格(机器可读)", "tables, machine-readable", ("data/product/tables.json",)),
        Requirement("表格", "tables", ("data/product/tables.csv",)),
    ),
    "index": (
        Requirement("指数得分", "scores", ("data/product/index.csv",)),
        Requirement("敏感性分析", "sensitivity analysis", ("data/product/sensitivity.json",)),
        _METHOD,
    ),
    "dataset": (
        Requirement("数据文件", "data files", ("data/product/*.parquet", "data/product/*.csv")),
        Requirement("Croissant 元数据", "Croissant metadata", ("data/metadata/croissant.json",)),
    ),
    "interface": (_OPENAPI,),
    "service": (_OPENAPI, _METHOD),
    "component": (Requirement("组件包", "component", ("data/product/component.*",)), _METHOD),
    "tool": (Requirement("工具包", "tool", ("data/product/tool.*",)), _METHOD),
}
"""Parts by form."""

_EXECUTABLE = (
    ".pkl",
    ".pickle",
    ".joblib",
    ".dill",
    ".pt",
    ".pth",
    ".npy",
    ".npz",
    ".exe",
    ".dll",
    ".so",
    ".sh",
    ".py",
    ".pyc",
)
_JSON_NAMES = (
    "data/product/openapi.json",
    "data/product/tables.json",
    "data/product/sensitivity.json",
    "data/metadata/dcat.jsonld",
)


def missing(form: Form, paths: Iterable[str]) -> list[Requirement]:
    """Return the parts that a product of this form lacks."""
    names = list(paths)
    return [
        need
        for need in REQUIREMENTS[form]
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in need.patterns)
    ]


def forbidden(form: Form, paths: Iterable[str]) -> list[str]:
    """Return the files that no product may hold: executable serialisation and programs.

    A component or tool may hold programs; nothing may hold pickled objects.
    """
    banned = _EXECUTABLE[:9] if form in ("component", "tool") else _EXECUTABLE
    return sorted(path for path in paths if path.lower().endswith(banned))


def is_content_checked(path: str) -> bool:
    """Whether ``require_content`` wants to see this file."""
    return path in _JSON_NAMES


def require_content(path: str, content: bytes) -> None:
    """Check the content of a file for which ``is_content_checked`` holds.

    Raises:
        MalformedError: not JSON, or no OpenAPI document.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"expected JSON in {path}") from error
    if path.endswith("/openapi.json") and not (
        isinstance(value, dict)
        and str(value.get("openapi", "")).startswith("3.")
        and isinstance(value.get("paths"), dict)
    ):
        raise MalformedError(f"expected an OpenAPI 3 document with paths in {path}")
