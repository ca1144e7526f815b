"""The node's half of encrypted sums: encrypt whole numbers under the agency's certified key.

Privacy:
    A ciphertext is semantically secure under the agency's key; encryption is randomised, so
    equal vectors give unlike ciphertexts.
"""

from collections.abc import Sequence

from nodes.contract.ckks import Scheme, dump


def encrypt(scheme: Scheme, key_bytes: bytes, blocks: Sequence[Sequence[int]]) -> tuple[bytes, ...]:
    """Encrypt blocks of whole numbers.

    Args:
        scheme: the named parameter set.
        key_bytes: the agency's public key, already checked against its certificate.
        blocks: from ``nodes.contract.tasks.sums.to_limbs``.

    Raises:
        BadCiphertextError: the key is not one of this set.
    """
    import tenseal.sealapi as seal

    encryptor = seal.Encryptor(scheme.context, scheme.public_key(key_bytes))
    encoder = seal.CKKSEncoder(scheme.context)
    sealed = []
    for block in blocks:
        plaintext, ciphertext = seal.Plaintext(), seal.Ciphertext()
        encoder.encode([float(value) for value in block], scheme.scale, plaintext)
        encryptor.encrypt(plaintext, ciphertext)
        sealed.append(dump(ciphertext))
    return tuple(sealed)
