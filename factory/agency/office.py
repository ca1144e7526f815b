"""The agency's office: its home, and the acts by which its officials change the trust data.

An agency home is an identity home (actor id of the service, TLS certificate, sealing key)
with more in it:

    ca/            TLS authority
    keys/          also snapshot.pem and timestamp.pem, the online trust keys
    trust/         the published repository, with pending/ for what waits for registrars
    key-events/    signed statements of every key that came, changed or ended
    law.toml       the jurisdiction's profile, with what the deployer set
    agreements/    authorised-operation agreements
    registry.db    requests, rulings, grants and the chain of events

Root keys and registrars' keys are never here: root keys go to three folders that are then
taken offline, registrars sign in their own homes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from factory.agency import admission, authority, key_events, trust_repository
from factory.agency.cooperation import require_cooperation
from factory.agency.errors import AdmissionRefusedError, AgencyExistsError, NothingPendingError, RootRefusedError
from factory.agency.interface import require_interface
from factory.agency.protection import protected_until
from factory.agency.trust_repository import Change, OnlineKeys
from factory.files import locked, write_atomic
from factory.identity import Identity, create_identity, install_admission, load_identity
from factory.key_files import load_p256_key, prepare_folder, write_key_file
from factory.law.files import deployed, write_law
from factory.law.profile import Code, Profile
from factory.log.log import Log
from factory.trust import Trust, load_trust
from nodes.contract.enrolment import Admission, Enrolment, open_enrolment
from nodes.contract.messages import parse
from nodes.contract.trust import Actors, Role, Status, StatusItem

TARGETS = (
    "actors.json",
    "status.json",
    "release-policy.json",
    "tlog-policy.txt",
    "ca.crt",
    "policy-shapes.ttl",
    "he-public-key.json",
)
"""Targets the office publishes; the last two are optional (docs/reference/trust.md)."""

_RESPONSES = "responses"
_Act = Callable[[Actors], Actors | admission.AdmissionRefusal]


@dataclass(frozen=True, slots=True)
class Office:
    """An open agency home.

    Attributes:
        identity: of the agency's service.
        clock: optional fixed time, for simulations; None means the machine's clock.
    """

    identity: Identity
    clock: datetime | None = None

    @property
    def home(self) -> Path:
        """The agency home."""
        return self.identity.home

    @property
    def trust_folder(self) -> Path:
        """The published repository."""
        return self.home / "trust"

    @property
    def online(self) -> OnlineKeys:
        """The keys of snapshot and timestamp."""
        return OnlineKeys(*(_trust_key(self.home / "keys" / f"{role}.pem") for role in ("snapshot", "timestamp")))

    @property
    def authority(self) -> authority.Authority:
        """The TLS authority."""
        return authority.load_authority(self.home / "ca")

    def now(self) -> datetime:
        """The office's time, to the second."""
        return (self.clock or datetime.now(UTC)).replace(microsecond=0)

    def law(self) -> Profile:
        """Return the profile of the jurisdiction, from ``law.toml`` in the home.

        Raises:
            ProfileMalformedError: it is not there, or not what it must be.
            ProfileUnsetError: a word without a number is not set.
        """
        return deployed(self.home)

    def trust(self) -> Trust:
        """Return the published trust data, verified.

        Raises:
            TrustError: nothing is published, or it has expired.
        """
        return load_trust(self.trust_folder, now=self.now())

    def root(self) -> bytes:
        """The first root, to be handed over out of band."""
        return (self.trust_folder / "root.json").read_bytes()

    def admit(self, enrolment: bytes, *, roles: Sequence[Role] | None = None) -> Change:
        """Propose to admit an actor and issue its TLS certificate.

        Args:
            enrolment: the bytes of its ``enrolment.json``; an official has compared the digest.
            roles: what the agency lets it sign as, if fewer than it asks for.

        Raises:
            AdmissionRefusedError: the id or a key is taken, roles that stay apart would meet, a third party
                whose cooperation was not approved, or a node without a valid test report of its protection grade
                or without the interface test.
            ContractError: not a bundle signed by its own key.
        """
        bundle = open_enrolment(enrolment)
        if roles is not None:
            if not set(roles) <= set(bundle.roles):
                raise AdmissionRefusedError(f"expected roles among those {bundle.id} asks for")
            bundle = bundle.model_copy(update={"roles": tuple(roles)})
        until = self._until(bundle)
        if "node" in bundle.roles:
            require_interface(self.identity, bundle)
        return self._enrol(bundle, lambda actors: admission.admit(actors, bundle, now=self.now(), until=until))

    def rotate(self, enrolment: bytes) -> Change:
        """Propose new keys of an actor; the earlier key endorses them.

        Raises:
            AdmissionRefusedError: not listed, more than keys would change, or the test report of a node or the
                cooperation of a third party has lapsed.
            BadSignatureError: the earlier key does not endorse the bundle.
        """
        claimed = open_enrolment(enrolment)
        current = admission.current_entry(self._actors(), claimed.id, now=self.now())
        if current is None:
            raise AdmissionRefusedError(f"expected {claimed.id} in the list, with a key that counts now")
        bundle = open_enrolment(enrolment, previous=current.verify_key)
        until = self._until(bundle)
        return self._enrol(bundle, lambda actors: admission.rotate(actors, bundle, now=self.now(), until=until))

    def remove(self, actor_id: str, *, at: datetime | None = None) -> Change:
        """Propose that an actor takes no part from now on."""
        return self._change_actors(lambda actors: admission.remove(actors, actor_id, at=at or self.now()))

    def compromise(self, actor_id: str, *, since: datetime, keyid: str | None = None) -> Change:
        """Propose that nothing an actor signed since then, with this or any key, counts."""
        return self._change_actors(lambda actors: admission.compromise(actors, actor_id, since=since, keyid=keyid))

    def set_status(self, item: StatusItem) -> Change:
        """Propose a suspension or revocation."""
        return self._propose({"status.json": admission.with_status(self._status(), item).to_payload()})

    def clear_status(self, subject_kind: str, subject: str) -> Change:
        """Propose to lift a suspension.

        Raises:
            AdmissionRefusedError: none is in force, or it is a revocation.
        """
        changed = admission.without_status(self._status(), subject_kind, subject)
        if isinstance(changed, admission.AdmissionRefusal):
            raise AdmissionRefusedError(changed.message)
        return self._propose({"status.json": changed.to_payload()})

    def set_target(self, name: str, content: bytes) -> Change:
        """Propose new bytes of another target, e.g. ``release-policy.json`` or ``tlog-policy.txt``.

        Raises:
            ValueError: no target of this name, or one that has its own act.
        """
        if name not in TARGETS or name in {"actors.json", "status.json"}:
            raise ValueError(f"expected one of {', '.join(TARGETS[2:])}")
        return self._propose({name: content})

    def pending(self) -> Change:
        """Return what waits for the registrars."""
        return trust_repository.pending_change(self.trust_folder)

    def publish(self) -> int:
        """Publish what both registrars signed, and return the version of the list.

        The key events that follow from the list are kept beside it, until ``store_events`` logs them.

        Raises:
            NothingPendingError: nothing was proposed.
            SignatureMissingError: a registrar has not signed the list, or an event that follows from it.
        """
        version, payloads, actors = _pending_events(self.trust_folder)
        folder = self.home / key_events.FOLDER / str(version)
        if payloads:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            events = self.trust_folder / "pending" / key_events.FOLDER
            key_events.keep_events(events, folder, payloads, actors, signers_min=trust_repository.REGISTRARS)
        return trust_repository.publish(self.trust_folder, self.online, now=self.now())

    def store_events(self, log: Log) -> int:
        """Append the key events that wait to the log, and return how many envelopes that were.

        Raises:
            LogError: not appended, or not witnessed by a quorum; call again.
        """
        return key_events.store_events(self.home, self.trust().actors, log)

    def refresh(self) -> None:
        """Sign a new timestamp; to be done daily."""
        trust_repository.refresh(self.trust_folder, self.online, now=self.now())

    def response(self, actor_id: str) -> bytes:
        """Return the admission file of an actor that the published trust data names.

        Raises:
            NothingPendingError: it has not been admitted, or not published yet.
        """
        trust = self.trust()
        if admission.current_entry(trust.actors, actor_id, now=self.now()) is None:
            raise NothingPendingError(f"expected {actor_id} in the published trust data; publish its admission first")
        path = self.home / _RESPONSES / f"{actor_id}.crt"
        certificate = path.read_text(encoding="ascii") if path.is_file() else ""
        return Admission.from_files(actor_id, certificate, dict(trust.files)).to_bytes()

    def install_own(self) -> None:
        """Install the service's own certificate, once its admission is published.

        Raises:
            NothingPendingError: not published yet.
        """
        install_admission(self.identity, self.response(self.identity.id), now=self.now())

    def issue_server(self, public: ec.EllipticCurvePublicKey, name: str, *, hosts: Sequence[str] = ()) -> bytes:
        """Return the PEM of a server certificate for hub or relay."""
        return self.authority.issue_server(public, name, hosts=hosts, now=self.now())

    def _until(self, bundle: Enrolment) -> datetime | None:
        """Return an end of an actor's keys that comes from what its part rests on, or None."""
        ends = []
        if "operator" in bundle.roles:
            ends.append(require_cooperation(self.identity, self._actors(), bundle.organisation, now=self.now()))
        if "node" in bundle.roles:
            ends.append(protected_until(self.identity, bundle.id, now=self.now()))
        return min((end for end in ends if end is not None), default=None)

    def _enrol(self, bundle: Enrolment, change: _Act) -> Change:
        proposed = self._change_actors(change)
        if bundle.tls_csr:
            certificate = self.authority.issue_client(bundle.tls_csr, bundle.id, now=self.now())
            folder = self.home / _RESPONSES
            folder.mkdir(mode=0o700, exist_ok=True)
            write_atomic(folder / f"{bundle.id}.crt", certificate)
        return proposed

    def _change_actors(self, change: _Act) -> Change:
        changed = change(self._actors())
        if isinstance(changed, admission.AdmissionRefusal):
            raise AdmissionRefusedError(changed.message)
        return self._propose({"actors.json": changed.to_payload()})

    def _propose(self, changed: Mapping[str, bytes]) -> Change:
        with locked(self.home / "desk"):
            return trust_repository.stage(self.trust_folder, {**self._targets(), **changed}, now=self.now())

    def _targets(self) -> dict[str, bytes]:
        folder = self.trust_folder / "pending" / "targets"
        if (self.trust_folder / "pending" / "targets.json").is_file():
            return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        return trust_repository.published_targets(self.trust_folder)

    def _actors(self) -> Actors:
        return parse(Actors, self._targets()["actors.json"])

    def _status(self) -> Status:
        return parse(Status, self._targets()["status.json"])


def create_office(
    home: Path,
    *,
    actor_id: str,
    organisation: str,
    title_zh: str,
    title_en: str,
    registrars: Sequence[bytes],
    registrar_trust_keys: Sequence[bytes],
    root_folders: Sequence[Path],
    release_policy: bytes,
    tlog_policy: bytes,
    policy_shapes: bytes = b"",
    passphrase_file: Path | None = None,
    root_passphrases: Sequence[Path | None] = (),
    jurisdiction: Code = "NATIONAL",
    accept_proposed: bool = False,
    now: datetime | None = None,
) -> Office:
    """Make an agency: its keys, TLS authority, first root and first proposal of trust data.

    Args:
        home: folder for the agency.
        actor_id: of its service, usually ``agency``.
        organisation: the implementing agency.
        title_zh: name for people, Chinese.
        title_en: name for people, English.
        registrars: ``enrolment.json`` of at least two registrars.
        registrar_trust_keys: PEM public keys with which they sign trust data, in the same order.
        root_folders: three folders for the root keys, to be taken offline afterwards.
        release_policy: target ``release-policy.json``.
        tlog_policy: target ``tlog-policy.txt``.
        policy_shapes: target ``policy-shapes.ttl``, if there is to be one.
        passphrase_file: encrypts the agency's keys at rest; made if it is not there.
        root_passphrases: the same for the folders of root keys, one each.
        jurisdiction: profile that law.toml starts from.
        accept_proposed: set every word without a number as the decision record proposes.
        now: clock.

    Raises:
        AgencyExistsError: there is an agency here.
        AdmissionRefusedError: the registrars' bundles do not fit.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if (home / "trust" / "root.json").exists():
        raise AgencyExistsError(f"expected no agency in {home}")
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    if len(set(registrars)) < trust_repository.REGISTRARS or len(root_folders) < trust_repository.ROOT_KEYS:
        raise AdmissionRefusedError("expected two registrars and three folders for root keys")
    identity = create_identity(
        home,
        actor_id=actor_id,
        organisation=organisation,
        title_zh=title_zh,
        title_en=title_en,
        roles=("agency",),
        passphrase_file=passphrase_file,
        now=moment,
    )
    ca = authority.create_authority(home / "ca", organisation=organisation, now=moment, passphrase_file=passphrase_file)
    for role in ("snapshot", "timestamp"):
        write_key_file(home / "keys" / f"{role}.pem", ec.generate_private_key(ec.SECP256R1()))
    root_keys = make_root_keys(root_folders, root_passphrases)
    publics = [load_pem_public_key(pem) for pem in registrar_trust_keys]
    write_law(home, jurisdiction, accept_proposed=accept_proposed)
    office = Office(identity, clock=now)
    root = trust_repository.make_root(
        root_keys=root_keys,
        registrars=[public for public in publics if isinstance(public, ec.EllipticCurvePublicKey)],
        online=office.online,
        now=moment,
    )
    trust_repository.create_repository(office.trust_folder, root)
    empty = {
        "actors.json": Actors(actors=()).to_payload(),
        "status.json": Status(items=()).to_payload(),
        "release-policy.json": release_policy,
        "tlog-policy.txt": tlog_policy,
        "ca.crt": ca.certificate_pem,
        **({"policy-shapes.ttl": policy_shapes} if policy_shapes else {}),
    }
    trust_repository.stage(office.trust_folder, empty, now=moment)
    for enrolment in ((home / "enrolment.json").read_bytes(), *registrars):
        office.admit(enrolment)
    return office


def make_root_keys(
    folders: Sequence[Path], passphrases: Sequence[Path | None] = ()
) -> list[ec.EllipticCurvePrivateKey]:
    """Make a root key in each folder, ``root.pem``; the folders are taken offline afterwards.

    Raises:
        AgencyExistsError: there is a root key in one of them.
    """
    keys = []
    for number, folder in enumerate(folders):
        if (folder / "root.pem").exists():
            raise AgencyExistsError(f"expected no root key in {folder}; a root key is never overwritten")
        prepare_folder(folder, passphrases[number] if number < len(passphrases) else None)
        keys.append(ec.generate_private_key(ec.SECP256R1()))
        write_key_file(folder / "root.pem", keys[-1])
    return keys


def rotate_root(
    office: Office,
    *,
    earlier: Sequence[Path],
    folders: Sequence[Path],
    registrar_trust_keys: Sequence[bytes],
    passphrases: Sequence[Path | None] = (),
) -> int:
    """Replace the root keys, and name the registrars' keys anew; return the version of the new root.

    Everybody follows from the root that they pinned: the new one is signed by the old and the new threshold.

    Args:
        office: the agency.
        earlier: at least two of the folders with the root keys in force, brought back for this.
        folders: three folders for the new keys.
        registrar_trust_keys: PEM public keys with which the registrars sign trust data from now on.
        passphrases: encrypt the new root keys, one file each.

    Raises:
        HomeError: a root key cannot be read.
        RootRefusedError: fewer than two of the keys in force.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from tuf.api.exceptions import RepositoryError

    publics = [load_pem_public_key(pem) for pem in registrar_trust_keys]
    before = [load_p256_key(folder / "root.pem") for folder in earlier]
    trust_repository.require_root_keys(office.trust_folder, before)
    new = make_root_keys(folders, passphrases)
    try:
        root = trust_repository.next_root(
            trust_repository.current_root(office.trust_folder),
            root_keys=new,
            earlier_root_keys=before,
            registrars=[public for public in publics if isinstance(public, ec.EllipticCurvePublicKey)],
            online=office.online,
            now=office.now(),
        )
    except (RepositoryError, ValueError) as error:
        raise RootRefusedError(f"expected a root that follows the one in force: {error}") from error
    version = trust_repository.publish_root(office.trust_folder, root)
    trust_repository.refresh(office.trust_folder, office.online, now=office.now())
    return version


def open_office(home: Path, *, now: datetime | None = None) -> Office:
    """Open an agency home.

    Raises:
        HomeError: no identity here, or keys that others can read.
    """
    return Office(load_identity(home), clock=now)


def sign_trust(registrar: Identity, trust_folder: Path, *, now: datetime | None = None) -> Change:
    """Sign the pending trust data, and the key events in it, as one registrar from the registrar's own home.

    Raises:
        NothingPendingError: nothing waits.
        TrustInvalidError: it does not follow what is published.
    """
    _, payloads, _ = _pending_events(trust_folder)
    change = trust_repository.sign_pending(trust_folder, registrar.trust_key, now=now or datetime.now(UTC))
    if payloads:
        events = trust_folder / "pending" / key_events.FOLDER
        events.mkdir(exist_ok=True)
        key_events.sign_events(events, registrar.id, registrar.key, payloads)
    return change


def _pending_events(trust_folder: Path) -> tuple[int, list[bytes], Actors]:
    """Return version of the pending list, the payloads of its key events, and its actors."""
    version, proposed = trust_repository.pending_targets(trust_folder)
    published = trust_repository.published_targets(trust_folder)
    after = parse(Actors, proposed["actors.json"])
    before = parse(Actors, published["actors.json"]) if published else Actors(actors=())
    return version, key_events.derive(before, after, version=version), after


def _trust_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.is_file():
        raise NothingPendingError(f"expected the agency's online key {path}")
    return load_p256_key(path)
