"""Two hundred sessions at once over HTTP: whatever was acknowledged is there, once."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from factory.services.people import NewOrganisation

SESSIONS = 200


@pytest.mark.slow
def test_two_hundred_sessions_at_once_lose_no_update(served):
    """Everybody writes into the same case; every answer that was given is in it, and in the chain of events."""
    served.agree()
    names = [f"org-s{number:03}" for number in range(SESSIONS)]
    for name in names:
        asked = NewOrganisation(id=name, name_zh=name, name_en=name, roles=("source_department",))
        served.people.register(served.admin, asked)
    tokens = [served.token("p-agency") for _ in names]

    def assign(number):
        body = {"organisation": names[number], "role": "source_department"}
        path = "/v1/agreements/agr-2026-1/parties"
        headers = {"Authorization": f"Bearer {tokens[number]}", "Idempotency-Key": f"session-{number:04}"}
        with httpx.Client(base_url=served.url, timeout=300, verify=False) as client:
            return [client.post(path, json=body, headers=headers).status_code for _ in range(2)]

    with ThreadPoolExecutor(max_workers=SESSIONS) as pool:
        answers = list(pool.map(assign, range(SESSIONS)))  # each command twice, as after a lost answer
    assert answers == [[200, 200]] * SESSIONS
    case = served.registry.get("parties", "agr-2026-1")
    assert set(names) <= set(case.document["roles"])
    acts = [event.body["reason"] for event in served.registry.events(kind="parties", case_id="agr-2026-1")]
    assert sorted(set(acts) & {f"{name}: source_department" for name in names}) == sorted(
        f"{name}: source_department" for name in names
    )
    assert len(acts) == len(set(acts))
    assert served.registry.verify_cases() > 0
