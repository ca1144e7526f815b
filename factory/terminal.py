"""What command groups share: one way to print, to name an outside error, and to be interrupted."""

import dataclasses
import errno
import json
import os
import signal
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

import typer

from factory.errors import ConnectionFailedError, FactoryError, FileMissingError, InputError, StorageError

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


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
    elif plain == []:
        typer.echo("无 none")
    elif isinstance(plain, list):
        for item in plain:
            typer.echo(_inline(item))
    else:
        typer.echo(str(plain))


def in_our_words(error: Exception) -> FactoryError | None:
    """Return what a person can do about an error of the system or of a parser; None if it is a fault of ours.

    Privacy: names files, fields and reasons, never the value that was given.
    """
    if type(error).__module__.partition(".")[0] in ("httpx", "httpcore"):
        return ConnectionFailedError(
            f"expected an answer of hub or relay, got {type(error).__name__}; look with: shufang status "
            "请查看各进程是否在运行"
        )
    if isinstance(error, OSError):
        return _of_system(error)
    return _of_input(error)


@contextmanager
def ended_by_signals(left: str) -> Iterator[None]:
    """Make SIGTERM and a closed terminal run every clean-up, as Ctrl-C does, and say what is left.

    Args:
        left: said when interrupted, once the clean-up is done.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in ENDING_SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\n已中断 interrupted: {left}", err=True)
        raise typer.Exit(128 + signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _of_input(error: Exception) -> InputError | None:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        wrong = {".".join(map(str, item["loc"])) or "content": item["msg"] for item in error.errors()[:4]}
        said = "; ".join(f"{place}: {text}" for place, text in wrong.items())
        return InputError(f"expected a valid {error.title}: {said}; correct it and run the command again")
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"expected text in UTF-8, got other bytes at {error.start}; save the file as UTF-8")
    if isinstance(error, tomllib.TOMLDecodeError):
        return InputError(f"expected TOML: {error}; correct the file")
    if isinstance(error, json.JSONDecodeError):
        return InputError(f"expected JSON: {error.msg} at line {error.lineno}; correct the file")
    return None


def _of_system(error: OSError) -> FactoryError:
    place = str(error.filename or "")
    about = f" {place}" if place else ""
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        kind = "a file" if isinstance(error, IsADirectoryError) else "a file or folder"
        return FileMissingError(
            f"expected {kind} at{about or ' the path given'} ({error.strerror}); correct the path 请核对路径"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(
            f"expected room on the disk for{about or ' the output'} ({os.strerror(error.errno)}); "
            "free some space and run the command again 请腾出磁盘空间后重试"
        )
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return StorageError(
            f"expected to be allowed to use{about or ' the file'} ({error.strerror}); correct its rights, or name "
            "another folder 请检查权限，或换一个目录"
        )
    return StorageError(
        f"{error.strerror or type(error).__name__}:{about or ' a file or connection'}; check the disk and what runs "
        "请检查磁盘与运行状态"
    )


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
