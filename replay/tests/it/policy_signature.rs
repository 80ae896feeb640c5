//! OPA's bundle signatures, against a bundle that Python and openssl signed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use verdict_replay::policy::Bundle;
use verdict_replay::policy::signature::{Algorithm, Key, SignatureError, Verified, verify};

use crate::policy::testdata;

type Files = BTreeMap<String, Vec<u8>>;

fn files(algorithm: &str) -> Files {
    let mut files = Bundle::load(&testdata("signed/bundle")).unwrap().files().clone();
    let signatures = std::fs::read(testdata(&format!("signed/{algorithm}.signatures.json"))).unwrap();
    files.insert(".signatures.json".to_owned(), signatures);
    files
}

fn public(algorithm: &str) -> Vec<u8> {
    std::fs::read(testdata(&format!("signed/keys/{algorithm}.pem"))).unwrap()
}

fn key(algorithm: &str) -> Key {
    Key::read(&public(algorithm), None, None, Some("write".to_owned())).unwrap()
}

fn check(files: Files, key: &Key) -> Result<Verified, SignatureError> {
    verify(&Bundle::from_files(files).unwrap(), key)
}

fn refused(files: Files, key: &Key) -> String {
    check(files, key).unwrap_err().to_string()
}

#[test]
fn what_openssl_signed_holds() {
    for (name, algorithm) in [("rs256", "RS256"), ("es256", "ES256")] {
        let verified = check(files(name), &key(name)).unwrap();
        assert_eq!((verified.algorithm, verified.key_id.as_str()), (algorithm, "harbor"));
    }
    let named =
        Key::read(&public("rs256"), Some(Algorithm::Rs256), Some("harbor".into()), Some("write".into()))
            .unwrap();
    assert!(check(files("rs256"), &named).is_ok());
}

#[test]
fn layout_of_structured_files_is_no_change_and_content_is() {
    let key = key("rs256");
    let mut all = files("rs256");
    all.insert("harbor/data.json".into(), b"{\"limits\":{\"a\":[true,null,\"x/y\"],\"calls\":3}}".to_vec());
    assert!(check(all.clone(), &key).is_ok());
    all.insert("harbor/data.json".into(), b"{\"limits\":{\"a\":[true,null,\"x/y\"],\"calls\":4}}".to_vec());
    let error = refused(all, &key);
    assert!(
        error.starts_with("harbor/data.json is not the file that was signed: its SHA-256 is "),
        "{error}"
    );

    let mut all = files("rs256");
    all.get_mut("policy/harbor.rego").unwrap().push(b'\n');
    assert!(refused(all, &key).starts_with("policy/harbor.rego is not the file that was signed"));
}

#[test]
fn files_more_and_files_less_are_named() {
    let key = key("es256");
    let mut all = files("es256");
    all.insert("policy/more.rego".into(), b"package harbor.more\n".to_vec());
    assert_eq!(
        refused(all, &key),
        "policy/more.rego is in the bundle and not in its signature: it was added after signing"
    );
    let mut all = files("es256");
    all.remove("harbor/data.json");
    assert_eq!(
        refused(all, &key),
        "harbor/data.json is in the signature and not in the bundle: it was taken away after signing"
    );
    let mut all = files("es256");
    all.remove(".signatures.json");
    assert!(matches!(check(all, &key), Err(SignatureError::Unsigned)));
}

#[test]
fn another_key_algorithm_id_or_scope_is_refused() {
    assert!(matches!(check(files("es256"), &key("rs256")), Err(SignatureError::Algorithm { .. })));
    let with = |id: Option<&str>, scope: Option<&str>| {
        let key = Key::read(&public("rs256"), None, id.map(str::to_owned), scope.map(str::to_owned)).unwrap();
        refused(files("rs256"), &key)
    };
    assert!(with(Some("other"), Some("write")).contains("the key `harbor` and not with `other`"));
    assert!(with(None, None).contains("the scope `write` and not for ``"));
    assert!(with(None, Some("read")).contains("not for `read`"));
}

/// Takes the token apart, lets `change` change it, and puts it together again.
fn forged(algorithm: &str, change: impl Fn(&mut Value, &mut Value, &mut Vec<u8>)) -> Files {
    let mut all = files(algorithm);
    let file: Value = serde_json::from_slice(&all[".signatures.json"]).unwrap();
    let token = file["signatures"][0].as_str().unwrap();
    let parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    let mut header = serde_json::from_slice(&parts[0]).unwrap();
    let mut payload = serde_json::from_slice(&parts[1]).unwrap();
    let mut signature = parts[2].clone();
    change(&mut header, &mut payload, &mut signature);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let token = format!(
        "{}.{}.{}",
        encode(header.to_string().as_bytes()),
        encode(payload.to_string().as_bytes()),
        encode(&signature)
    );
    all.insert(".signatures.json".into(), json!({"signatures": [token]}).to_string().into_bytes());
    all
}

#[test]
fn a_forged_token_is_refused() {
    let key = key("rs256");
    let lists = |payload: &mut Value| payload["files"][0]["hash"] = json!("00");
    assert!(matches!(
        check(forged("rs256", |_, payload, _| lists(payload)), &key),
        Err(SignatureError::Wrong)
    ));
    let flipped = forged("rs256", |_, _, signature| signature[7] ^= 1);
    assert!(matches!(check(flipped, &key), Err(SignatureError::Wrong)));
    // Whoever has the public key could sign with it as a secret, were the token asked for its algorithm.
    let confused = forged("rs256", |header, payload, signature| {
        header["alg"] = json!("HS256");
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &public("rs256"));
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload.to_string())
        );
        *signature = ring::hmac::sign(&secret, message.as_bytes()).as_ref().to_vec();
    });
    assert!(matches!(check(confused, &key), Err(SignatureError::Algorithm { .. })));
    let none = forged("rs256", |header, _, signature| {
        header["alg"] = json!("none");
        signature.clear();
    });
    assert!(matches!(check(none, &key), Err(SignatureError::Algorithm { .. })));
}

#[test]
fn a_shared_secret_works_when_it_is_asked_for() {
    let secret = b"not a public key";
    let key = |bytes: &[u8]| Key::read(bytes, Some(Algorithm::Hs256), None, Some("write".into())).unwrap();
    let signed = forged("rs256", |header, payload, signature| {
        header["alg"] = json!("HS256");
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload.to_string())
        );
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        *signature = ring::hmac::sign(&secret, message.as_bytes()).as_ref().to_vec();
    });
    assert!(check(signed.clone(), &key(b"not a public key\n")).is_ok());
    assert!(matches!(check(signed, &key(b"another")), Err(SignatureError::Wrong)));
}

#[test]
fn keys_and_files_that_are_none_say_what_is_wrong() {
    let read = |bytes: &[u8], algorithm| Key::read(bytes, algorithm, None, None).unwrap_err().to_string();
    assert!(read(b"secret", None).contains("expected a public key in PEM"));
    assert!(read(&public("rs256"), Some(Algorithm::Hs256)).contains("a secret is not"));
    assert!(read(&public("rs256"), Some(Algorithm::Es256)).contains("it is for RS256, not for ES256"));
    assert!(read(b"", Some(Algorithm::Hs512)).contains("empty"));
    assert!(read(&[0xff], None).contains("not PEM"));
    let ps = Key::read(&public("rs256"), Some(Algorithm::Ps384), None, None).unwrap();
    assert!(matches!(check(files("rs256"), &ps), Err(SignatureError::Algorithm { wanted: "PS384", .. })));
    let with = |text: &str| {
        let mut all = files("rs256");
        all.insert(".signatures.json".into(), text.as_bytes().to_vec());
        refused(all, &key("rs256"))
    };
    for (text, why) in [
        ("{}", "missing field `signatures`"),
        ("{\"signatures\": []}", "0 tokens"),
        ("{\"signatures\": [\"a\", \"b\"]}", "2 tokens"),
        ("{\"signatures\": [\"a.b\"]}", "no JWT"),
        ("{\"signatures\": [\"?.b.c\"]}", "no base64url"),
        ("{\"signatures\": [\"e30.e30.e30\"]}", "missing field `alg`"),
    ] {
        assert!(with(text).contains(why), "{text}: {}", with(text));
    }
}
