"""Reads a served log with packages that know nothing of Verdict. Run by interop_python.rs."""
import base64, json, sys, urllib.request
from types import SimpleNamespace

import cbor2, pymerkle, scitt_cose
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint

asked = json.loads(sys.argv[1])
get = lambda path: urllib.request.urlopen(f"{asked['url']}/{path}").read()

note = get("checkpoint").decode()
signed = SignedCheckpoint.from_text(note)
size, root = signed.checkpoint.log_size, signed.checkpoint.log_hash
[signature] = signed.signed_note.signatures
name, ident, packed = asked["key"].split("+", 2)
assert signature.name == name and signature.sig_hash.hex() == ident
assert note.split("\n")[2] == base64.b64encode(bytes.fromhex(root)).decode()
print("sigstore:", signed.checkpoint.origin, f"{size}, root of the checkpoint")

public = Ed25519PublicKey.from_public_bytes(base64.b64decode(packed)[1:])
signature = base64.b64decode(signature.signature)
public.verify(signature, signed.signed_note.note.encode())
try:
    public.verify(signature, signed.signed_note.note.encode() + b"\n")
except InvalidSignature:
    print("cryptography: signature holds, a changed text does not")

entries = []
for index in range(0, size, 256):
    width = min(256, size - index)
    bundle = get(f"tile/entries/{index // 256:03}" + (f".p/{width}" if width < 256 else ""))
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        entries.append(bundle[2:2 + length])
        bundle = bundle[2 + length:]
tree = pymerkle.InmemoryTree(algorithm="sha256")
for entry in entries:
    tree.append_entry(entry)
assert tree.get_state().hex() == root
print("pymerkle: root of the checkpoint")

picked = [0, 1, 255, 256, 511, size - 1]
paths = {}
for seq in picked:
    head, _, checkpoint = get(f"events/{seq}/proof").decode().partition("\n\n")
    assert checkpoint == note
    lines = head.split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", f"index {seq}"]
    paths[seq] = [base64.b64decode(line) for line in lines[2:]]
for seq in picked:
    # What it takes out of an entry of Rekor is a proof, a body and a root.
    proof = SimpleNamespace(log_index=seq, tree_size=size, hashes=paths[seq], root_hash=bytes.fromhex(root))
    inner = SimpleNamespace(inclusion_proof=proof, canonicalized_body=entries[seq])
    verify_merkle_inclusion(SimpleNamespace(_inner=inner))
print(f"sigstore: {len(picked)} inclusion proofs")

# RFC 9942: the same hashes in a COSE receipt (-8 EdDSA, 395 verifiable data structure 1, 396 proofs, -1 inclusion),
# signed over the root. What a log would sign is only the root, so that a key made here will do.
key = Ed25519PrivateKey.generate()
pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
protected = cbor2.dumps({1: -8, 395: 1})
root_signature = key.sign(cbor2.dumps(["Signature1", protected, b"", bytes.fromhex(root)]))
receipts = refused = 0
for seq in picked:
    assert scitt_cose.verify_inclusion(entries[seq].hex(), seq, size, [hash.hex() for hash in paths[seq]], root)
    proof = cbor2.dumps([size, seq, paths[seq]])
    receipt = cbor2.dumps(cbor2.CBORTag(18, [protected, {396: {-1: [proof]}}, None, root_signature]))
    result = scitt_cose.verify_receipt(receipt, leaf_entry_hex=entries[seq].hex(), log_public_key_pem=pem)
    assert not result.errors, result
    receipts += 1
    result = scitt_cose.verify_receipt(receipt, leaf_entry_hex=entries[seq][1:].hex(), log_public_key_pem=pem)
    refused += bool(result.errors)
print(f"scitt-cose: {len(picked)} inclusion proofs, {receipts} receipts, {refused} changed entries refused")

refused = 0
for case in asked["consistency"]:
    assert scitt_cose.verify_consistency(case["root"], root, case["old"], size, case["proof"]), case
    refused += not scitt_cose.verify_consistency(root, root, case["old"], size, case["proof"])
print(f"scitt-cose: {len(asked['consistency'])} consistency proofs, {refused} other roots refused")
