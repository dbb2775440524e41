"""The text of signed checkpoints: as others write it, and refused when it was touched."""

from __future__ import annotations

import base64
import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dee_es.adapters.anchors import create_signer, load_signer
from dee_es.core.evidence.checkpoint import Checkpoint, opened, origin_of, parse_body, signed
from dee_es.core.evidence.signed_note import VerifierKey, parse_key, sign_note
from dee_es.errors import InvalidInput

STATED = Checkpoint("dee-es/abc", 42, bytes(range(32)))


def test_the_text_is_that_of_the_specification(tmp_path: Path) -> None:
    signer = create_signer(tmp_path / "key", "dee-es/abc")
    note = signed(STATED, signer.key, signer.sign)
    origin, size, root, empty, signature, end = note.split("\n")
    assert (origin, size, empty, end) == ("dee-es/abc", "42", "", "")
    assert base64.b64decode(root) == STATED.root
    dash, name, encoded = signature.split(" ")
    assert (dash, name) == ("\u2014", "dee-es/abc")
    held = base64.b64decode(encoded)
    # By hand, from the specification: id of the key, then a signature of the text before.
    public = signer.key.public
    assert held[:4] == hashlib.sha256(b"dee-es/abc\n\x01" + public).digest()[:4]
    text = f"{origin}\n{size}\n{root}\n".encode()
    Ed25519PublicKey.from_public_bytes(public).verify(held[4:], text)
    assert opened(note, signer.key, signer.verify) == STATED


def test_a_signature_of_somebody_else_beside_it_does_no_harm(tmp_path: Path) -> None:
    ours = create_signer(tmp_path / "ours", "dee-es/abc")
    other = create_signer(tmp_path / "other", "witness.example")
    note = signed(STATED, other.key, other.sign)
    with pytest.raises(InvalidInput, match="not signed by dee-es/abc"):
        opened(note, ours.key, ours.verify)
    line = signed(STATED, ours.key, ours.sign).splitlines()[-1]
    assert opened(note + line + "\n", ours.key, ours.verify) == STATED


@pytest.mark.parametrize("place", range(0, 150, 3))
def test_a_touched_checkpoint_is_refused(tmp_path: Path, place: int) -> None:
    signer = create_signer(tmp_path / "key", "dee-es/abc")
    note = signed(STATED, signer.key, signer.sign)
    touched = note[:place] + ("x" if note[place] != "x" else "y") + note[place + 1 :]
    with pytest.raises(InvalidInput, match="checkpoint"):
        opened(touched, signer.key, signer.verify)


@pytest.mark.parametrize("held", ["", "!", "AAAA", "no base64", "\u2014"])
def test_a_line_that_holds_no_signature_signs_nothing(tmp_path: Path, held: str) -> None:
    signer = create_signer(tmp_path / "key", "dee-es/abc")
    text, _, _ = signed(STATED, signer.key, signer.sign).rpartition("\n\u2014")
    with pytest.raises(InvalidInput, match="not signed by dee-es/abc"):
        opened(f"{text}\n\u2014 dee-es/abc {held}\n", signer.key, signer.verify)


@pytest.mark.parametrize("text", ["", "no end", "one\n\nanother\n"])
def test_a_text_that_nobody_could_open_again_is_not_signed(tmp_path: Path, text: str) -> None:
    signer = create_signer(tmp_path / "key", "x")
    with pytest.raises(ValueError, match="newline"):
        sign_note(text, signer.key, signer.sign)


@pytest.mark.parametrize("note", ["", "\n\n", "a\n1\n", "a\n1\nAAAA\n\n\u2014 x y\n", "x" * 99_999])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, note: str) -> None:
    signer = create_signer(tmp_path / "key", "x")
    with pytest.raises(InvalidInput):
        opened(note, signer.key, signer.verify)


ROOT = base64.b64encode(STATED.root).decode()


@pytest.mark.parametrize(
    "body",
    [
        *(f"a\n{size}\n{ROOT}\n" for size in ("01", "-1", "+1", " 1", "1_0", "x", "")),
        f"\n1\n{ROOT}\n",
        *(f"a\n1\n{root}\n" for root in ("", "AAAA", f"{ROOT}AAAA", f"!{ROOT}", f"{ROOT[:-1]}")),
        "a\n1",
        "a",
    ],
)
def test_a_body_has_origin_size_and_root(body: str) -> None:
    with pytest.raises(InvalidInput):
        parse_body(body)


def test_a_body_may_be_of_an_empty_log() -> None:
    assert parse_body(f"a\n0\n{ROOT}\n") == Checkpoint("a", 0, STATED.root)


def test_a_note_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    signer = create_signer(tmp_path / "key", "dee-es/abc")
    note = signed(STATED, signer.key, signer.sign)
    line = "\u2014 witness.example AAAA\n"
    many = 64 * 1024 // len(line)
    assert opened(note + line * (many // 2), signer.key, signer.verify) == STATED
    with pytest.raises(InvalidInput, match="is not a signed note"):
        opened(note + line * many, signer.key, signer.verify)


@pytest.mark.parametrize("change", ["cut", "longer", "no dash", "odd character", "no last newline"])
def test_a_signature_is_a_line_of_its_form(tmp_path: Path, change: str) -> None:
    signer = create_signer(tmp_path / "key", "dee-es/abc")
    text, _, line = signed(STATED, signer.key, signer.sign).rpartition("\n\n")
    dash, name, encoded = line.rstrip("\n").split(" ")
    held = base64.b64decode(encoded)
    note = {
        "cut": f"{dash} {name} {base64.b64encode(held[:-1]).decode()}\n",
        "longer": f"{dash} {name} {base64.b64encode(held + b'x').decode()}\n",
        "no dash": f"{name} {encoded}\n",
        "odd character": f"{dash} {name} !{encoded}\n",
        "no last newline": f"{dash} {name} {encoded}",
    }[change]
    # Whatever it is asked about: what is no signature is never handed to whoever verifies one.
    with pytest.raises(InvalidInput):
        opened(f"{text}\n\n{note}", signer.key, lambda signature, message: True)


def test_keys_are_handed_on_as_text(tmp_path: Path) -> None:
    signer = create_signer(tmp_path / "key", "dee-es/abc")
    assert parse_key((tmp_path / "key.pub").read_text()) == signer.key
    for text in ("", "a+b", "a+b+c", str(signer.key).replace("abc", "abd"), str(signer.key)[:-4]):
        with pytest.raises(InvalidInput, match="verifier key"):
            parse_key(text)
    for name, public in (("", signer.key.public), ("dee-es/abc", signer.key.public[:-1])):
        with pytest.raises(InvalidInput, match="must be an Ed25519 key"):
            parse_key(str(VerifierKey(name, public)))
    with pytest.raises(InvalidInput, match=r"must be NAME\+ID\+KEY"):
        parse_key(str(signer.key).replace("+A", "+!A"))
    # A witness's key, say: the name and the id fit, but what it makes are other signatures.
    other = base64.b64encode(b"\x04" + signer.key.public).decode()
    with pytest.raises(InvalidInput, match="must be an Ed25519 key"):
        parse_key(f"dee-es/abc+{signer.key.key_id.hex()}+{other}")


def test_the_key_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = create_signer(path, "n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_signer(path, "n").key == made.key
    assert "PRIVATE" not in repr(made)
    with pytest.raises(InvalidInput, match="exists already"):
        create_signer(path, "n")
    path.chmod(0o640)
    with pytest.raises(InvalidInput, match="chmod 600"):
        load_signer(path, "n")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_signer(tmp_path / "none", "n")
    other = tmp_path / "other"
    other.write_text("secret text")
    other.chmod(0o600)
    with pytest.raises(InvalidInput, match="no private key") as caught:
        load_signer(other, "n")
    assert "secret text" not in str(caught.value)


def test_logs_have_different_origins() -> None:
    assert origin_of(b"a" * 32) != origin_of(b"b" * 32)
    assert origin_of(bytes(32)) == "dee-es/" + "00" * 16
