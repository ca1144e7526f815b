"""The control plane at a node: fetches messages from the local SuperNode and answers them.

This takes the place of Flower's own executor, which would install and import the code that
comes with a run. Here nothing shipped is ever unpacked: the bundle is hashed and must be the
pinned one, the message type must be ours, and then the parcel goes to the agent's handler.
Everything else is refused with an answer that says nothing more, and reported to the agent,
which writes it into its ledger.

Privacy: what leaves is the handler's reply, or the fixed text of a refusal or failure.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.contract.errors import ContractError
from nodes.contract.parameters import BUNDLE_SHA256, PARCEL_MESSAGE_TYPE
from nodes.flower_runtime import inflate, push, quiet_flower, runtime_client, to_parcel, to_record
from nodes.light_httpx import httpx
from nodes.planes.supernode import PORT_FILE, ensure_secret
from nodes.relay_client import Handler

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.supercore.runtime import RuntimeHttpClient

_log = logging.getLogger(__name__)

HEARTBEAT_S = 20.0
"""How often a task in work is confirmed to the SuperNode, in seconds; it gives up after 60."""

PARTS_TIMEOUT_S = 120.0
"""Longest wait for the parts of a message, in seconds; the SuperNode has them already."""

OnForeign = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class FlowerPlaneSettings:
    """How the agent and its SuperNode find each other and the hub.

    Attributes:
        superlink_address: ``host:port`` of the hub's public listener.
        ca_path: PEM of the agency's TLS authority.
        key_path: the node's hub key.
        work_dir: folder that SuperNode and agent of this node share, and no one else.
        idle_poll_s: how long the SuperNode waits after the hub had nothing.
        task_poll_s: how often the agent asks the SuperNode for work.
    """

    superlink_address: str
    ca_path: Path
    key_path: Path
    work_dir: Path
    idle_poll_s: float = 1.0
    task_poll_s: float = 0.1

    @property
    def supernode_arguments(self) -> tuple[str, ...]:
        """Arguments of ``python`` that start the SuperNode that belongs to these settings."""
        return (
            *("-m", "nodes.planes.supernode"),
            *("--hub", self.superlink_address, "--ca", str(self.ca_path), "--key", str(self.key_path)),
            *("--work", str(self.work_dir), "--idle-poll-s", f"{self.idle_poll_s:g}"),
        )


def serve_flower(settings: FlowerPlaneSettings, handler: Handler, on_foreign: OnForeign, stop: threading.Event) -> None:
    """Answer what arrives over Flower until ``stop`` is set, one message at a time.

    Args:
        settings: see ``FlowerPlaneSettings``; the SuperNode runs as a process of its own.
        handler: answers one parcel; never raises.
        on_foreign: called with the bundle's digest and the reason before a foreign run is refused.
        stop: set it to end.
    """
    quiet_flower(settings.work_dir)
    secret = ensure_secret(settings.work_dir)
    address, acquiring, reported = "", None, ""
    try:
        while not stop.is_set():
            try:
                now_at = f"127.0.0.1:{int((settings.work_dir / PORT_FILE).read_text(encoding='ascii'))}"
                if acquiring is None or now_at != address:
                    if acquiring is not None:
                        acquiring.close()
                    address = now_at
                    acquiring = runtime_client(address, ca=None, secret=secret, component="SuperExec")
                token = _acquire(acquiring)
            except (OSError, ValueError, httpx.HTTPError) as error:
                if reported != (reported := type(error).__name__):
                    _log.info("SuperNode not there yet, trying again (%s)", reported)
                stop.wait(0.3)
                continue
            reported = ""
            if token:
                _Task(address, token, handler, on_foreign).run()
            else:
                stop.wait(settings.task_poll_s)
    finally:
        if acquiring is not None:
            acquiring.close()


def _acquire(client: "RuntimeHttpClient") -> str:
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.constant import TaskType

    # Only client tasks of the kind a message makes; others stay unanswered.
    response = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
    return str(response.token) if response.HasField("task") else ""


class _Task:
    """One message: from the SuperNode to the handler and back."""

    def __init__(self, address: str, token: str, handler: Handler, on_foreign: OnForeign) -> None:
        self._client = runtime_client(address, ca=None, token=token, component="flwr-clientapp")
        self._handler = handler
        self._on_foreign = on_foreign

    def run(self) -> None:
        done = threading.Event()
        heart = threading.Thread(target=self._beat, args=(done,), name="flower-heartbeat", daemon=True)
        heart.start()
        try:
            self._answer()
        except httpx.HTTPError as error:
            _log.warning("SuperNode went away during a message: %s", type(error).__name__)
        except Exception:  # noqa: BLE001  the outermost loop: one broken message must not end the plane
            # Neither text nor trace: they may quote what the message held.
            _log.error("message could not be answered, reference %s", os.urandom(4).hex())
        finally:
            done.set()
            heart.join(timeout=5)
            self._client.close()

    def _beat(self, done: threading.Event) -> None:
        from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest

        while not done.wait(HEARTBEAT_S):
            with suppress(httpx.HTTPError):
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())

    def _answer(self) -> None:
        from flwr.common.constant import SubStatus
        from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullTaskInputRequest, PushTaskOutputRequest

        task = self._client.PullTaskInput(PullTaskInputRequest())
        digest = hashlib.sha256(task.fab.content).hexdigest()
        node_id, run_id = task.context.node_id, task.run.run_id
        waiting = self._client.PullMessages(PullAppMessagesRequest())
        status = SubStatus.FAILED
        for tree in waiting.message_object_trees[:1]:
            message = inflate(self._client, tree, node_id=node_id, run_id=run_id, timeout_s=PARTS_TIMEOUT_S)
            reply, accepted = self._reply(message, digest)
            push(self._client, reply, node_id=node_id, run_id=run_id)
            status = SubStatus.COMPLETED if accepted else SubStatus.FAILED
        self._client.PushTaskOutput(PushTaskOutputRequest(context=task.context, sub_status=status, details=""))

    def _reply(self, message: "Message", digest: str) -> tuple["Message", bool]:
        from flwr.app import Error, Message
        from flwr.common.constant import ErrorCode

        def refuse(reason: str) -> tuple[Any, bool]:
            _log.warning("refused a message: %s", reason)
            self._on_foreign(digest, reason)
            return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, "refused"), reply_to=message), False

        # The digest is computed from the bytes at hand; what the hub calls the bundle does not count.
        if digest != BUNDLE_SHA256:
            return refuse("the bundle is not the contract's")
        if message.metadata.message_type != PARCEL_MESSAGE_TYPE:
            return refuse("the message type is not the contract's")
        if not message.has_content():
            return refuse("the message holds no parcel")
        try:
            parcel = to_parcel(message)
        except ContractError as error:
            return refuse(f"the message holds no parcel ({error.code})")
        try:
            answer = to_record(self._handler(parcel))
        except Exception:  # noqa: BLE001  the handler never raises; if it does, the hub learns a number and no text
            reference = os.urandom(4).hex()
            _log.error("handler failed, reference %s", reference)
            return Message(
                Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"reference {reference}"), reply_to=message
            ), False
        return Message(answer, reply_to=message), True
