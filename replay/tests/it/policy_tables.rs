//! Table cases: for both engines, with file and line of what fails, and coverage.

use std::collections::BTreeMap;

use verdict_replay::input;
use verdict_replay::policy::check::check;
use verdict_replay::policy::test::{Outcome, TestReport, run};
use verdict_replay::policy::{Bundle, PolicyError};

use crate::policy::testdata;

const REGO: &str = "name = \"t\"\nversion = \"1\"\nengine = \"rego\"\nentrypoint = \"data.t.findings\"\n";
const RULES: &str = "package t\n\nfindings contains {\"effect\": \"allow\", \"rule\": \"a\"} if input.action.name == \"x\"\n\n\
    findings contains {\n\t\"effect\": \"block\", \"rule\": \"b\",\n\t\"obligations\": [{\"kind\": \"notify\", \"params\": {\"role\": \"r\"}}],\n} if {\n\tinput.action.arguments.n > 1\n}\n";
const CEDAR: &str = "@id(\"a\")\npermit (principal, action, resource == Tool::\"x\");\n\n@id(\"b\") @obligation(\"notify(role=r)\")\nforbid (principal, action, resource) when {\n\
    context.action has arguments && context.action.arguments.integers.hasTag(\"n\") && context.action.arguments.integers.getTag(\"n\") > 1 };\n";

fn bundle(engine: &str, tables: &[(&str, &str)]) -> Bundle {
    let (settings, file, rules) = match engine {
        "rego" => (REGO, "policy/t.rego", RULES),
        _ => (crate::policy_cedar::SETTINGS, "policy/t.cedar", CEDAR),
    };
    let mut files = BTreeMap::from([
        ("verdict.toml".to_owned(), settings.as_bytes().to_vec()),
        (file.to_owned(), rules.as_bytes().to_vec()),
    ]);
    files.extend(tables.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
    Bundle::from_files(files).unwrap()
}

fn outcomes(report: &TestReport) -> Vec<String> {
    let line = |test: &verdict_replay::policy::test::TestResult| {
        let said = match &test.outcome {
            Outcome::Pass => "pass".to_owned(),
            Outcome::Skip => "skip".to_owned(),
            Outcome::Fail { detail } => format!("fail {detail}"),
            Outcome::Error { detail } => format!("error {detail}"),
        };
        format!("{}:{} {}: {said}", test.file, test.line, test.name)
    };
    report.tests.iter().map(line).collect()
}

const TOML: &str = r#"# Cases
[base]
agent = { name = "a", inherited = false }
action = { name = "x" }

[[cases]]
name = "allowed"
effect = "allow"
rules = ["a"]
obligations = []

[[cases]]
name = "many"
input.action.arguments = { n = 2 }
effect = "block"
rules = ["b"]
findings = ["a", "b"]
obligations = [{ kind = "notify", params = { role = "r" } }]

[[cases]]
name = "wrong"
effect = "require_approval"
rules = ["a", "c"]
obligations = [{ kind = "seal" }]

[[cases]]
name = "later"
skip = true
effect = "block"

[[cases]]
name = "no schema"
input.schema = "other"
error = "missing_input"

[[cases]]
name = "no error"
remove = ["/agent"]
error = "engine_error"
"#;

#[test]
fn cases_pass_fail_and_are_skipped_for_both_engines() {
    for engine in ["rego", "cedar"] {
        let report = run(&bundle(engine, &[("tests/t.toml", TOML)])).unwrap();
        assert_eq!(
            outcomes(&report),
            [
                "tests/t.toml:6 allowed: pass",
                "tests/t.toml:12 many: pass",
                "tests/t.toml:20 wrong: fail the effect is allow (by a), not require_approval; rules: missing c; obligations: missing seal()",
                "tests/t.toml:26 later: skip",
                "tests/t.toml:31 no schema: pass",
                "tests/t.toml:36 no error: fail the decision is allow, not the error engine_error",
            ],
            "{engine}"
        );
        assert_eq!((report.passed(), report.failures(), report.skipped()), (3, 2, 1));
        assert_eq!(report.covered_basis_points(), 10_000, "{engine}: {:?}", report.coverage);
    }
}

#[test]
fn json_cases_are_the_same_and_null_takes_away() {
    let json = "{\"base\": {\"action\": {\"name\": \"x\"}, \"session\": \"s\"},\n \"cases\": [\n  {\"name\": \"one\", \"effect\": \"allow\"},\n\n  {\"name\": \"two\",\n   \"input\": {\"action\": {\"name\": \"y\"}, \"session\": null}, \"effect\": \"allow\"}]}";
    let report = run(&bundle("cedar", &[("tests/t.json", json)])).unwrap();
    assert_eq!(
        outcomes(&report),
        ["tests/t.json:3 one: pass", "tests/t.json:5 two: fail the effect is block (by no rule), not allow"]
    );
    // The forbid never held: one of two policies.
    assert_eq!(report.covered_basis_points(), 5_000);
    assert_eq!((report.coverage[0].covered, report.coverage[0].not_covered.as_slice()), (1, &[4][..]));
}

#[test]
fn tables_that_are_none_are_problems_with_their_place() {
    let problems = |path: &str, text: &str| -> Vec<String> {
        let bundle = bundle("rego", &[(path, text)]);
        let found: Vec<String> = check(&bundle).iter().map(ToString::to_string).collect();
        let refused = run(&bundle);
        assert_eq!(matches!(refused, Err(PolicyError::Invalid { .. })), !found.is_empty(), "{found:?}");
        found
    };
    for (path, text, wanted) in [
        (
            "tests/t.toml",
            "[[cases]]\nname = \"n\"\nefect = \"block\"\n",
            "tests/t.toml:3:1: error: unknown field `efect`",
        ),
        ("tests/t.toml", "x = 1\n", "tests/t.toml:1:1: error: unknown field `x`"),
        (
            "tests/t.toml",
            "\n[[cases]]\nname = \"n\"\n",
            "tests/t.toml:2: error: the case `n` expects nothing",
        ),
        (
            "tests/t.toml",
            "[[cases]]\nname = \"n\"\neffect = \"block\"\ninput.action.nmae = \"x\"\n",
            "tests/t.toml:1: error: the input of the case `n` is none: /action/nmae does not exist; there are arguments",
        ),
        (
            "tests/t.toml",
            "[[cases]]\nname = \"n\"\neffect = \"block\"\ninput.action.arguments.x = 1.5\n",
            "/action/arguments/x is 1.5",
        ),
        (
            "tests/t.toml",
            "[[cases]]\nname = \"n\"\neffect = \"block\"\nremove = [\"/user\"]\n",
            "removes `/user`, which its input does not have",
        ),
        ("tests/t.json", "{\"cases\": [\n {\"name\": \"n\",\n  \"effect\": \"deny\"}]}", "tests/t.json:3:"),
        ("tests/t.json", "{\"cases\": [", "tests/t.json:1:"),
    ] {
        let found = problems(path, text);
        assert!(found.iter().any(|problem| problem.contains(wanted)), "{text}: {found:?}");
    }
    assert!(
        problems("tests/fixtures/other.json", "[1]").is_empty(),
        "fixtures below a folder are not tables"
    );
    assert!(problems("tests/data.json", "{\"x\": 1}").is_empty(), "OPA's data is no table");
}

#[test]
fn a_file_that_no_test_reaches_counts() {
    let more = ("policy/more.rego", "package more\n\nhelper if {\n\tinput.session == \"s\"\n}\n");
    let report = run(&bundle("rego", &[("tests/t.toml", TOML), more])).unwrap();
    let untouched = report.coverage.iter().find(|file| file.file == more.0).unwrap();
    assert_eq!((untouched.covered, untouched.not_covered.as_slice()), (0, &[4][..]));
    assert!(report.covered_basis_points() < 10_000);
}

#[test]
fn the_minimal_input_is_one_and_is_what_is_wrong_otherwise() {
    assert_eq!(input::nonconformity(&input::minimal()), None);
    crate::input::conforms(&input::minimal());
    for (folder, document) in crate::corpus::inputs() {
        assert_eq!(input::nonconformity(&document), None, "{folder}");
    }
}

#[test]
fn the_bundles_of_testdata_pass_and_are_covered() {
    for (name, at_least) in [("v1", 9_000), ("v2", 9_000), ("cedar", 10_000)] {
        let report = run(&Bundle::load(&testdata(name)).unwrap()).unwrap();
        assert_eq!(report.failures(), 0, "{name}: {:#?}", outcomes(&report));
        assert!(
            report.covered_basis_points() >= at_least,
            "{name}: {} {:?}",
            report.covered_basis_points(),
            report.coverage
        );
    }
}
