"""What command groups share: one way to print, for people or as JSON."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer


def show(value: object, *, as_json: bool, text: str = "") -> None:
    """Print ``value`` as JSON, or ``text`` (or one line per field) for people."""
    plain = _plain(value)
    if as_json:
        typer.echo(json.dumps(plain, ensure_ascii=False, sort_keys=True))
    elif text:
        typer.echo(text)
    elif isinstance(plain, dict):
        for name, item in plain.items():
            typer.echo(f"{name}: {_inline(item)}")
    elif isinstance(plain, list):
        for item in plain:
            typer.echo(_inline(item))
    else:
        typer.echo(str(plain))


def _plain(value: object) -> Any:  # JSON values
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str | int | bool | None):
        return value
    if isinstance(value, Sequence | set | frozenset):
        return [_plain(item) for item in value]
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value)


def _inline(item: object) -> str:
    if isinstance(item, list):
        return ", ".join(_inline(part) for part in item) or "-"
    if isinstance(item, dict):
        return "  ".join(f"{key}={_inline(part)}" for key, part in item.items())
    return str(item)
