"""Alerts of one node: its ledger read for what stands out, and what its officers did about it."""

from datetime import UTC, datetime

from nodes.books import Books
from nodes.contract.alerting import Alert, Signal, alerts, volume_alerts
from nodes.errors import BooksError, RegisterError

SESSION = "alerts"


def node_alerts(books: Books, *, now: datetime) -> list[Alert]:
    """Return the node's alerts, the gravest first; a broken chain is one."""
    entries = books.entries()
    handled = {str(e.facts["alert"]): str(e.facts["outcome"]) for e in entries if e.kind == "alert.handled"}
    signals, uses = [], []
    for entry in entries:
        at = datetime.strptime(entry.at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if entry.kind in {"refused", "egress.found"}:
            signals.append(Signal(at, entry.actor, str(entry.facts.get("code", entry.kind)), str(entry.seq)))
        if entry.kind == "order.accepted":
            uses.append((at, entry.actor, str(entry.seq)))
    try:
        books.verify_chain()
    except BooksError:
        signals.append(Signal(now, "", "chain.broken", "ledger"))
    return [*alerts(signals, handled=handled, now=now), *volume_alerts(uses, handled=handled, now=now)]


def handle_alert(books: Books, name: str, *, outcome: str, now: datetime) -> Alert:
    """Note what was done about an alert.

    Raises:
        RegisterError: no such alert, or no outcome.
    """
    if not outcome.strip():
        raise RegisterError("expected what was done; an alert is not closed without an outcome")
    if name not in {alert.id for alert in node_alerts(books, now=now)}:
        raise RegisterError(f"expected an alert of this node, {name[:80]} is none; see `shufang-node alerts list`")
    books.record("alert.handled", session=SESSION, facts={"alert": name, "outcome": outcome.strip()[:500]})
    return next(alert for alert in node_alerts(books, now=now) if alert.id == name)
