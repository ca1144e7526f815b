"""A wire tap for tests: put this folder on PYTHONPATH and set SHUFANG_TEST_TAP to a folder.

Every byte a Python process hands to a socket is appended, before TLS encrypts it, to
``<folder>/<pid>.sent``; every address it connects to or listens on goes to
``<folder>/<pid>.peers``. The product knows nothing of it.
"""

import os
import socket
import ssl
import sys

_FOLDER = os.environ.get("SHUFANG_TEST_TAP", "")


def _append(suffix: str, data: bytes) -> None:
    with open(os.path.join(_FOLDER, f"{os.getpid()}.{suffix}"), "ab") as file:
        file.write(data)


def _wrap(owner: type, name: str, position: int = 0) -> None:
    original = getattr(owner, name)

    def tapped(self, *args, **kwargs):
        if args:
            part = args[position]
            if name == "sendmsg":
                for buffer in part:
                    _append("sent", bytes(buffer))
            else:
                _append("sent", bytes(part))
        return original(self, *args, **kwargs)

    setattr(owner, name, tapped)


def _audit(event: str, args: tuple) -> None:
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        address = args[1]
        if isinstance(address, tuple):
            _append("peers", f"{event} {address[0]} {address[1]}\n".encode())
    elif event == "subprocess.Popen":
        _append(
            "argv", (" ".join(map(os.fsdecode, args[1])) if not isinstance(args[1], str) else args[1]).encode() + b"\n"
        )


if _FOLDER:
    for _name in ("send", "sendall", "sendto", "sendmsg"):
        _wrap(socket.socket, _name)
    for _name in ("send", "sendall", "write"):
        _wrap(ssl.SSLSocket, _name)
    _wrap(ssl.SSLObject, "write")
    with open(os.path.join(_FOLDER, f"{os.getpid()}.main"), "w") as _file:
        _file.write(" ".join(sys.orig_argv))
    sys.addaudithook(_audit)
