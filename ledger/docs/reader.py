#!/usr/bin/env python3
"""Verifies a whole log, as `verdict export log` writes it or `verdict serve` serves it, without Verdict.

usage: reader.py LOG KEYS [DISCLOSURES]      needs the package cryptography; blake3, if there, adds the entry chain
LOG is a directory or a URL; KEYS the file that `verdict keys show` printed, got by another way than the log;
DISCLOSURES the file disclosures.jsonl. Exit codes: 0 everything holds, 1 something does not, 2 usage.
"""
import base64, hashlib, json, pathlib, sys, urllib.request
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
try: import blake3
except ImportError: blake3 = None
place = ["arguments"]  # what is being read, for the message
def at(name): place[0] = name; return name
def check(holds, what):
    if not holds: raise ValueError(what)
def sha256(*parts): return hashlib.sha256(b"".join(parts)).digest()
def link(context, *parts):  # the chain: BLAKE3 in key derivation mode
    return "b3:" + blake3.blake3(b"".join(parts), derive_key_context=f"verdict 2026-11 {context} v1").hexdigest()
def unbase64(text):  # one spelling only: not even unused bits are free
    data = base64.b64decode(text, validate=True)
    check(base64.b64encode(data).decode() == text, "base64 is not canonical")
    return data

def read_checkpoint(note, keys):  # C2SP signed-note and tlog-checkpoint
    text, blank, lines = note.rpartition("\n\n")
    origin, size, root = text.split("\n")[:3]
    check(blank and lines.endswith("\n") and size == str(int(size)), "it is not a checkpoint")
    known, signers = {}, []
    for key, *limits in (line.split() for line in keys.split("\n") if line.split("+")[0] == origin):
        limits = {"from": 0, "to": size} | dict(limit.split("=") for limit in limits)  # of a key that was replaced
        if not int(limits["from"]) <= int(size) <= int(limits["to"]): continue
        ident, packed = key.split("+", 2)[1:]
        check(sha256(origin.encode(), b"\n", unbase64(packed)).hex()[:8] == ident, f"{key} is not what its hash says")
        known[bytes.fromhex(ident)] = key, Ed25519PublicKey.from_public_bytes(unbase64(packed)[1:])
    for line in lines[:-1].split("\n"):
        dash, name, signature = line.split(" ")
        check(dash == "\u2014", "it has a line that is no signature")
        key, public = known.get(unbase64(signature)[:4], (None, None))
        if name == origin and key:  # signatures by others are ignored: witnesses may add theirs
            public.verify(unbase64(signature)[4:], text.encode() + b"\n")
            signers.append(key)
    check(signers, "it has no signature by any of the given keys")
    return origin, int(size), unbase64(root), signers
def tree(hashes):  # RFC 6962 section 2.1, from leaf hashes up
    if len(hashes) < 2: return hashes[0] if hashes else sha256()
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01", tree(hashes[:split]), tree(hashes[split:]))
def digests(value):  # RFC 9901: what an entry says of the values that it does not hold
    for name, member in value.items() if isinstance(value, dict) else ():
        yield from member if name == "_sd" else digests(member)

def verify(log, keys, disclosures):
    base = log.rstrip("/") if "://" in log else pathlib.Path(log).resolve().as_uri()
    get = lambda name: urllib.request.urlopen(f"{base}/{at(name)}").read()
    def tiles(kind, count):  # C2SP tlog-tiles: 256 hashes or entries a file, the index in elements of three digits
        for first in range(0, count, 256):
            digits, rest, width = f"{first // 256 % 1000:03}", first // 256000, min(256, count - first)
            while rest: digits, rest = f"x{rest % 1000:03}/{digits}", rest // 1000
            yield first, width, get(f"tile/{kind}/{digits}" + (f".p/{width}" if width < 256 else ""))
    origin, size, root, signers = read_checkpoint(get("checkpoint").decode(), keys)
    given, hashes, prev, time, name = {}, [], None, "", origin
    for line in map(json.loads, disclosures): given.setdefault(line["seq"], []).append(line["d"])
    for (first, width, bundle), (_, _, leaves) in zip(tiles("entries", size), tiles(0, size)):
        for seq in range(first, first + width):
            at(f"entry {seq}")
            end = 2 + int.from_bytes(bundle[:2], "big")  # a length of 16 bits, then the exact bytes that are hashed
            check(2 < end <= len(bundle), "it is cut")
            data, bundle = bundle[2:end], bundle[end:]
            entry = json.loads(data)
            if not seq or entry["type"] == "restore.performed": name = entry["origin"]  # a restored log has a new name
            check(entry["v"] == 1 and entry["seq"] == str(seq) and entry["origin"] == name, "it belongs elsewhere")
            check(entry["ts"] >= time, "its time is before that of the entry before it")
            if blake3 and not seq:  # the first entry commits to the log itself
                uuid, key = bytes.fromhex(entry["body"]["uuid"]), entry["body"]["verifier_key"].encode()
                prev = link("genesis", name.encode(), b"\n", uuid, b"\n", key)
            check(not blake3 or entry["prev"] == prev, "the chain is broken: it does not follow the entry before it")
            open_digests = list(digests(entry["body"]))
            for encoded in given.pop(str(seq), []):  # each value must be one that the entry commits to, once
                open_digests.remove(base64.urlsafe_b64encode(sha256(encoded.encode())).decode().rstrip("="))
            hashes.append(sha256(b"\x00", data))
            check(leaves[(seq - first) * 32:][:32] == hashes[seq], "its hash is not the one in its tile")
            prev, time = blake3 and link("entry chain", data), entry["ts"]
        check(not bundle and len(leaves) == width * 32, "its bundle or tile goes on behind it")
    at("disclosures"), check(not given, f"there are values of entries that are not there: {sorted(given)[:3]}")
    level, whole = 0, hashes
    while len(hashes) > 255:  # the tree as others read it: every hash of a tile is the root of a full tile below
        level, hashes = level + 1, [tree(hashes[n:n + 256]) for n in range(0, len(hashes) - 255, 256)]
        for first, width, tile in tiles(level, len(hashes)):
            check(tile == b"".join(hashes[first:first + width]), "it does not hold the roots of the tiles below it")
    at("checkpoint"), check(tree(whole) == root, "the entries lead to another root")
    check(name == origin, f"it is of {origin}, and the entries are of {name}")
    chain = "chain holds" if blake3 else "chain not checked (no blake3)"
    return f"{size} entries of {origin}, root {root.hex()}, {chain}, {len(disclosures)} values, signed by {signers[0]}"

if __name__ == "__main__":
    if len(sys.argv) not in (3, 4): sys.exit(print(__doc__, file=sys.stderr) or 2)
    keys, *values = (pathlib.Path(path).read_text() for path in sys.argv[2:])
    try: print("ok:", verify(sys.argv[1], keys, list(filter(None, "".join(values).split("\n")))))
    except Exception as error:  # whatever goes wrong inside, the log is not what it should be
        sys.exit(print(f"bad: {place[0]}: {str(error) or type(error).__name__}") or 1)
