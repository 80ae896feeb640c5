//! Bytes to take away.

use verdict_ledger::note::{Checkpoint, TlogProof, VerifierKey};

use crate::site::{Site, testdata};

#[tokio::test]
async fn the_entry_is_the_exact_bytes_and_the_proof_verifies_with_the_operators_key() {
    let site = Site::full();
    let key = VerifierKey::parse(&site.ledger.verifier_key()).unwrap();
    for seq in 0..site.ledger.head().size {
        let entry = site.get(&format!("/events/{seq}/entry")).await;
        assert_eq!(entry.body, site.ledger.entry(seq).unwrap().unwrap());
        let proof = site.get(&format!("/events/{seq}/proof")).await.text();
        let proof = TlogProof::parse(&proof).unwrap();
        proof.verify(&entry.body, &key).unwrap();
        let mut changed = entry.body.clone();
        changed[10] ^= 1;
        proof.verify(&changed, &key).unwrap_err();
    }
    let note = site.get("/checkpoint").await;
    assert_eq!(note.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(Checkpoint::verify(&note.text(), &key).unwrap().size, site.ledger.head().size);
}

#[tokio::test]
async fn downloads_never_run_as_our_pages() {
    let site = Site::full();
    let first = site.ledger.traces(None, 100).unwrap().last().unwrap().first_seq;
    for path in
        [format!("/events/{first}/entry"), format!("/events/{first}/body"), format!("/events/{first}/proof")]
    {
        let answer = site.get(&path).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text());
        assert!(answer.header("content-disposition").starts_with("attachment; filename=\""), "{path}");
        assert!(answer.header("content-security-policy").contains("sandbox"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let body = site.get(&format!("/events/{first}/body")).await;
    assert_eq!(body.body, std::fs::read(testdata("native/harbor-goods.ndjson")).unwrap());
    assert_eq!(site.get("/events/0/body").await.status.as_u16(), 404, "the first entry came from no request");
    assert_eq!(site.get("/events/9999/entry").await.status.as_u16(), 404);
}
