"""The data plane at a node: answers steps, and in local trials orders, over the relay.

The node dials out; it holds one long-poll and answers what comes. See ``nodes.relay_client``
for what happens when either side restarts.

Privacy: what the handler returns is signed, recorded in the ledger and vetted by the agent
before it comes here.
"""

from nodes.relay_client import Handler, RelayPlaneSettings
from nodes.relay_client import serve as serve_relay

__all__ = ["Handler", "RelayPlaneSettings", "serve_relay"]
