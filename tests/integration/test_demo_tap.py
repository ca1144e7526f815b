"""The tap of the main job's tests hears what it is there to hear, and the search recognises a text in disguise."""

import base64
import gzip
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.conftest import TAP
from tests.tap.recordings import occurring, recordings

TEXT = "丁一 11010119900101123X"

TALK = """
import asyncio, socket, ssl, sys, threading
how, pem, text = sys.argv[1], sys.argv[2], sys.argv[3].encode()
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain(pem)
client = ssl.create_default_context(cafile=pem)

async def over_asyncio():
    async def answer(reader, writer):
        writer.write(text + b" answer"); await writer.drain(); writer.close()
    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
    assert await reader.read() == text + b" answer"
    writer.close(); listening.close()

def over_sockets(tls):
    listening = socket.create_server(("127.0.0.1", 0))
    def answer():
        connection, _ = listening.accept()
        with server.wrap_socket(connection, server_side=True) if tls else connection as open_one:
            open_one.recv(100)
    thread = threading.Thread(target=answer); thread.start()
    plain = socket.create_connection(listening.getsockname())
    if how == "sendmsg":
        plain.sendmsg([text[:5], text[5:]])
    else:
        with client.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain as open_one:
            open_one.sendall(text) if how != "send" else open_one.send(text)
    plain.close(); thread.join(); listening.close()

asyncio.run(over_asyncio()) if how == "asyncio" else over_sockets(how == "tls")
"""


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("how", ["send", "sendall", "sendmsg", "tls", "asyncio"])
def test_what_is_sent_is_heard_before_it_is_encrypted(pem, tmp_path, how):
    environment = {**os.environ, "PYTHONPATH": str(TAP), "SHUFANG_TEST_TAP": str(tmp_path)}
    subprocess.run([sys.executable, "-P", "-c", TALK, how, str(pem), TEXT], check=True, env=environment, timeout=60)
    (heard,) = recordings(tmp_path)
    assert TEXT.encode() in heard.sent
    assert occurring(heard.sent, {TEXT, "something else"}) == {TEXT}
    assert {host for _, host, _ in heard.peers} == {"127.0.0.1"}
    assert heard.words[-1] == TEXT


def test_a_process_that_is_started_or_split_off_is_heard_too(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TAP), "SHUFANG_TEST_TAP": str(tmp_path)}
    code = (
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'pass', 'child'], check=True)\n"
        "pid = os.fork()\n"
        "os.waitpid(pid, 0) if pid else os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    heard = recordings(tmp_path)
    assert len(heard) == 3
    assert [recording.words[-1] for recording in heard].count("child") == 1
    assert any(line.endswith("child") for recording in heard for line in recording.started)


def test_an_address_elsewhere_would_be_noticed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TAP), "SHUFANG_TEST_TAP": str(tmp_path)}
    code = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('0.0.0.0', 0))\n"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    (heard,) = recordings(tmp_path)
    assert heard.peers == (("socket.bind", "0.0.0.0", 0),)


@pytest.mark.parametrize(
    "disguise",
    [
        lambda text: text.encode("gb18030"),
        lambda text: text.encode("utf-16-le"),
        lambda text: base64.b64encode(b"x" + text.encode()),
        lambda text: base64.b64encode(b"xy" + text.encode() + b"z"),
        lambda text: base64.urlsafe_b64encode(text.encode()),
        lambda text: text.encode().hex().encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: b"HTTP/1.1 200\r\n\r\n" + gzip.compress(text.encode()),
        lambda text: text.encode("ascii", "backslashreplace"),
    ],
)
def test_a_text_in_disguise_is_found(disguise):
    assert occurring(disguise(TEXT), {TEXT}) == {TEXT}
    assert occurring(disguise("another text of the same kind"), {TEXT}) == set()
