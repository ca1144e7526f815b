"""What both ends of the Flower plane need of Flower: quiet start, parcels as records, the runtime's HTTP interface.

Nodes and the factory use it; each of Flower's private modules that we rely on is named in
one of four files (this one, ``nodes.planes.flower``, ``nodes.planes.supernode`` and
``factory.hub``), and the version is pinned. Flower is imported inside the functions: it costs
a second and a half.

Privacy: Flower sees parcels, which are signed and whose confidential parts are sealed.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.contract.errors import MalformedError, TooLargeError
from nodes.contract.parameters import LIMITS

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict
    from flwr.supercore.runtime import RuntimeHttpClient

_OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPERGRID_API_URL": "http://127.0.0.1:9/v1",  # the discard port: nothing of Flower's own services is asked
    "UV_OFFLINE": "1",
}
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")

OBJECT_RETRY_S = 0.02
"""First wait for a part of a message that is still being uploaded, in seconds (Flower's own: one second)."""


def quiet_flower(work_dir: Path) -> None:
    """Turn off everything by which Flower reaches out, before it is imported; call it once at the entry point.

    Telemetry, update check and dependency installation are off, proxies are not used, and
    what Flower writes stays in ``work_dir``.
    """
    work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.update(_OFF, FLWR_HOME=str(work_dir))
    for name in _PROXIES:
        os.environ.pop(name, None)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def to_record(parcel: bytes) -> "RecordDict":
    """Return a parcel as the content of a Flower message: one raw array, which Flower moves in chunks."""
    from flwr.app import Array, ArrayRecord, RecordDict

    return RecordDict({"parcel": ArrayRecord({"parcel": Array("bytes", (len(parcel),), "raw", parcel)})})


def to_parcel(message: "Message") -> bytes:
    """Return the parcel of a Flower message.

    Raises:
        MalformedError: the message holds something else.
        TooLargeError: more bytes than a parcel may have.
    """
    records: Any = message.content.array_records
    if list(records) != ["parcel"] or list(records["parcel"]) != ["parcel"] or len(message.content) != 1:
        raise MalformedError("expected a message with one parcel")
    data = bytes(records["parcel"]["parcel"].data)
    if len(data) > LIMITS.parcel_bytes_max + 12 * LIMITS.parts_max:
        raise TooLargeError(f"expected at most {LIMITS.parcel_bytes_max} bytes in a parcel, got {len(data)}")
    return data


def runtime_client(
    address: str, *, ca: bytes | None, token: str = "", secret: bytes = b"", component: str
) -> "RuntimeHttpClient":
    """Return a client of a SuperLink's or SuperNode's runtime interface.

    It does not retry by itself: Flower's retrying would interrupt this process when it is refused.

    Args:
        address: ``host:port``.
        ca: PEM of the only authority trusted; None for plain HTTP on the loopback.
        token: of one task.
        secret: for acquiring tasks.
        component: name Flower expects in the version header.
    """
    from flwr.supercore.interceptors import (
        RuntimeTokenHttpInterceptor,
        RuntimeVersionHttpInterceptor,
        SuperExecAuthHttpInterceptor,
    )
    from flwr.supercore.runtime import RuntimeHttpClient

    interceptors: list[Any] = [RuntimeVersionHttpInterceptor(component_name=component)]
    if token:
        interceptors.append(RuntimeTokenHttpInterceptor(token))
    if secret:
        interceptors.append(
            SuperExecAuthHttpInterceptor(
                master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
            )
        )
    return RuntimeHttpClient.from_server_address(address, ca is None, ca, interceptors, retry_invoker=None)


def push(client: "RuntimeHttpClient", message: "Message", *, node_id: int, run_id: int) -> str:
    """Upload a message with its parts; return its id, or an empty text when it was not taken.

    Args:
        client: of the runtime interface.
        message: what to send; its id is set here.
        node_id: Flower's number of the sender.
        run_id: the run it belongs to.
    """
    from flwr.app.message import remove_content_from_message
    from flwr.common.serde import message_to_proto
    from flwr.proto.node_pb2 import Node
    from flwr.proto.runtime_pb2 import PushAppMessagesRequest
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        no_object_id_recompute,
    )
    from flwr.supercore.inflatable.inflatable_protobuf_utils import make_push_object_fn_protobuf
    from flwr.supercore.inflatable.inflatable_utils import push_objects

    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        response = client.PushMessages(
            PushAppMessagesRequest(
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[get_object_tree(message)],
            )
        )
        push_objects(
            get_all_nested_objects(message),
            make_push_object_fn_protobuf(
                client.PushObject, Node(node_id=node_id), run_id=run_id, session_id=response.session_id
            ),
            object_ids_to_push=set(response.objects_to_push),
        )
    return str(response.message_ids[0] or "") if response.message_ids else str(message.metadata.message_id)


def inflate(client: "RuntimeHttpClient", tree: Any, *, node_id: int, run_id: int, timeout_s: float) -> "Message":
    """Download the parts of a message, confirm it and return it.

    Args:
        client: of the runtime interface.
        tree: object tree as the runtime lists it.
        node_id: Flower's number of the recipient.
        run_id: the run it belongs to.
        timeout_s: longest wait for parts that are still being uploaded.
    """
    from flwr.app import Message
    from flwr.proto.node_pb2 import Node
    from flwr.supercore.inflatable.inflatable_protobuf_utils import (
        make_confirm_message_received_fn_protobuf,
        make_pull_object_fn_protobuf,
    )
    from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree

    node = Node(node_id=node_id)
    message = pull_and_inflate_object_from_tree(
        tree,
        make_pull_object_fn_protobuf(client.PullObject, node, run_id),
        make_confirm_message_received_fn_protobuf(client.ConfirmMessageReceived, node, run_id),
        return_type=Message,
        max_time=timeout_s,
        max_tries_per_object=100_000,
        initial_backoff=OBJECT_RETRY_S,
        backoff_cap=1.0,
    )
    message.metadata.__dict__["_message_id"] = tree.object_id
    return message
