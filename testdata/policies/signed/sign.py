"""Signs `bundle` as `opa sign` does, with keys that openssl makes; run in this folder, once.

The format is written down in OPA's documentation (management: bundles, signing); nothing of Verdict is used.
"""
import base64, hashlib, json, pathlib, subprocess, tempfile

ROOT = pathlib.Path("bundle")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def digest(path):
    if path.name in ("data.json", ".manifest"):
        # Go's encoder escapes the two line separators of Unicode and nothing else that Python leaves alone.
        text = json.dumps(json.loads(path.read_text()), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        data = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()
    else:
        data = path.read_bytes()
    return hashlib.sha256(data).hexdigest()


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, stdout=subprocess.PIPE, check=True).stdout


def integers(der):
    """r and s of an ECDSA signature, 32 bytes each."""
    parts, at = [], 2
    for _ in range(2):
        length = der[at + 1]
        parts.append(int.from_bytes(der[at + 2 : at + 2 + length], "big").to_bytes(32, "big"))
        at += 2 + length
    return b"".join(parts)


files = sorted(path for path in ROOT.rglob("*") if path.is_file() and path.name != ".signatures.json")
listing = [{"name": str(path.relative_to(ROOT)), "hash": digest(path), "algorithm": "SHA-256"} for path in files]
payload = {"files": listing, "iat": 1763670000, "iss": "opa-sign", "scope": "write", "keyid": "harbor"}
with tempfile.TemporaryDirectory() as folder:
    for name, alg, make in [
        ("rs256", "RS256", ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        ("es256", "ES256", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ]:
        private = f"{folder}/{name}.pem"
        openssl("genpkey", *make, "-out", private)
        pathlib.Path(f"keys/{name}.pem").write_bytes(openssl("pkey", "-in", private, "-pubout"))
        message = b64(json.dumps({"alg": alg, "typ": "JWT"}).encode()) + "." + b64(json.dumps(payload).encode())
        signature = openssl("dgst", "-sha256", "-sign", private, data=message.encode())
        if alg == "ES256":
            signature = integers(signature)
        text = json.dumps({"signatures": [message + "." + b64(signature)]}) + "\n"
        pathlib.Path(f"{name}.signatures.json").write_text(text)
