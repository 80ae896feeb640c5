use super::*;

const NOTE: &[u8] = include_bytes!("../../../tests/fixtures/rfc3161/note");
const RSA: (&[u8], &[u8]) = (
    include_bytes!("../../../tests/fixtures/rfc3161/rsa.tsr"),
    include_bytes!("../../../tests/fixtures/rfc3161/rsa.pem"),
);
const P256: (&[u8], &[u8]) = (
    include_bytes!("../../../tests/fixtures/rfc3161/p256.tsr"),
    include_bytes!("../../../tests/fixtures/rfc3161/p256.pem"),
);
const QUERY: &[u8] = include_bytes!("../../../tests/fixtures/rfc3161/query.tsq");

/// The nonce of the fixtures: the last eight bytes before the request for certificates.
fn nonce() -> [u8; 8] {
    *QUERY[..QUERY.len() - 3].last_chunk().unwrap()
}

#[test]
fn our_request_is_the_one_that_openssl_writes() {
    // OpenSSL's nonce need not have our first bit set; everything but the nonce is compared.
    let (ours, nonce) = request(NOTE, [0xff; 8]);
    assert_eq!(nonce, [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(request(NOTE, [0; 8]).1[0], 0x40, "never shorter than eight bytes");
    let (head, tail) = (..ours.len() - 11, ours.len() - 3..);
    assert_eq!(ours.len(), QUERY.len());
    assert_eq!(ours[head], QUERY[head]);
    assert_eq!(ours[tail.clone()], QUERY[tail]);
}

#[test]
fn tokens_by_openssl_are_read_and_verified() {
    for (response, certificate) in [RSA, P256] {
        let stamp = Timestamp::parse(response, NOTE, Some(nonce())).unwrap();
        assert!(stamp.time.starts_with("20") && stamp.time.ends_with('Z'), "{}", stamp.time);
        assert_eq!((stamp.policy.as_str(), stamp.response()), ("1.2.3.4.1", response));
        stamp.verify(&Certificate::parse(certificate).unwrap()).unwrap();
    }
}

#[test]
fn a_token_about_something_else_is_refused() {
    assert_eq!(Timestamp::parse(RSA.0, b"other", Some(nonce())), Err(TimestampError::Imprint));
    assert_eq!(Timestamp::parse(RSA.0, NOTE, Some([1; 8])), Err(TimestampError::Nonce));
    assert!(Timestamp::parse(RSA.0, NOTE, None).is_ok());
    let refused = include_bytes!("../../../tests/fixtures/rfc3161/refused.tsr");
    match Timestamp::parse(refused, NOTE, None) {
        Err(TimestampError::Status { status: 2, text }) => assert!(!text.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_certificate_and_another_purpose_are_refused() {
    let stamp = Timestamp::parse(RSA.0, NOTE, None).unwrap();
    let other = Certificate::parse(P256.1).unwrap();
    assert!(matches!(stamp.verify(&other), Err(TimestampError::Signature(_))));
    let stamp = Timestamp::parse(P256.0, NOTE, None).unwrap();
    let plain = Certificate::parse(include_bytes!("../../../tests/fixtures/rfc3161/plain.pem")).unwrap();
    assert!(matches!(stamp.verify(&plain), Err(TimestampError::Signature(_))));
    let mut late = Certificate::parse(P256.1).unwrap();
    assert!(late.time_stamping);
    late.not_after = "20000101000000".into();
    assert_eq!(
        stamp.verify(&late),
        Err(TimestampError::Signature("the certificate was not valid at that time"))
    );
    late = Certificate { time_stamping: false, ..Certificate::parse(P256.1).unwrap() };
    assert_eq!(
        stamp.verify(&late),
        Err(TimestampError::Signature("the certificate is not for time stamping"))
    );
}

/// What a flip in the embedded certificate changes is told by nobody, and matters to nobody: the certificate that
/// counts is the verifier's. Every other bit is covered by imprint, nonce, attributes or signature, or is form.
#[test]
fn every_flipped_bit_outside_of_the_embedded_certificate_and_the_form_is_noticed() {
    let (response, certificate) = P256;
    let certificate = Certificate::parse(certificate).unwrap();
    let good = Timestamp::parse(response, NOTE, Some(nonce())).unwrap();
    let mut unnoticed = Vec::new();
    for bit in 0..response.len() * 8 {
        let mut bad = response.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(stamp) = Timestamp::parse(&bad, NOTE, Some(nonce()))
            && stamp.verify(&certificate).is_ok()
        {
            assert_eq!((&stamp.time, &stamp.serial, &stamp.policy), (&good.time, &good.serial, &good.policy));
            unnoticed.push(bit / 8);
        }
    }
    let embedded = response.windows(certificate.der.len()).position(|part| part == certificate.der).unwrap();
    let outside = unnoticed.iter().filter(|at| !(embedded..embedded + certificate.der.len()).contains(at));
    // Versions, the status "granted with changes", and algorithm parameters: they change nothing that is told.
    let outside: std::collections::BTreeSet<_> = outside.collect();
    assert!(outside.len() < 40, "{outside:?}");
}

#[test]
fn every_cut_response_and_certificate_is_refused_without_a_panic() {
    for cut in 0..RSA.0.len() {
        assert!(Timestamp::parse(&RSA.0[..cut], NOTE, None).is_err(), "{cut}");
    }
    let der = Certificate::parse(RSA.1).unwrap().der;
    for cut in 0..der.len() {
        assert!(Certificate::parse(&der[..cut]).is_err(), "{cut}");
    }
    for bad in [
        &b""[..],
        b"-----BEGIN CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
    ] {
        assert!(Certificate::parse(bad).is_err());
    }
    let mut longer = RSA.0.to_vec();
    longer.push(0);
    assert!(Timestamp::parse(&longer, NOTE, None).is_err());
}

#[test]
fn times_are_read_as_they_are_written() {
    let read = |text: &str| generalized(text.as_bytes()).map(|(time, _)| time);
    assert_eq!(read("20261102102030Z").as_deref(), Some("2026-11-02T10:20:30Z"));
    assert_eq!(read("20261102102030.125Z").as_deref(), Some("2026-11-02T10:20:30.125Z"));
    for bad in
        ["20261302102030Z", "20261102102030", "2026110210203Z", "20261102102030.Z", "2026110210203xZ", "Z"]
    {
        assert_eq!(read(bad), None, "{bad}");
    }
    assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]), "1.2.840.113549");
}
