"""The HTTP client library without its command-line tool.

``httpx`` loads that tool, and with it ``pygments``, wherever ``rich`` is installed. Nobody here
uses it, and it is a third of what starting an agent costs; so all of ours import it from here.
"""

import sys

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # the way to say "cannot be imported"
import httpx  # noqa: E402

__all__ = ["httpx"]
