"""The TLS authority issues what a connection needs and refuses what does not fit."""

import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from factory.agency.authority import check_certificate, create_authority, load_authority
from factory.agency.errors import CertificateError
from factory.identity import certificate_request
from factory.key_files import UnsafeKeyFileError
from tests.offices import NOW


def test_a_request_that_is_not_one_is_refused(tmp_path):
    authority = create_authority(tmp_path / "ca", organisation="bureau", now=NOW)
    with pytest.raises(CertificateError):
        authority.issue_client("hello", "node-east", now=NOW)


def test_a_certificate_of_another_authority_is_refused(tmp_path):
    one = create_authority(tmp_path / "one", organisation="bureau", now=NOW)
    two = create_authority(tmp_path / "two", organisation="bureau", now=NOW)
    pem = one.issue_client(certificate_request(ec.generate_private_key(ec.SECP256R1()), "a").decode(), "a", now=NOW)
    with pytest.raises(CertificateError):
        check_certificate(pem, two.certificate_pem, now=NOW)


@pytest.mark.parametrize("offset", [timedelta(minutes=-6), timedelta(days=366)])
def test_a_certificate_outside_its_window_is_refused(tmp_path, offset):
    authority = create_authority(tmp_path / "ca", organisation="bureau", now=NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = authority.issue_client(certificate_request(key, "a").decode(), "a", now=NOW)
    with pytest.raises(CertificateError):
        check_certificate(pem, authority.certificate_pem, now=NOW + offset)


def test_the_authority_s_key_is_private(tmp_path):
    create_authority(tmp_path / "ca", organisation="bureau", now=NOW)
    (tmp_path / "ca" / "ca.pem").chmod(0o644)
    with pytest.raises(UnsafeKeyFileError):
        load_authority(tmp_path / "ca")


def test_the_name_in_the_certificate_is_the_admitted_one(tmp_path):
    authority = create_authority(tmp_path / "ca", organisation="bureau", now=NOW)
    request = certificate_request(ec.generate_private_key(ec.SECP256R1()), "somebody-else").decode()
    certificate = x509.load_pem_x509_certificate(authority.issue_client(request, "node-east", now=NOW))
    assert certificate.subject.rfc4514_string() == "CN=node-east"


def test_a_server_certificate_names_loopback_and_given_hosts(tmp_path):
    authority = load_authority_after_create(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = authority.issue_server(key.public_key(), "relay", hosts=["relay.example", "10.0.0.5"], now=NOW)
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "relay.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "10.0.0.5"]
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert check_certificate(pem, authority.certificate_pem, now=NOW) == timedelta(days=365)


def load_authority_after_create(tmp_path):
    create_authority(tmp_path / "ca", organisation="bureau", now=NOW)
    return load_authority(tmp_path / "ca")
