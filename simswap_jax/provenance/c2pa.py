"""The C2PA manifest of a result: signed, bound to the file's bytes, saying what made it and of what.

Needs the extra ``provenance``. No thumbnails, names or paths of inputs go in: only their hashes. Nothing is fetched
from the network, neither when signing nor when reading.
"""

import contextlib
import importlib.util
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.io.images import is_heic
from simswap_jax.provenance.certificates import AUTHORITY, Credentials, certificate_folder
from simswap_jax.provenance.label_xmp import Provenance

INPUTS = "org.simswap-jax.inputs"  # our assertion: role and SHA-256 of every input, and the other marks in the file
_MIME = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a phone's JPEG, with a preview behind it
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
    "GIF": "image/gif",
}
_BOX = b"jumdc2pa"  # how a C2PA store begins in any file


@dataclass(frozen=True)
class Manifest:
    """What a file's C2PA manifest says.

    Attributes:
      state: ``"trusted"`` (by this machine's authority), ``"valid"`` (unchanged, signer unknown) or ``"invalid"``.
      tool: name and version of the program that made it.
      signer: who signed.
      actions: (action, IPTC digital source type or "") in order.
      inputs: (role, SHA-256) as we write them; empty in other programs' manifests.
      problems: what validation found wrong, codes of the C2PA specification.
    """

    state: str
    tool: str
    signer: str
    actions: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]


def available() -> bool:
    """Whether manifests can be written here."""
    return all(importlib.util.find_spec(name) is not None for name in ("c2pa", "cryptography"))


def can_read() -> bool:
    """Whether manifests can be read here."""
    return importlib.util.find_spec("c2pa") is not None


def sign(
    path: Path,
    provenance: Provenance,
    credentials: Credentials,
    others: Sequence[str] = (),
    parent: str | Path | None = None,
) -> None:
    """Put a manifest into a picture file, in its place.

    Args:
      path: a PNG, JPEG or WebP that was written and will not be changed any more: the manifest binds its bytes.
      provenance: what the manifest says of the tool and the inputs.
      credentials: what signs it.
      others: names of the other marks that the file carries.
      parent: the picture that was edited: its own C2PA history, if it has one, is kept as an ingredient.

    Raises:
      UserError: the package is missing, or will not sign with this certificate.
    """
    c2pa = _c2pa()
    content = path.read_bytes()
    kind = _kind(content)
    history = _history(parent)
    signed = io.BytesIO()
    try:
        with c2pa.Context(_settings(c2pa)) as context:
            builder = c2pa.Builder(_definition(provenance, _MIME[kind], others, bool(history)), context=context)
            if history:
                builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
                builder.add_ingredient({"relationship": "parentOf"}, _MIME[_kind(history)], io.BytesIO(history))
            builder.sign(_signer(c2pa, credentials), _MIME[kind], io.BytesIO(content), signed)
    except c2pa.C2paError as error:
        if history:  # one that the library cannot take in; the result still gets a manifest of its own
            return sign(path, provenance, credentials, others)
        raise _refused(error) from error
    path.write_bytes(signed.getvalue())


def sign_video(
    path: Path,
    output: Path,
    mime: str,
    provenance: Provenance,
    credentials: Credentials,
    others: Sequence[str] = (),
    parent: tuple[Path, str] | None = None,
) -> None:
    """The same for a video file, from one file into another: it is never in memory as a whole.

    Args:
      path: an MP4 or MOV.
      output: where the signed one goes.
      mime: what C2PA calls its kind.
      provenance, credentials, others: as for `sign`.
      parent: the video that was edited, and its kind, where it brings a C2PA history along.
    """
    c2pa = _c2pa()
    try:
        with c2pa.Context(_settings(c2pa)) as context:
            builder = c2pa.Builder(_definition(provenance, mime, others, parent is not None), context=context)
            if parent is not None:
                builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
                with parent[0].open("rb") as original:
                    builder.add_ingredient({"relationship": "parentOf"}, parent[1], original)
            with path.open("rb") as unsigned, output.open("w+b") as signed:
                builder.sign(_signer(c2pa, credentials), mime, unsigned, signed)
    except c2pa.C2paError as error:
        if parent is not None:  # as above
            return sign_video(path, output, mime, provenance, credentials, others)
        raise _refused(error) from error


def read_video(path: Path, mime: str) -> Manifest:
    """As `read`, for a video file that is known to hold a manifest."""
    c2pa = _c2pa()
    try:
        with c2pa.Context(_settings(c2pa)) as context, path.open("rb") as file:
            return _manifest(json.loads(c2pa.Reader(mime, file, context=context).json()))
    except c2pa.C2paError as error:
        raise _broken(path, error) from error


def _definition(provenance: Provenance, mime: str, others: Sequence[str], edited: bool) -> str:
    """What a manifest says, as the library takes it."""
    agent = {"name": provenance.tool, "version": provenance.version}
    action: dict[str, Any] = {
        "action": "c2pa.edited" if edited else "c2pa.created",
        "digitalSourceType": provenance.source_type,
        "softwareAgent": agent,
        "description": "face swapped",
    }
    inputs = [{"role": role, "sha256": digest} for role, digest in provenance.inputs]
    manifest = {
        "claim_generator_info": [agent],
        "format": mime,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": INPUTS, "data": {"inputs": inputs, "other_marks": list(others)}},
        ],
    }
    return json.dumps(manifest)


def _signer(c2pa: Any, credentials: Credentials) -> Any:
    info = c2pa.C2paSignerInfo(credentials.algorithm.encode(), credentials.chain, credentials.key, None)
    return c2pa.Signer.from_info(info)


def _refused(error: Exception) -> UserError:
    return UserError(
        f"the C2PA manifest cannot be signed ({error}); check the certificate, or drop it with --no-c2pa-manifest.",
        "c2pa-signing",
    )


def _broken(path: str | Path, error: Exception) -> UserError:
    return UserError(f"the C2PA manifest of {path} is broken ({error}).", "c2pa-broken")


def has_manifest(path: str | Path) -> bool:
    """Whether the bytes of a file hold a C2PA store; needs no package, and says nothing of its worth."""
    return _BOX in Path(path).read_bytes()


def read(path: str | Path) -> Manifest | None:
    """What a picture file's manifest says, or None where there is none.

    Raises:
      UserError: the package is missing, or the manifest is too broken to be read.
    """
    content = Path(path).read_bytes()
    if _BOX not in content:
        return None
    c2pa = _c2pa()
    kind = _kind(content)
    if kind not in _MIME:
        raise UserError(
            f"{path} holds a C2PA manifest in a {kind or 'kind of file'} that is not read here.", "c2pa-format"
        )
    try:
        with c2pa.Context(_settings(c2pa)) as context:
            reader = c2pa.Reader(_MIME[kind], io.BytesIO(content), context=context)
            return _manifest(json.loads(reader.json()))
    except c2pa.C2paError as error:
        raise _broken(path, error) from error


def _manifest(store: dict[str, Any]) -> Manifest:
    """What we say of a manifest store, out of the library's report; anything may be missing from foreign ones."""
    active = store.get("manifests", {}).get(store.get("active_manifest"), {})
    assertions = [(item.get("label", ""), item.get("data") or {}) for item in active.get("assertions", [])]
    actions = [
        (str(action.get("action", "")), str(action.get("digitalSourceType", "")))
        for label, data in assertions
        if label.startswith("c2pa.actions")
        for action in data.get("actions", [])
    ]
    inputs = [
        (str(item.get("role", "")), str(item.get("sha256", "")))
        for label, data in assertions
        if label == INPUTS
        for item in data.get("inputs", [])
    ]
    agents = active.get("claim_generator_info") or [{"name": active.get("claim_generator", "")}]
    signature = active.get("signature_info") or {}
    problems = [str(item.get("code", "")) for item in store.get("validation_status") or []]
    return Manifest(
        state=str(store.get("validation_state", "invalid")).lower(),
        tool=" ".join(str(agents[0].get(field, "")) for field in ("name", "version")).strip(),
        signer=", ".join(str(signature[field]) for field in ("common_name", "issuer") if signature.get(field)),
        actions=tuple(actions),
        inputs=tuple(inputs),
        problems=tuple(problems),
    )


def _history(parent: str | Path | None) -> bytes | None:
    """The bytes of a picture that brings a C2PA history along; None for any other."""
    if parent is None:
        return None
    content = Path(parent).read_bytes()
    return content if _BOX in content and _kind(content) in _MIME else None


def _kind(content: bytes) -> str:
    """Pillow's name of a picture file's format, from its bytes; empty if it is none."""
    if is_heic(content):
        return "HEIF"  # which Pillow knows only once pillow-heif was needed
    try:
        with Image.open(io.BytesIO(content)) as image:
            return str(image.format)
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""


def _settings(c2pa: Any) -> Any:
    """Nothing from the network, no thumbnails, and this machine's own authority is trusted."""
    trust = {}
    folder = certificate_folder()
    with contextlib.suppress(OSError):  # none was made, or it is another user's
        if folder is not None:
            trust = {"trust": {"user_anchors": (folder / AUTHORITY).read_text(encoding="utf-8")}}
    quiet = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    return c2pa.Settings.from_dict({**trust, **quiet, "builder": {"thumbnail": {"enabled": False}}})


def _c2pa() -> Any:
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError) as error:
        raise missing_extra("c2pa-python", "provenance", f"a C2PA manifest ({error})") from error
    return c2pa
