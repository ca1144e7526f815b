"""``shufang serve`` and ``shufang found-platform``: the platform over HTTP, and its first administrator."""

from pathlib import Path
from typing import Annotated

import typer

from factory.terminal import show


def serve(
    *,
    home: Annotated[Path, typer.Option("--home", help="实施机构目录 | the agency's home")],
    host: Annotated[str, typer.Option("--host", help="监听地址 | address")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="端口，0 为任意 | port, 0 for any")] = 8080,
    certificate: Annotated[Path | None, typer.Option("--tls-certificate", help="证书 PEM | certificate chain")] = None,
    key: Annotated[Path | None, typer.Option("--tls-key", help="私钥 PEM | its private key")] = None,
    ciphers: Annotated[str, typer.Option("--tls-ciphers", help="TLS 1.2 套件 | suites of TLS 1.2")] = "",
) -> None:
    """提供平台接口 | Serve the platform over HTTP; its document is at /openapi.json.

    Example: shufang serve --home agency --host 10.0.0.5 --port 8443 --tls-certificate api.crt --tls-key api.pem
    """
    import asyncio

    from factory.api.serve import require_private, run, tls_context
    from factory.services.platform import open_platform

    context = tls_context(certificate, key, ciphers or None) if certificate and key else None
    require_private(host, has_tls=context is not None)
    platform = open_platform(home)
    try:
        asyncio.run(run(platform, host=host, port=port, context=context))
    finally:
        platform.close()


def found_platform(
    *,
    home: Annotated[Path, typer.Option("--home", help="实施机构目录 | the agency's home")],
    organisation: Annotated[str, typer.Option("--organisation", help="平台管理机构 | body that runs the platform")],
    name_zh: Annotated[str, typer.Option("--name-zh")],
    name_en: Annotated[str, typer.Option("--name-en")],
    administrator: Annotated[str, typer.Option("--administrator", help="管理员登录名 | login of its administrator")],
    person: Annotated[str, typer.Option("--person", help="姓名 | the person's name")],
    identity: Annotated[
        str,
        typer.Option(
            "--identity", prompt=True, hide_input=True, help="证件号，只存摘要 | number of the person, kept as digest"
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")] = False,
) -> None:
    """建立平台账户 | Register the body that runs the platform and its administrator, once; prints an invitation.

    Next: the administrator sets a password with POST /v1/invitations/accept.
    """
    from factory.services.actor import Actor
    from factory.services.people import NewAccount, NewOrganisation
    from factory.services.platform import open_platform

    platform = open_platform(home)
    try:
        roles = ("administrator", "supervisor")
        platform.people.found(
            NewOrganisation(id=organisation, name_zh=name_zh, name_en=name_en, roles=roles),
            NewAccount(
                id=administrator, name=person, organisation=organisation, roles=("administrator",), identity=identity
            ),
        )
        actor = Actor("platform", organisation, frozenset({"administrator"}), "home")
        show({"invitation": platform.authentication.invite(actor, administrator)}, as_json=as_json)
    finally:
        platform.close()
