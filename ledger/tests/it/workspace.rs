//! The shape of the workspace: which crate may know of which.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::collections::BTreeSet;
use std::path::Path;

/// Lower crates first; a crate may depend only on those before it.
const ORDER: [&str; 5] = ["ledger", "replay", "diff", "exporters", "ui"];

/// What must never reach the crates below the edge: web, templates of the web interface, runtime, policy engines.
const EDGE_ONLY: [&str; 5] = ["axum", "tokio", "tower-http", "clap", "indicatif"];

fn manifest(folder: &str) -> toml::Table {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap().parse().unwrap()
}

/// Every dependency of a crate, of every kind and for every target.
fn dependencies(table: &toml::Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            for (name, spec) in inner {
                // A renamed dependency is what it is, not what it is called.
                let real = spec.get("package").and_then(toml::Value::as_str);
                names.insert(real.unwrap_or(name).to_owned());
            }
        } else {
            names.extend(dependencies(inner));
        }
    }
    names
}

#[test]
fn crates_depend_only_downwards() {
    for (place, folder) in ORDER.iter().enumerate() {
        let manifest = manifest(folder);
        let (below, _) = ORDER.split_at(place);
        for name in dependencies(&manifest) {
            if let Some(other) = name.strip_prefix("verdict-") {
                assert!(below.contains(&other), "{folder} depends on {other}; allowed are {below:?}");
            }
            let edge = *folder == "ui" || !EDGE_ONLY.contains(&name.as_str());
            assert!(edge, "{folder} depends on {name}, which belongs to the edge (ui)");
        }
    }
    let ledger = dependencies(&manifest("ledger"));
    for foreign in ["regorus", "cedar-policy", "askama", "petgraph"] {
        assert!(!ledger.contains(foreign), "the ledger knows nothing of {foreign}");
    }
}

#[test]
fn every_member_is_in_the_order_and_takes_versions_and_lints_from_the_root() {
    let root = manifest("");
    let members = root["workspace"]["members"].as_array().unwrap();
    let members: Vec<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(members, ORDER);
    for folder in ORDER {
        let manifest = manifest(folder);
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{folder} has the workspace's lints"
        );
        for section in ["dependencies", "dev-dependencies"] {
            let Some(list) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for (name, spec) in list {
                let inherited = spec.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(inherited, "{folder} states its own version of {name}; versions live in the root");
            }
        }
    }
}

#[test]
fn the_project_stands_alone() {
    // Tests, builds and documents must not lean on anything beside the checkout.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let names: BTreeSet<String> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    let known = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "clippy.toml",
        "deny.toml",
        "deploy",
        "diff",
        "docs",
        "exporters",
        "fuzz",
        "ledger",
        "replay",
        "rustfmt.toml",
        "testdata",
        "ui",
        "askama.toml",
    ];
    for name in &names {
        assert!(known.contains(&name.as_str()), "{name} is not a part of the repository's frame");
    }
}

#[test]
fn the_fuzzers_run_the_crates_that_the_program_is_made_of() {
    const MEND: &str = "run: cp Cargo.lock fuzz/Cargo.lock && cargo fetch --manifest-path fuzz/Cargo.toml";
    let lock = |folder: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = std::fs::read_to_string(root.join(folder).join("Cargo.lock")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        table["package"].as_array().unwrap().clone()
    };
    let identity = |package: &toml::Value| {
        ["name", "version", "checksum"]
            .map(|key| package.get(key).and_then(toml::Value::as_str).map(str::to_owned))
    };
    let ours: BTreeSet<_> = lock("").iter().map(identity).collect();
    for package in lock("fuzz") {
        let name = package["name"].as_str().unwrap();
        // The engine, what it brings, and the fuzz crate itself.
        let own = ["arbitrary", "libfuzzer-sys", "verdict-fuzz"].contains(&name);
        assert!(
            own || ours.contains(&identity(&package)),
            "{name} is another one in fuzz/Cargo.lock; {MEND}"
        );
        if let Some(folder) = name.strip_prefix("verdict-").filter(|folder| *folder != "fuzz") {
            let locked = package["dependencies"].as_array().unwrap().iter();
            let locked: BTreeSet<_> =
                locked.map(|entry| entry.as_str().unwrap().split(' ').next().unwrap().to_owned()).collect();
            let wanted: BTreeSet<_> =
                manifest(folder)["dependencies"].as_table().unwrap().keys().cloned().collect();
            assert_eq!(locked, wanted, "dependencies of {folder} in fuzz/Cargo.lock; {MEND}");
        }
    }
}
