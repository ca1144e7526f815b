"""``shufang client``: what an application unit runs in its own house."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="应用单位 | The application unit.", no_args_is_help=True, add_completion=False)

Home = Annotated[Path, typer.Option("--home", help="应用单位目录 | the application unit's home")]
Invitation = Annotated[Path, typer.Argument(help="运营机构给的邀请文件 | invitation from the operator")]
Relay = Annotated[str, typer.Option("--relay", help="https://host:port")]


@app.command("serve")
def serve(
    invitation: Invitation,
    home: Home,
    relay: Relay,
    port: Annotated[int, typer.Option("--port", help="本机端口 | loopback port, a free one unless given")] = 0,
) -> None:
    """在本机提供核验接口 | Serve the verification interface on the loopback until stopped.

    Example: shufang client serve invitation.bin --home bank-yun --relay https://127.0.0.1:8444
    """
    import uvicorn

    from factory.client.gateway import create_app
    from factory.client.match import Invitation as Invited
    from factory.client.match import Matcher
    from factory.hub.relay_bus import RelayBus
    from factory.identity import load_identity
    from factory.site.operator import relay_plane
    from factory.site.processes import free_port
    from factory.trust import load_trust

    identity = load_identity(home)
    bus = RelayBus(identity.id, relay_plane(identity, relay))
    try:
        matcher = Matcher(
            client=identity.id,
            key=identity.key,
            sealing_key=identity.sealing_key,
            actors=load_trust(identity.trust_path, now=_now()).actors,
            bus=bus,
            invitation=Invited.from_bytes(invitation.read_bytes()),
        )
        service = create_app(
            matcher.parameters, title="核验 · Verification", description="yes or no", version="1", matcher=matcher
        )
        chosen = port or free_port()
        typer.echo(f"http://127.0.0.1:{chosen}/v1/verifications")
        uvicorn.run(service, host="127.0.0.1", port=chosen, log_level="warning", access_log=False)
    finally:
        bus.close()


def _now() -> datetime:
    return datetime.now(UTC)
