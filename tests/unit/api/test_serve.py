"""The served platform as a process: in the clear on loopback alone, with strong TLS elsewhere, and it ends when told."""

import signal
import subprocess
import sys

import httpx
import pytest

from factory.api.serve import ServeError, require_private, tls_context
from tests import offices
from tests.unit.hub.certificates import Authority


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "example.org"])
def test_nothing_is_served_in_the_clear_to_others(host):
    with pytest.raises(ServeError, match="--tls-certificate"):
        require_private(host, has_tls=False)
    require_private(host, has_tls=True)
    require_private("127.0.0.1", has_tls=False)


@pytest.mark.requirement("SEC-MLPS")
@pytest.mark.parametrize("ciphers", ["AES128-SHA", "DHE-RSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "nonsense"])
def test_weak_suites_are_refused(tmp_path, ciphers):
    api = Authority(tmp_path).issue("api", server=True)
    assert tls_context(api.cert_path, api.key_path)
    with pytest.raises(ServeError):
        tls_context(api.cert_path, api.key_path, ciphers)


def test_a_process_serves_and_ends_when_told(tmp_path):
    home = offices.world(tmp_path).office.home
    command = [sys.executable, "-m", "factory.cli", "serve", "--home", str(home), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        document = httpx.get(url, timeout=30).json()
        assert "/v1/requests" in document["paths"]
        assert httpx.get(url.replace("/openapi.json", "/v1/me"), timeout=30).status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
