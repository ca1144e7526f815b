"""Parcels over Flower: the operator's half of the control plane.

The operator's own process takes the place of a Flower ServerApp: it starts a run with the
code-free bundle, acquires its task and exchanges messages. A node is addressed by the hub
key the agency's trust data gives for it; what the hub calls a node does not count. Messages
live no longer than the call that waits for them, and are sent again, with the same bytes,
when the hub or a SuperNode lost them.

Privacy: the hub sees parcels, in memory and in its database; they are signed, and their
confidential parts are sealed.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import httpx

from factory.hub.bundle import contract_bundle
from factory.hub.bus import NodeUnreachableError
from factory.hub.superlink import HubSettings, HubStartError
from nodes.contract.errors import ContractError
from nodes.contract.parameters import BUNDLE_SHA256, PARCEL_MESSAGE_TYPE
from nodes.flower_runtime import inflate, push, quiet_flower, runtime_client, to_parcel, to_record

_log = logging.getLogger(__name__)

POLL_S = (0.03, 0.5)
"""First and longest wait between looking for replies, in seconds."""

RESEND_S = (15.0, 120.0)
"""First and longest wait before a message without reply is sent again, in seconds."""

HEARTBEAT_S = 20.0
"""How often the run is confirmed to the hub, in seconds; the hub gives up after 60."""

RETRYABLE_ERRORS = frozenset({3, 4, 5, 8})
"""Flower's error codes for: message gone, reply gone, node not there, executor stopped."""


@dataclass(frozen=True, slots=True)
class HubNode:
    """A node as the hub knows it.

    Attributes:
        number: Flower's number.
        spki: DER of its hub key.
        is_online: whether its SuperNode was heard of lately.
    """

    number: int
    spki: bytes
    is_online: bool


def private_address(settings: HubSettings) -> str:
    """Return ``host:port`` of the running hub's private listener.

    Raises:
        HubStartError: it has not been started, or is starting.
    """
    return f"127.0.0.1:{settings.ports()[1]}"


class _Bearer:
    def __init__(self, token: str) -> None:
        self._header = {"authorization": f"Bearer {token}"}

    def intercept(self, context: Any, call_next: Callable[[Any], httpx.Response]) -> httpx.Response:
        context.request.headers.update(self._header)
        return call_next(context)


class HubControl:
    """What the operator may do at its own hub: register the nodes that the agency admitted."""

    def __init__(self, settings: HubSettings) -> None:
        quiet_flower(settings.home / "operator")
        from flwr.supercore.control import ControlHttpClient
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

        interceptors = [RuntimeVersionHttpInterceptor(component_name="flwr-cli"), _Bearer(settings.control_token())]
        self._client = ControlHttpClient.from_server_address(
            private_address(settings), False, settings.ca_path.read_bytes(), interceptors
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def nodes(self) -> list[HubNode]:
        """Return the registered nodes.

        Raises:
            httpx.HTTPError: the hub does not answer or refuses.
        """
        from flwr.proto.control_pb2 import ListNodesRequest

        return [
            HubNode(int(info.node_id), _pem_to_spki(info.public_key), info.status == "online")
            for info in self._client.ListNodes(ListNodesRequest()).nodes_info
            if info.status != "unregistered"
        ]

    def register(self, name: str, spki: bytes) -> int:
        """Let the node with this hub key connect; return its number. Repeating it is harmless.

        Raises:
            httpx.HTTPError: the hub does not answer or refuses.
        """
        from flwr.proto.control_pb2 import RegisterNodeRequest

        for node in self.nodes():
            if node.spki == spki:
                return node.number
        response = self._client.RegisterNode(RegisterNodeRequest(public_key=_spki_to_pem(spki), name=name))
        return int(response.node_id)

    def unregister(self, spki: bytes) -> None:
        """Let the node with this hub key connect no more.

        Raises:
            httpx.HTTPError: the hub does not answer or refuses.
        """
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        for node in self.nodes():
            if node.spki == spki:
                self._client.UnregisterNode(UnregisterNodeRequest(node_id=node.number))

    def start_run(self, bundle: bytes, digest_hex: str) -> None:
        """Start a run with a bundle.

        Raises:
            httpx.HTTPError: the hub does not answer or refuses.
        """
        from flwr.common.serde import fab_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        self._client.StartRun(StartRunRequest(fab=fab_to_proto(Fab(digest_hex, bundle, {}))))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class FlowerRun:
    """One run at the hub, driven from this process."""

    def __init__(self, settings: HubSettings, *, bundle: bytes, digest_hex: str, timeout_s: float = 30.0) -> None:
        self._settings = settings
        self._ca = settings.ca_path.read_bytes()
        self.address = private_address(settings)
        with HubControl(settings) as control:
            control.start_run(bundle, digest_hex)
        self._client = runtime_client(
            self.address, ca=self._ca, token=self._acquire(timeout_s), component="flwr-serverapp"
        )
        from flwr.proto.runtime_pb2 import PullTaskInputRequest

        task = self._client.PullTaskInput(PullTaskInputRequest())
        self._run_id, self._task_id = int(task.run.run_id), int(task.task_id)
        self._ended = threading.Event()
        threading.Thread(target=self._beat, name="flower-run", daemon=True).start()

    def send(self, number: int, content: Any, *, message_type: str, ttl_s: float) -> str:
        """Send a message to the node with this number; return its id.

        Raises:
            httpx.HTTPError: the hub does not answer or refuses.
        """
        from flwr.app import Message, Metadata
        from flwr.common.constant import SUPERLINK_NODE_ID
        from flwr.supercore.date import now

        metadata = Metadata(
            run_id=self._run_id,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=number,
            reply_to_message_id="",
            group_id="",
            created_at=now().timestamp(),
            ttl=ttl_s,
            message_type=message_type,
            src_task_id=self._task_id,
        )
        message = Message(content=content, metadata=metadata)
        return push(self._client, message, node_id=SUPERLINK_NODE_ID, run_id=self._run_id)

    def replies(self, message_ids: Iterable[str], *, timeout_s: float) -> dict[str, Any]:
        """Return the replies that are there by now, by the id of the message they answer.

        Raises:
            httpx.HTTPError: the hub does not answer or refuses.
        """
        from flwr.app import Error
        from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
        from flwr.proto.runtime_pb2 import PullAppMessagesRequest
        from flwr.supercore.inflatable.inflatable_utils import ObjectPullError

        response = self._client.PullMessages(PullAppMessagesRequest(message_ids=list(message_ids)))
        replies: dict[str, Any] = {}
        for message, tree in zip(response.messages_list, response.message_object_trees, strict=True):
            asked = str(message.metadata.reply_to_message_id)
            try:
                reply = inflate(self._client, tree, node_id=SUPERLINK_NODE_ID, run_id=self._run_id, timeout_s=timeout_s)
            except ObjectPullError:
                replies[asked] = Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "")
                continue
            replies[asked] = reply.error if reply.has_error() else reply
        return replies

    def close(self) -> None:
        """End the run."""
        from flwr.common.constant import SubStatus
        from flwr.proto.runtime_pb2 import PushTaskOutputRequest

        self._ended.set()
        with suppress(httpx.HTTPError):
            self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.COMPLETED, details=""))
        self._client.close()

    def _acquire(self, timeout_s: float) -> str:
        """Acquire a run's task; that of any run does, they are all alike."""
        from flwr.proto.runtime_pb2 import AcquireTaskRequest
        from flwr.supercore.constant import TaskType

        secret = self._settings.executor_secret()
        client = runtime_client(self.address, ca=self._ca, secret=secret, component="SuperExec")
        try:
            ends_at = time.monotonic() + timeout_s
            while time.monotonic() < ends_at:
                response = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
                if response.HasField("task") and response.token:
                    return str(response.token)
                time.sleep(0.05)
        finally:
            client.close()
        raise NodeUnreachableError(f"expected the hub to start a run within {timeout_s:g} s")

    def _beat(self) -> None:
        from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest

        while not self._ended.wait(HEARTBEAT_S):
            with suppress(httpx.HTTPError, RuntimeError):
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())


@dataclass(slots=True)
class _Open:
    """A parcel that has no answer yet."""

    node: str
    parcel: bytes
    resend_at: float = 0.0
    resend_s: float = RESEND_S[0]
    last_error: str = "no answer"


class FlowerBus:
    """Carries parcels over Flower; may be used by many threads.

    Args:
        settings: the hub's.
        spki_of: DER hub key per node, from the agency's trust data.
    """

    def __init__(self, settings: HubSettings, spki_of: Mapping[str, bytes]) -> None:
        self._settings = settings
        self._spki_of = dict(spki_of)
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._run: FlowerRun | None = None

    def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
        """See ``NodeBus.ask``."""
        answer = self.ask_all({node: parcel}, timeout_s=timeout_s)[node]
        if isinstance(answer, NodeUnreachableError):
            raise answer
        return answer

    def ask_all(self, parcels: Mapping[str, bytes], *, timeout_s: float) -> dict[str, bytes | NodeUnreachableError]:
        """See ``NodeBus.ask_all``."""
        ends_at = time.monotonic() + timeout_s
        answers: dict[str, bytes | NodeUnreachableError] = {}
        waiting = {node: _Open(node, parcel) for node, parcel in parcels.items()}
        sent: dict[str, str] = {}
        pause = POLL_S[0]
        while waiting and (left := ends_at - time.monotonic()) > 0:
            try:
                run = self._current_run()
                for item in waiting.values():
                    if item.resend_at <= time.monotonic():
                        self._send(run, item, sent, ttl_s=max(left, 1.0))
                asked = [message_id for message_id, node in sent.items() if node in waiting]
                replies = run.replies(asked, timeout_s=left) if asked else {}
            except (httpx.HTTPError, RuntimeError, HubStartError) as error:
                self._lost(error, waiting.values(), sent)
                time.sleep(min(0.5, max(0.0, ends_at - time.monotonic())))
                continue
            for message_id, reply in replies.items():
                self._take(waiting, answers, sent.pop(message_id, ""), reply)
            pause = POLL_S[0] if replies else min(pause * 1.3, POLL_S[1])
            if waiting:
                time.sleep(min(pause, max(0.0, ends_at - time.monotonic())))
        for node, item in waiting.items():
            answers[node] = NodeUnreachableError(f"no answer from {node} within {timeout_s:g} s ({item.last_error})")
        return {node: answers[node] for node in parcels}

    def close(self) -> None:
        """See ``NodeBus.close``."""
        with self._lock:
            run, self._run = self._run, None
        if run is not None:
            run.close()

    def _current_run(self) -> FlowerRun:
        with self._lock:
            if self._run is None:
                quiet_flower(self._settings.home / "operator")
                self._run = FlowerRun(self._settings, bundle=contract_bundle(), digest_hex=BUNDLE_SHA256)
            return self._run

    def _lost(self, error: Exception, waiting: Iterable[_Open], sent: dict[str, str]) -> None:
        """The hub is away, ended the run or came back elsewhere: wait, or start a new run and send again."""
        _log.info("hub did not answer (%s), trying again", type(error).__name__)
        for item in waiting:
            item.last_error = "the hub does not answer"
        is_ended = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403, 404}
        if is_ended or self._has_moved():
            self.close()
            sent.clear()
            for item in waiting:
                item.resend_at = 0.0

    def _has_moved(self) -> bool:
        """Tell whether the hub listens elsewhere than the run knows: its private port is chosen at every start."""
        with self._lock:
            run = self._run
        try:
            return run is not None and run.address != private_address(self._settings)
        except HubStartError:
            return False  # it is starting

    def _send(self, run: FlowerRun, item: _Open, sent: dict[str, str], *, ttl_s: float) -> None:
        number = self._number(item.node)
        if number is None:
            item.last_error = "the hub has no node with its key"
            item.resend_at = time.monotonic() + 0.5
            return
        message_id = run.send(number, to_record(item.parcel), message_type=PARCEL_MESSAGE_TYPE, ttl_s=ttl_s)
        if message_id:
            sent[message_id] = item.node
        item.resend_at = time.monotonic() + item.resend_s
        item.resend_s = min(item.resend_s * 2, RESEND_S[1])

    def _take(
        self,
        waiting: dict[str, _Open],
        answers: dict[str, bytes | NodeUnreachableError],
        node: str,
        reply: Any,
    ) -> None:
        item = waiting.get(node)
        if item is None:
            return  # the second answer to a parcel that was sent twice
        code = getattr(reply, "code", None)
        if code in RETRYABLE_ERRORS:
            item.last_error = f"its SuperNode is not there (Flower's error {code})"
            item.resend_at = time.monotonic() + 0.5
            return
        del waiting[node]
        if code is not None:
            answers[node] = NodeUnreachableError(f"{node} refused the message itself (Flower's error {code})")
            return
        try:
            answers[node] = to_parcel(reply)
        except ContractError as error:
            answers[node] = NodeUnreachableError(f"{node} answered something else than a parcel: {error}")

    def _number(self, node: str) -> int | None:
        with self._lock:
            if node in self._numbers:
                return self._numbers[node]
        spki = self._spki_of.get(node)
        if spki is None:
            return None
        with HubControl(self._settings) as control:
            numbers = {known.spki: known.number for known in control.nodes()}
        if spki in numbers:
            with self._lock:
                self._numbers[node] = numbers[spki]
        return numbers.get(spki)


def _pem_to_spki(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    return load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _spki_to_pem(spki: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    return load_der_public_key(spki).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
