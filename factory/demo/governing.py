"""From a request to a grant: the operator submits, the official rules, registrars and departments sign."""

import json
from datetime import UTC, datetime
from typing import Any

from factory.demo.acts import granted, offer_grant
from factory.site.layout import REGISTRARS, Site
from factory.site.operator import OperatorDesk
from factory.site.processes import run_module, run_modules
from nodes.contract.grant import Grant
from nodes.contract.signing import Envelope

CLI, NODE_CLI = "factory.cli", "nodes.cli"


def submit(desk: OperatorDesk, text: str) -> str:
    """Submit a request and return its id."""
    from factory.registry.request import read_request

    request = read_request(text, operator=desk.identity.id, now=datetime.now(UTC).replace(microsecond=0))
    return str(desk.agency().submit_request(request.to_payload())["request_id"])


def rule(site: Site, request_id: str) -> dict[str, Any]:
    """Have the agency's official approve a request; what is not justified is cut."""
    text = run_module(
        CLI, "agency", "rule", request_id, "--home", str(site.agency), "--approve", "--official", "王芳",
        "--reason", "场景明确、字段最小必要", "--reasonable", "需求合理，有公共价值",
        "--compliant", "在协议与目录范围内", "--secure", "数据不出域，仅出聚合结果", "--json",
    )  # fmt: skip
    status: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return status


def sign_and_approve(
    site: Site, desk: OperatorDesk, request_id: str, grant_folder: str
) -> tuple[Grant, str, list[Envelope]]:
    """Have both registrars sign a grant and every department approve it."""
    for office in REGISTRARS:
        run_module(CLI, "agency", "sign-grant", grant_folder, "--home", str(site.home(office.id)))
    grant, _, _ = offer_grant(desk, request_id)
    parties = {party.node for party in grant.parties}
    run_modules(
        [
            (NODE_CLI, "grants", "approve", grant.grant_id, "--home", str(site.node(d)), "--reason", "同意按授权使用")
            for d in site.departments
            if d.node in parties
        ]
    )
    return granted(desk, request_id)
