"""A wire tap for tests: put this folder on PYTHONPATH and set SHUFANG_TEST_TAP to a folder.

Every byte a Python process hands to a socket is appended, before TLS encrypts it, to
``<folder>/<pid>.<socket>.sent``; every address it connects to, listens on or looks up goes to
``<folder>/<pid>.peers``, its own command line to ``<pid>.main`` and those of the processes it
starts to ``<pid>.argv``. The product knows nothing of it.
"""

import os
import socket
import ssl
import sys

_FOLDER = os.environ.get("SHUFANG_TEST_TAP", "")


def _append(suffix: str, data: bytes) -> None:
    with open(os.path.join(_FOLDER, f"{os.getpid()}.{suffix}"), "ab") as file:
        file.write(data)


def _wrap(owner: type, name: str) -> None:
    original = getattr(owner, name)

    def tapped(self, *args, **kwargs):
        if args:
            parts = args[0] if name == "sendmsg" else args[:1]
            _append(f"{id(self):x}.sent", b"".join(bytes(part) for part in parts))
        return original(self, *args, **kwargs)

    setattr(owner, name, tapped)


def _audit(event: str, args: tuple) -> None:
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        address = args[1]
        if isinstance(address, tuple):
            _append("peers", f"{event} {address[0]} {address[1]}\n".encode())
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        _append("peers", f"{event} {os.fsdecode(args[0]) if args[0] else '-'} 0\n".encode())
    elif event == "subprocess.Popen":
        words = [args[1]] if isinstance(args[1], str | bytes) else args[1]
        _append("argv", " ".join(map(os.fsdecode, words)).encode("utf-8", "surrogateescape") + b"\n")


def _note_main() -> None:
    with open(os.path.join(_FOLDER, f"{os.getpid()}.main"), "wb") as file:
        file.write("\0".join(sys.orig_argv).encode("utf-8", "surrogateescape"))


if _FOLDER:
    for _name in ("send", "sendall", "sendto", "sendmsg"):
        _wrap(socket.socket, _name)
    for _name in ("send", "sendall", "write"):
        _wrap(ssl.SSLSocket, _name)
    _wrap(ssl.SSLObject, "write")
    _note_main()
    os.register_at_fork(after_in_child=_note_main)
    sys.addaudithook(_audit)
