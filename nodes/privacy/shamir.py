"""Threshold shares of short secrets: Shamir over GF(2**128), in blocks of 16 bytes.

Privacy: fewer shares than the threshold are independent of the secret.

Source:
    Shamir, "How to share a secret", CACM 22(11), 1979; pycryptodome's implementation.
"""

BLOCK_BYTES = 16


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Return one share per holder; any ``threshold`` of them rebuild the secret.

    The share of holder ``i`` (from 0) is the value at ``x = i + 1`` of one random polynomial
    per block of 16 bytes, so it is as long as the secret.

    Raises:
        ValueError: the length is not a multiple of 16, or the threshold is out of range.
    """
    from Crypto.Protocol.SecretSharing import Shamir

    if not secret or len(secret) % BLOCK_BYTES or not 2 <= threshold <= holders:
        raise ValueError("expected blocks of 16 bytes and 2 <= threshold <= holders")
    shares = [bytearray() for _ in range(holders)]
    for at in range(0, len(secret), BLOCK_BYTES):
        for index, part in Shamir.split(threshold, holders, secret[at : at + BLOCK_BYTES], ssss=False):
            shares[index - 1] += part
    return [bytes(share) for share in shares]
