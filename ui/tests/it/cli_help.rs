//! The help texts, as users read them.

use super::cli_support::Bench;

#[test]
fn help_of_every_command() {
    let bench = Bench::empty();
    let commands: [&[&str]; 61] = [
        &[],
        &["init"],
        &["ingest"],
        &["serve"],
        &["token", "create"],
        &["token", "list"],
        &["token", "revoke"],
        &["config", "show"],
        &["config", "check"],
        &["fsck"],
        &["verify"],
        &["checkpoint", "show"],
        &["anchor", "run"],
        &["anchor", "verify"],
        &["anchor", "list"],
        &["anchor", "check-config"],
        &["witness"],
        &["witness", "init"],
        &["policy", "publish"],
        &["policy", "activate"],
        &["policy", "history"],
        &["policy", "diff"],
        &["policy", "check"],
        &["policy", "test"],
        &["policy", "input"],
        &["contract", "show"],
        &["contract", "use"],
        &["contract", "run"],
        &["contract", "report"],
        &["contract", "release"],
        &["pricing", "show"],
        &["pricing", "use"],
        &["cost"],
        &["replay", "run"],
        &["replay", "diff"],
        &["replay", "list"],
        &["replay", "show"],
        &["replay", "delete"],
        &["replay", "what-if"],
        &["trace", "graph"],
        &["incident", "show"],
        &["incident", "graph"],
        &["explain"],
        &["find"],
        &["event", "show"],
        &["remap"],
        &["rebuild"],
        &["export", "evidence"],
        &["export", "events"],
        &["export", "log"],
        &["redact"],
        &["hold", "place"],
        &["hold", "list"],
        &["retention", "set"],
        &["retention", "run"],
        &["keys", "show"],
        &["keys", "generate"],
        &["keys", "rotate"],
        &["keys", "revoke"],
        &["keys", "encrypt"],
        &["restore"],
    ];
    let mut all = String::new();
    for command in commands {
        let said = bench.run(&[command, &["--help"]].concat()).ok();
        assert!(said.err.is_empty(), "{said:#?}");
        all.push_str(&format!("$ verdict {} --help\n{}\n", command.join(" "), said.out));
    }
    // The default comes from the environment that the test sets.
    let all = all.replace(bench.dir.path().to_str().unwrap_or_default(), "DIR");
    insta::assert_snapshot!(all);
}

#[test]
fn completions_for_every_shell() {
    let bench = Bench::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(bench.run(&["completions", shell]).ok().out.contains("verdict"), "{shell}");
    }
}
