"""What C2PA manifests are signed with: a certificate of this machine's own, made on first use, or one that is given.

C2PA wants a leaf certificate under an authority. Ours signs one leaf and its key is then forgotten, so nothing else can
be signed under it. A manifest signed so proves that the file is unchanged, not who made it: nobody else trusts the
authority.
"""

import datetime
import functools
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError, install_command, missing_extra
from simswap_jax.io import user_folders

EXTRA = install_command("provenance")
AUTHORITY = "authority.pem"  # file names in the folder
_CHAIN, _KEY = "signer.pem", "signer.key"
_DAYS = 3650

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Credentials:
    """What signs.

    Attributes:
      chain: the certificates in PEM, the signer's first.
      key: its private key in PEM, not encrypted.
      algorithm: C2PA's name of the signature: es256, es384, es512, ed25519 or ps256.
    """

    chain: bytes
    key: bytes
    algorithm: str

    def __repr__(self) -> str:
        """Without the key: representations end in logs."""
        return f"Credentials({self.algorithm})"


def certificate_folder() -> Path | None:
    """Where the local certificate lies: below ``SIMSWAP_JAX_CONFIG``, else below the user's configuration folder; None
    where there is no home.
    """
    folder = user_folders.config_folder()
    return None if folder is None else folder / "certificates"


def credentials_here() -> Credentials | None:
    """The machine's own, or None where there is no place for them: results then have no manifest, and the log says why.

    Raises:
      UserError: ``cryptography`` is missing.
    """
    _require_cryptography()
    try:
        return local_credentials()
    except UserError as error:
        _say_once(str(error))
        return None


@functools.cache
def _say_once(reason: str) -> None:
    _log.warning("simswap-jax: results get no C2PA manifest: %s", reason)


def local_credentials() -> Credentials:
    """The machine's own; made now if there are none yet, or if they have run out.

    Raises:
      UserError: ``cryptography`` is missing, or the folder cannot be written or holds something broken.
    """
    folder = certificate_folder()
    if folder is None:
        raise _no_place("the home folder", "this user has none")
    try:
        if (folder / _CHAIN).exists() and _expires(folder / _CHAIN):
            shutil.rmtree(folder)
        if not (folder / _CHAIN).exists():
            _create(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise _no_place(folder, reason) from error
    return read_credentials(folder / _CHAIN, folder / _KEY)


def _no_place(folder: Path | str, reason: str) -> UserError:
    return UserError(
        f"the certificate for C2PA manifests cannot be kept in {folder} ({reason}); name another folder in "
        "SIMSWAP_JAX_CONFIG, or drop the manifest with --no-c2pa-manifest.",
        "certificate-folder",
    )


def read_credentials(chain: Path, key: Path) -> Credentials:
    """Your own certificate.

    Args:
      chain: PEM: the signer's certificate, then those it stands under.
      key: PEM: its private key, not encrypted.

    Raises:
      UserError: a file is missing or is not that, the two do not belong together, or C2PA does not know such keys.
    """
    _require_cryptography()
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        chain_text, key_text = chain.read_bytes(), key.read_bytes()
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}); check the certificate's path.",
            "certificate-unreadable",
        ) from error
    try:
        certificates = x509.load_pem_x509_certificates(chain_text)
    except ValueError as error:
        raise UserError(
            f"{chain} holds no certificate in PEM; give the signer's, then those above it.", "certificate-invalid"
        ) from error
    try:
        private = load_pem_private_key(key_text, password=None)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{key} holds no private key in PEM without a password; give the certificate's.", "key-invalid"
        ) from error
    if private.public_key() != certificates[0].public_key():
        raise UserError(
            f"{key} is not the key of the first certificate in {chain}; give the two that belong together.",
            "key-mismatch",
        )
    return Credentials(chain_text, key_text, _algorithm(private, key))


def _algorithm(private: Any, path: Path) -> str:
    """C2PA's name of what a private key signs with."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    name = private.curve.name if isinstance(private, ec.EllipticCurvePrivateKey) else ""
    if name not in curves:
        raise UserError(
            f"{path} is a kind of key that C2PA does not know; use P-256, P-384, P-521, Ed25519 or RSA.",
            "key-unsupported",
        )
    return curves[name]


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise missing_extra("cryptography", "provenance", "a certificate") from error


def _expires(chain: Path) -> bool:
    """Whether a certificate ends within a day; one that cannot be read does not, and is reported where it is used."""
    _require_cryptography()
    from cryptography import x509

    try:
        end = x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc
    except ValueError:
        return False
    return end < datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)


def _create(folder: Path) -> None:
    """Make authority, signer and key, and put them in place together; who comes second takes what is there."""
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("simswap-jax local authority", authority_key, None, authority_key)
    signer = _certificate("simswap-jax local signer", key, authority, authority_key)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".certificates-", dir=folder.parent))  # for its owner's eyes only
    try:
        (temporary / AUTHORITY).write_bytes(authority.public_bytes(pem))
        (temporary / _CHAIN).write_bytes(signer.public_bytes(pem) + authority.public_bytes(pem))
        with os.fdopen(os.open(temporary / _KEY, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(secret)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not (folder / _CHAIN).exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _certificate(name: str, key: Any, issuer: Any, issuer_key: Any) -> Any:
    """An X.509 certificate as C2PA's profile wants it: the authority's own (``issuer`` None) or a signer's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "simswap-jax (this machine only)")
    subject = x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    top = issuer is None
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if top else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=top, path_length=0 if top else None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not top, key_cert_sign=top, crl_sign=top, decipher_only=False, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not top:
        email = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])  # what C2PA's profile takes for signing
        builder = builder.add_extension(email, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
