//! Bundles in and out: directories, archives, names, limits and identity.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use verdict_replay::policy::bundle::{BUNDLE_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX};
use verdict_replay::policy::{Bundle, BundleError};

pub(crate) const SETTINGS: &str =
    "name = \"t\"\nversion = \"1\"\nengine = \"rego\"\nentrypoint = \"data.t.findings\"\n";

/// Makes a bundle of files in memory; `verdict.toml` is added unless it is given.
pub(crate) fn bundle(files: &[(&str, &str)]) -> Result<Bundle, BundleError> {
    let mut all = BTreeMap::from([("verdict.toml".to_owned(), SETTINGS.as_bytes().to_vec())]);
    all.extend(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
    Bundle::from_files(all)
}

pub(crate) fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/policies").join(name)
}

/// Name and content.
type Entry<'a> = (&'a str, &'a [u8]);

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        // The safe setter refuses the very names that are tested here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const TOML: (&str, &[u8]) = ("verdict.toml", SETTINGS.as_bytes());

#[test]
fn identity_is_what_coreutils_compute() {
    let bundle = bundle(&[
        ("policy/b.rego", "package t\n"),
        ("policy/a/z.rego", "package t\n"),
        (".manifest", "{\"revision\": \"7\"}"),
        (".signatures.json", "{\"signatures\": []}"),
        ("README.md", "\u{e9}\n"),
    ])
    .unwrap();
    // find . -type f ! -name .signatures.json -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum
    assert_eq!(
        bundle.digest().to_string(),
        "sha256:9f374ba60aa72e9a42d33d188933f8e186f9dd347f4caa5194c44767ba9db2c3"
    );
    assert_eq!(bundle.listing().len(), 5);
}

#[test]
fn a_directory_and_its_archives_are_the_same_bundle() {
    for name in ["v1", "v2"] {
        let loaded = Bundle::load(&testdata(name)).unwrap();
        let archive = loaded.archive();
        assert_eq!(archive, loaded.archive(), "two archives of one bundle have the same bytes");
        let back = Bundle::from_archive(&archive).unwrap();
        assert_eq!(back, loaded);
        assert_eq!(back.digest(), loaded.digest());
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), gzip(&archive)).unwrap();
        assert_eq!(Bundle::load(file.path()).unwrap(), loaded);
    }
}

#[test]
fn what_opa_and_tar_write_is_read() {
    let rego = b"package t\n".as_slice();
    let plain = Bundle::from_archive(&tar(&[TOML, ("policy/a.rego", rego)])).unwrap();
    for prefix in ["/", "./"] {
        let names =
            [format!("{prefix}verdict.toml"), format!("{prefix}policy/a.rego"), format!("{prefix}.git")];
        let bytes = tar(&[(&names[0], TOML.1), (&names[1], rego), (&names[2], b"left out")]);
        assert_eq!(Bundle::from_archive(&gzip(&bytes)).unwrap(), plain, "{prefix}");
    }
}

#[test]
fn hidden_files_and_editor_backups_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("verdict.toml"), SETTINGS).unwrap();
    let before = Bundle::load(dir.path()).unwrap();
    for name in [".DS_Store", "verdict.toml~", ".verdict.toml.swp", "#x#", "x.orig"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git/config"), "x").unwrap();
    assert_eq!(Bundle::load(dir.path()).unwrap(), before);
}

#[test]
fn names_that_escape_or_collide_are_refused_by_name() {
    let cases: [(&[Entry<'_>], &str); 7] = [
        (
            &[TOML, ("../x.rego", b"")],
            "`../x.rego` is not a name that a bundle may hold: it leads out of the bundle",
        ),
        (&[TOML, ("a/../../x", b"")], "leads out of the bundle"),
        (&[TOML, ("//x.rego", b"")], "`/x.rego` is not a name that a bundle may hold: it is absolute"),
        (&[TOML, ("C:/x.rego", b"")], "it is absolute"),
        (&[TOML, ("a\\x.rego", b"")], "it has a backslash"),
        (&[TOML, ("x.rego", b""), ("x.rego", b"")], "`x.rego` is in the archive twice"),
        (&[TOML, ("X.rego", b""), ("x.rego", b"")], "`X.rego` and `x.rego` differ in case only"),
    ];
    for (entries, message) in cases {
        let error = Bundle::from_archive(&tar(entries)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}\nshould say\n{message}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_refused_wherever_they_lead() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("verdict.toml"), SETTINGS).unwrap();
    fs::create_dir(dir.path().join("policy")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("policy/a.rego")).unwrap();
    let error = Bundle::load(dir.path()).unwrap_err();
    assert!(
        matches!(&error, BundleError::NotAFile { name, kind: "symbolic link" } if name == "policy/a.rego"),
        "{error}"
    );

    fs::remove_file(dir.path().join("policy/a.rego")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("policy/up")).unwrap();
    assert!(matches!(Bundle::load(dir.path()), Err(BundleError::NotAFile { .. })));

    for (kind, word) in [(tar::EntryType::Symlink, "symbolic link"), (tar::EntryType::Link, "hard link")] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, "policy/a.rego", "../../secret").unwrap();
        let error = Bundle::from_archive(&builder.into_inner().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`policy/a.rego` is a {word}")), "{error}");
    }
}

#[test]
fn broken_archives_are_refused() {
    let good = gzip(&tar(&[TOML, ("policy/a.rego", &[b' '; 4000])]));
    for cut in [3, good.len() / 2, good.len() - 1] {
        let error = Bundle::from_archive(&good[..cut]).unwrap_err();
        assert!(matches!(error, BundleError::Archive { .. }), "{cut}: {error}");
    }
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(Bundle::from_archive(&flipped).is_err(), "the checksum of gzip is looked at");
    let plain = tar(&[TOML]);
    assert!(matches!(
        Bundle::from_archive(&plain[..plain.len() - 1024]),
        Err(BundleError::Truncated { files: 1 })
    ));

    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "neither").unwrap();
    assert!(matches!(Bundle::load(file.path()), Err(BundleError::NotABundle { .. })));
    let error = Bundle::load(Path::new("no/such/place")).unwrap_err().to_string();
    assert_eq!(error, "cannot read no/such/place");
    let error = Bundle::from_archive(&tar(&[("policy/a.rego", b"package t")])).unwrap_err().to_string();
    assert!(error.contains("no verdict.toml") && error.contains("`entrypoint`"), "{error}");
}

#[test]
fn limits_hold_before_memory_is_spent() {
    let big = vec![b' '; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    let error = Bundle::from_archive(&gzip(&tar(&[TOML, ("big.json", &big)]))).unwrap_err();
    assert!(matches!(&error, BundleError::TooLarge { what, .. } if what == "big.json"), "{error}");

    // A bomb: a thousand times its size once it is unpacked.
    let bomb = gzip(&vec![0; usize::try_from(BUNDLE_BYTES_MAX).unwrap() + 1]);
    assert!(bomb.len() < 100_000);
    let error = Bundle::from_archive(&bomb).unwrap_err();
    assert!(
        matches!(&error, BundleError::TooLarge { what, .. } if what == "the unpacked archive"),
        "{error}"
    );

    let names: Vec<String> = (0..FILES_MAX).map(|n| format!("f{n}")).collect();
    let mut entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    entries.push(TOML);
    let error = Bundle::from_archive(&tar(&entries)).unwrap_err();
    assert!(matches!(error, BundleError::TooLarge { unit: "files", .. }), "{error}");
}

#[test]
fn settings_and_data_are_refused_with_their_line() {
    let error =
        bundle(&[("verdict.toml", &format!("{SETTINGS}entripoint = \"x\"\n"))]).unwrap_err().to_string();
    assert!(error.starts_with("verdict.toml:5:1: unknown field `entripoint`"), "{error}");
    let error = bundle(&[("data/limits.json", "{\n  \"max\": 0.5\n}")]).unwrap_err().to_string();
    assert!(error.starts_with("data/limits.json:2:") && error.contains("`/max` is 0.5"), "{error}");
    let error = bundle(&[("data/limits.json", "{")]).unwrap_err().to_string();
    assert!(error.starts_with("data/limits.json:1:"), "{error}");
    let error = bundle(&[(".manifest", "{\"roots\": [\"x\"]}"), ("data/a.json", "{\"y\": 1}")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("`data.y` is outside the roots"), "{error}");
}
