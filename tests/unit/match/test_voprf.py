"""RFC 9497 on ristretto255: the RFC's own vectors, and what a cheating side would try."""

import pytest

from factory.client import oprf as asker
from nodes.contract import voprf
from nodes.contract.errors import BadElementError, BadProofError
from nodes.privacy import oprf as department
from nodes.privacy.oprf import EvaluationKey

SEED = bytes.fromhex("a3" * 32)
INFO = b"test key"
LONG = "5a" * 17
BLIND = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706"
BLIND_2 = "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e"

# RFC 9497, A.1.1: input, blind, blinded element, evaluation element, output.
OPRF_VECTORS = [
    (
        "00",
        BLIND,
        "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
        "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
        "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3ab9135e3bd69955851de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
    ),
    (
        LONG,
        BLIND,
        "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
        "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
        "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4f2a6413a6bf6fa5e19ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
    ),
]

OUT_1 = "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7da4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c"
OUT_2 = "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60356f4610bf816f27afdd84f47719e480906d27ecd994985890e5f539e7ea74b6"
# RFC 9497, A.1.2: inputs, blinds, blinded, evaluated, proof, the proof's random scalar, outputs.
VOPRF_VECTORS = [
    (
        ["00"],
        [BLIND],
        ["863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945"],
        ["aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e"],
        "ddef93772692e535d1a53903db24367355cc2cc78de93b3be5a8ffcc6985dd066d4346421d17bf5117a2a1ff0fcb2a759f58a539dfbe857a40bce4cf49ec600d",
        BLIND_2,
        [OUT_1],
    ),
    (
        [LONG],
        [BLIND],
        ["cc0b2a350101881d8a4cba4c80241d74fb7dcbfde4a61fde2f91443c2bf9ef0c"],
        ["60a59a57208d48aca71e9e850d22674b611f752bed48b36f7a91b372bd7ad468"],
        "401a0da6264f8cf45bb2f5264bc31e109155600babb3cd4e5af7d181a2c9dc0a67154fabf031fd936051dec80b0b6ae29c9503493dde7393b722eafdf5a50b02",
        BLIND_2,
        [OUT_2],
    ),
    (
        ["00", LONG],
        [BLIND, BLIND_2],
        [
            "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945",
            "90a0145ea9da29254c3a56be4fe185465ebb3bf2a1801f7124bbbadac751e654",
        ],
        [
            "aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e",
            "cc5ac221950a49ceaa73c8db41b82c20372a4c8d63e5dded2db920b7eee36a2a",
        ],
        "cc203910175d786927eeb44ea847328047892ddf8590e723c37205cb74600b0a5ab5337c8eb4ceae0494c2cf89529dcf94572ed267473d567aeed6ab873dee08",
        "419c4f4f5052c53c45f3da494d2b67b220d02118e0857cdbcf037f9ea84bbe0c",
        [OUT_1, OUT_2],
    ),
]


def test_the_proof_of_another_key_is_refused() -> None:
    mine, other = EvaluationKey.generate(), EvaluationKey.generate()
    sent = asker.blind(b"x")
    evaluated, proof = department.evaluate(other, [sent.element])
    with pytest.raises(BadProofError):
        asker.verify(mine.public, [sent.element], evaluated, proof)


def test_an_altered_evaluation_is_refused() -> None:
    key = EvaluationKey.generate()
    sent = [asker.blind(b"x").element, asker.blind(b"y").element]
    evaluated, proof = department.evaluate(key, sent)
    with pytest.raises(BadProofError):
        asker.verify(key.public, sent, evaluated[::-1], proof)
    with pytest.raises(BadProofError):
        asker.verify(key.public, sent, evaluated, bytes([proof[0] ^ 1]) + proof[1:])
    with pytest.raises(BadProofError):
        asker.verify(key.public, sent, evaluated[:1], proof)
    with pytest.raises(BadProofError):
        asker.verify(key.public, sent, evaluated, bytes(64))


@pytest.mark.parametrize("element", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31), b"short"])
def test_the_identity_and_what_is_no_element_are_refused(element: bytes) -> None:
    with pytest.raises(BadElementError):
        department.evaluate(EvaluationKey.generate(), [element])
    with pytest.raises(BadElementError):
        asker.finish(asker.blind(b"x"), element)


def test_keys_out_of_range_are_refused_and_reprs_hide_secrets() -> None:
    for secret in (bytes(32), b"\xff" * 32, b"1"):
        with pytest.raises(BadElementError):
            EvaluationKey(secret)
    key = EvaluationKey.generate()
    assert key.secret.hex() not in repr(key)
    assert repr(asker.blind(b"name")) == "Blinded()"


def test_an_input_over_the_limit_of_the_rfc_is_refused() -> None:
    with pytest.raises(BadElementError):
        asker.blind(bytes(2**16))


@pytest.mark.parametrize(("data", "blind", "element", "evaluated", "output"), OPRF_VECTORS)
def test_the_vectors_of_rfc_9497_a_1_1_hold(data: str, blind: str, element: str, evaluated: str, output: str) -> None:
    mode = voprf.OPRF_MODE
    key = EvaluationKey.derive(SEED, INFO, mode=mode)
    assert key.secret.hex() == "5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e"
    sent = asker.blind_with(bytes.fromhex(data), bytes.fromhex(blind), mode=mode)
    assert sent.element.hex() == element
    assert department.evaluate(key, [sent.element], mode=mode)[0][0].hex() == evaluated
    assert asker.finish(sent, bytes.fromhex(evaluated)).hex() == output
    assert department.evaluate_input(key, bytes.fromhex(data), mode=mode).hex() == output


@pytest.mark.parametrize(
    ("inputs", "blinds", "elements", "evaluated", "proof", "nonce", "outputs"), VOPRF_VECTORS, ids=["1", "2", "batch"]
)
def test_the_vectors_of_rfc_9497_a_1_2_hold(inputs, blinds, elements, evaluated, proof, nonce, outputs) -> None:
    key = EvaluationKey.derive(SEED, INFO)
    assert key.secret.hex() == "e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909"
    assert key.public.hex() == "c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e"
    sent = [
        asker.blind_with(bytes.fromhex(data), bytes.fromhex(blind)) for data, blind in zip(inputs, blinds, strict=True)
    ]
    blinded = [item.element for item in sent]
    assert [item.hex() for item in blinded] == elements
    images, fresh_proof = department.evaluate(key, blinded)
    assert [image.hex() for image in images] == evaluated
    assert department.prove(key, blinded, images, bytes.fromhex(nonce)).hex() == proof
    asker.verify(key.public, blinded, images, bytes.fromhex(proof))
    asker.verify(key.public, blinded, images, fresh_proof)
    assert [asker.finish(item, image).hex() for item, image in zip(sent, images, strict=True)] == outputs
