"""`shufang-node doctor`: is this node's set-up in order? One line per check, with the next step.

Reads key files' modes, certificates, trust data, clocks, tables, disk and the two listeners; changes nothing.
"""

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

from nodes.books import Books
from nodes.catalogue_entries import read_catalogue
from nodes.contract.parameters import CLOCK_SKEW_S_MAX
from nodes.enrolment import certificate_window
from nodes.errors import CatalogueError, EnrolmentError, KeyFileError, NodeError, TableError
from nodes.keys import KEY_FILES, require_private
from nodes.settings import NodeSettings
from nodes.trust_store import TrustStore

Level = Literal["ok", "warn", "fail"]
DISK_FREE_BYTES_MIN = 200 * 1024 * 1024
EXPIRY_WARNING = timedelta(days=14)
TRUST_WARNING = timedelta(days=1)
CONNECT_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor.

    Attributes:
        name: what was looked at.
        level: ok, warn or fail.
        zh, en: what was found and the next step.
    """

    name: str
    level: Level
    zh: str
    en: str


def examine(settings: NodeSettings, *, now: datetime) -> list[Check]:
    """Run every check."""
    checks: tuple[Callable[[NodeSettings, datetime], Iterator[Check]], ...] = (
        _keys, _certificates, _trust, _books, _tables, _disk, _planes,
    )  # fmt: skip
    return [line for check in checks for line in check(settings, now)]


def _keys(settings: NodeSettings, _now: datetime) -> Iterator[Check]:
    for name in KEY_FILES:
        try:
            require_private(settings.keys / name)
        except KeyFileError as error:
            yield Check(f"keys/{name}", "fail", "密钥文件不合要求，见下一步", str(error))
        else:
            yield Check(f"keys/{name}", "ok", "仅本用户可读", "readable by this user alone")


def _certificates(settings: NodeSettings, now: datetime) -> Iterator[Check]:
    for name in ("tls.crt", "ca.crt"):
        try:
            begins, ends = certificate_window((settings.certs / name).read_bytes())
        except (OSError, EnrolmentError):
            yield Check(
                f"certs/{name}", "fail", "没有证书：请安装机构的答复文件",
                "expected a certificate; install the agency's answer with `shufang-node admit-response FILE`",
            )  # fmt: skip
            continue
        if not begins <= now < ends:
            yield Check(
                f"certs/{name}", "fail", f"证书已过期或未生效（{ends:%Y-%m-%d}）",
                f"the certificate ended at {ends:%Y-%m-%d}; ask the agency for a new one",
            )  # fmt: skip
        elif ends - now < EXPIRY_WARNING:
            yield Check(f"certs/{name}", "warn", f"证书即将到期：{ends:%Y-%m-%d}", f"ends at {ends:%Y-%m-%d}; renew it")
        else:
            yield Check(f"certs/{name}", "ok", f"有效至 {ends:%Y-%m-%d}", f"valid until {ends:%Y-%m-%d}")


def _trust(settings: NodeSettings, now: datetime) -> Iterator[Check]:
    try:
        trust = TrustStore(settings.trust).current()
    except NodeError as error:
        yield Check("trust", "fail", "信任数据无法验证", str(error))
        return
    left = trust.expires_at - now
    text = f"{trust.expires_at:%Y-%m-%d %H:%M}Z"
    if left <= timedelta(0):
        yield Check(
            "trust", "fail", f"信任数据已于 {text} 过期", f"expired at {text}; run `shufang-node trust update DIR`"
        )
    elif left < TRUST_WARNING:
        yield Check("trust", "warn", f"信任数据将于 {text} 过期", f"expires at {text}; bring newer soon")
    else:
        yield Check("trust", "ok", f"信任数据有效至 {text}", f"fresh until {text}")
    if not any(actor.id == settings.id and actor.is_valid_at(now) for actor in trust.actors.actors):
        yield Check(
            "trust/self", "fail", "机构的信任数据未列入本节点", f"{settings.id} is not admitted; ask the agency"
        )


def _books(settings: NodeSettings, _now: datetime) -> Iterator[Check]:
    try:
        books = Books(settings.books)
        count = books.verify_chain()
        notes = books.notes()
        books.close()
    except NodeError as error:
        yield Check("books", "fail", "台账不完整或不可写", str(error))
        return
    yield Check("books", "ok", f"台账 {count} 条，链完整", f"{count} entries, chain unbroken")
    for name, value in notes.items():
        if name.startswith("skew."):
            yield _skew_line(f"clock/{name.removeprefix('skew.')}", int(value))


def _tables(settings: NodeSettings, now: datetime) -> Iterator[Check]:
    from nodes import tables

    try:
        catalogue = read_catalogue(settings.catalogue)
        books = Books(settings.books)
    except (CatalogueError, NodeError) as error:
        yield Check("catalogue", "fail", "目录条目有误", str(error))
        return
    if not catalogue:
        yield Check("catalogue", "warn", "目录为空：请绑定数据表", "no table is bound; run `shufang-node bind`")
    for entry in catalogue.values():
        record = books.resource(entry.id)
        try:
            tables.check_table(entry, settings.home)
        except TableError as error:
            yield Check(f"table/{entry.id}", "fail", f"数据表不可用（{error.code}）", str(error))
            continue
        stale = record is not None and record.fresh_until is not None and now >= record.fresh_until
        if settings.quality_required and (record is None or record.state != "active" or stale):
            state = "stale" if stale else record.state if record else "unassessed"
            yield Check(
                f"table/{entry.id}", "warn", f"可读，但不参与运行：{state}",
                f"readable, but kept out of runs: {state}; run `shufang-node quality run {entry.id}`",
            )  # fmt: skip
        else:
            yield Check(f"table/{entry.id}", "ok", "可读", "readable")
    books.close()


def _disk(settings: NodeSettings, _now: datetime) -> Iterator[Check]:
    free = shutil.disk_usage(settings.home).free
    told = f"{free // (1024 * 1024)} MiB"
    if free < DISK_FREE_BYTES_MIN:
        yield Check(
            "disk", "fail", f"磁盘仅余 {told}", f"{told} left; free at least {DISK_FREE_BYTES_MIN // 2**20} MiB"
        )
    else:
        yield Check("disk", "ok", f"磁盘余 {told}", f"{told} free")


def _planes(settings: NodeSettings, now: datetime) -> Iterator[Check]:
    if "flower" in settings.planes:
        yield from _listener("hub", settings.hub, settings, now)
    if "relay" in settings.planes:
        address = urlsplit(settings.relay)
        yield from _listener("relay", f"{address.hostname or ''}:{address.port or 443}", settings, now)


def _listener(name: str, address: str, settings: NodeSettings, now: datetime) -> Iterator[Check]:
    host, _, port = address.rpartition(":")
    try:
        date = _http_date(host, int(port), settings)
    except ValueError:
        yield Check(name, "fail", f"{name} 地址未设置", f"expected host:port of the {name} in node.toml")
        return
    except ssl.SSLError as error:
        yield Check(
            name, "fail", f"{name} 的 TLS 证书不可信（{error.reason or 'TLS'}）",
            f"the TLS handshake with {address} failed ({error.reason or 'TLS'}); check certs/ and the address",
        )  # fmt: skip
        return
    except OSError as error:
        yield Check(
            name, "fail", f"{name} 不可达：{address}",
            f"{address} cannot be reached ({error.strerror or type(error).__name__}); is it up?",
        )  # fmt: skip
        return
    yield Check(name, "ok", f"{address} 可达", f"{address} reachable")
    if date is not None:
        yield _skew_line(f"clock/{name}", round((date - now).total_seconds()))


def _http_date(host: str, port: int, settings: NodeSettings) -> datetime | None:
    context = ssl.create_default_context(cafile=str(settings.certs / "ca.crt"))
    context.load_cert_chain(settings.certs / "tls.crt", settings.keys / "tls.pem")
    with (
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as stream,
    ):
        stream.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < 65536 and (chunk := stream.recv(4096)):
            answer += chunk
    for line in answer.split(b"\r\n\r\n")[0].split(b"\r\n"):
        if line.lower().startswith(b"date:"):
            try:
                return parsedate_to_datetime(line[5:].decode("ascii").strip()).astimezone(UTC)
            except (ValueError, UnicodeDecodeError):
                return None
    return None


def _skew_line(name: str, skew_s: int) -> Check:
    zh, en = f"时钟相差 {skew_s} 秒", f"clocks differ by {skew_s} s"
    if abs(skew_s) > CLOCK_SKEW_S_MAX:
        return Check(
            name,
            "fail",
            zh + "，超过五分钟，请求将被拒绝",
            en + ", over five minutes: set the clock",
        )
    if abs(skew_s) > 30:
        return Check(name, "warn", zh + "，请校时", en + "; set the clock")
    return Check(name, "ok", zh, en)
