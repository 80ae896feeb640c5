//! What can be known about Rego sources without evaluating them: whether they compile, which rules they hold,
//! and what in them would make an evaluation depend on anything but its input.
//!
//! Works on the syntax tree of the very parser that evaluates, so that nothing is read in two ways.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use regorus::unstable::{BUILTINS, Expr, Module, Rule, RuleHead, Span};
use regorus::{Engine, Rc};
use verdict_ledger::event::Effect;

use super::bundle::{Bundle, SETTINGS_FILE};
use super::check::{Problem, Severity};
use super::decision::RuleRef;
use super::engine::panic_text;
use super::schema::{Step, unknown_step};
use super::settings::{Adapter, text};
use super::syntax::{column, each_expr, literal, reference, static_path, untabbed};

/// Builtins whose result is not a function of their arguments, and those that write beside the result.
const NONDETERMINISTIC: [&str; 10] = [
    "http.send",
    "net.lookup_ip_addr",
    "opa.runtime",
    "rand.intn",
    "rego.metadata.chain",
    "rego.metadata.rule",
    "time.now_ns",
    "uuid.rfc4122",
    "print",
    "trace",
];

/// Builtins that allocate as much as an argument says, before any limit looks: the argument must be a number
/// in the source. (function, argument, largest)
const SIZED: [(&str, usize, i64); 5] = [
    ("numbers.range", 0, 100_000),
    ("numbers.range", 1, 100_000),
    ("numbers.range_step", 0, 100_000),
    ("numbers.range_step", 1, 100_000),
    ("bits.lsh", 1, 63),
];

/// What is known about a bundle's policies.
#[derive(Debug)]
pub(super) struct Analysis {
    /// Engine with policies and data; prepared when there is no error.
    pub(super) engine: Engine,
    /// Rules that findings can name, by id, each with its first place.
    pub(super) rules: Vec<RuleRef>,
    /// What is wrong, sorted.
    pub(super) problems: Vec<Problem>,
}

impl Analysis {
    /// Analyses the policies of a bundle, without its tests.
    pub(super) fn of(bundle: &Bundle) -> Self {
        let mut problems = Vec::new();
        let mut engine = load(bundle, bundle.policies(), &mut problems);
        // What a file that did not parse defines is not known to be missing.
        let complete = problems.is_empty();
        let modules = Modules::of(&mut engine);
        let settings = bundle.settings();
        let mut rules = BTreeMap::new();
        for module in &modules.list {
            module.check_roots(bundle, &mut problems);
            if complete {
                module.check_calls(&modules, &[], &mut problems);
            }
            module.check_input(&mut problems);
            module.collect_rules(&settings.entrypoint, settings.adapter, &mut rules, &mut problems);
        }
        modules.check_data(bundle, &mut problems);
        modules.check_recursion(&mut problems);
        let entry = modules.places.get(&settings.entrypoint);
        match (entry, settings.adapter) {
            (Some((file, line)), Adapter::Allow | Adapter::Deny) => {
                rules.entry(settings.entrypoint.clone()).or_insert_with(|| (file.clone(), *line));
            }
            (None, _) if complete => problems.push(no_entrypoint(bundle, &modules)),
            (Some(_), Adapter::Findings) | (None, _) => {}
        }
        if problems.iter().all(|problem| !problem.is_error()) {
            prepare(&mut engine, &settings.entrypoint, &mut problems);
        }
        problems.sort();
        problems.dedup();
        let rules = rules
            .into_iter()
            .map(|(id, (file, line))| RuleRef { id, file: Some(file), line: Some(line) })
            .collect();
        Self { engine, rules, problems }
    }
}

/// Checks a bundle's tests, which see the policies. Printing is what tests are for.
pub(super) fn of_tests(bundle: &Bundle) -> Vec<Problem> {
    let mut problems = Vec::new();
    if bundle.tests().next().is_none() {
        return problems;
    }
    // Errors of the policies were reported by themselves.
    let mut elsewhere = Vec::new();
    let mut engine = load(bundle, bundle.policies(), &mut elsewhere);
    add(&mut engine, bundle.tests(), &mut problems);
    if !elsewhere.is_empty() || !problems.is_empty() {
        return problems;
    }
    let modules = Modules::of(&mut engine);
    let tests: BTreeSet<&str> = bundle.tests().map(|(path, _)| path).collect();
    for module in modules.list.iter().filter(|module| tests.contains(module.file.as_str())) {
        module.check_calls(&modules, &["print", "trace"], &mut problems);
    }
    problems
}

/// Makes an engine with the bundle's data and the given sources; what does not parse is left out and reported.
pub(super) fn load<'a>(
    bundle: &Bundle,
    sources: impl Iterator<Item = (&'a str, &'a [u8])>,
    problems: &mut Vec<Problem>,
) -> Engine {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_gather_prints(true);
    engine.set_rego_v0(bundle.manifest().rego_version == 0);
    if let Err(error) = engine.add_data(bundle.data().clone().into()) {
        problems.push(error_at(SETTINGS_FILE, &format!("the engine refuses the data: {error}")));
    }
    add(&mut engine, sources, problems);
    engine
}

/// Adds sources to an engine.
pub(super) fn add<'a>(
    engine: &mut Engine,
    sources: impl Iterator<Item = (&'a str, &'a [u8])>,
    problems: &mut Vec<Problem>,
) {
    for (path, bytes) in sources {
        let source = match text(path, bytes) {
            Ok(source) => source,
            Err(error) => {
                problems.push(error_at(path, &format!("this is not UTF-8 text ({error})")));
                continue;
            }
        };
        let added = catch_unwind(AssertUnwindSafe(|| engine.add_policy(path.to_owned(), source.to_owned())));
        match added {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let mut problem = error_at(path, &format!("{error:#}"));
                let line = problem.line.checked_sub(1).and_then(|at| source.lines().nth(at as usize));
                problem.column = problem.column.map(|column| untabbed(line.unwrap_or_default(), column));
                problems.push(problem);
            }
            Err(panic) => {
                problems.push(error_at(path, &format!("the parser panicked: {}", panic_text(&*panic))));
            }
        }
    }
}

/// Schedules and resolves everything, so that an evaluation has nothing left to compile.
pub(super) fn prepare(engine: &mut Engine, entrypoint: &str, problems: &mut Vec<Problem>) {
    let entrypoint: Rc<str> = entrypoint.into();
    match catch_unwind(AssertUnwindSafe(|| engine.compile_with_entrypoint(&entrypoint).map(|_| ()))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => problems.push(error_at(SETTINGS_FILE, &format!("{error:#}"))),
        Err(panic) => {
            problems
                .push(error_at(SETTINGS_FILE, &format!("the compiler panicked: {}", panic_text(&*panic))));
        }
    }
}

/// Turns an error text of the engine, `--> file:line:column … error: message`, into a problem; `file` is for a
/// text without a place.
fn error_at(file: &str, text: &str) -> Problem {
    let place = text.split("--> ").nth(1).and_then(|rest| rest.lines().next()).and_then(|place| {
        let mut parts = place.rsplitn(3, ':');
        let column = parts.next()?.trim().parse().ok()?;
        let line = parts.next()?.parse().ok()?;
        Some((parts.next()?.to_owned(), line, column))
    });
    let message =
        text.rsplit("error: ").next().unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let hint = if message.contains("import") && place.is_some() {
        Some("imports must stand before the first rule".to_owned())
    } else {
        None
    };
    let (file, line, column) = match place {
        Some((file, line, column)) => (file, line, Some(column)),
        None => (file.to_owned(), 1, None),
    };
    Problem { file, line, column, severity: Severity::Error, message, hint }
}

fn no_entrypoint(bundle: &Bundle, modules: &Modules) -> Problem {
    let settings =
        bundle.files().get(SETTINGS_FILE).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let line =
        settings.lines().position(|line| line.trim_start().starts_with("entrypoint")).unwrap_or_default();
    let known: Vec<_> = modules.places.keys().take(10).map(|path| format!("`{path}`")).collect();
    let hint = if known.is_empty() {
        "the bundle has no rule at all; policies are the .rego files outside `tests/`".to_owned()
    } else {
        format!("the bundle defines {}", known.join(", "))
    };
    Problem {
        file: SETTINGS_FILE.to_owned(),
        line: u32::try_from(line + 1).unwrap_or(u32::MAX),
        column: None,
        severity: Severity::Error,
        message: format!("the entry point `{}` is not defined", bundle.settings().entrypoint),
        hint: Some(hint),
    }
}

type Places = BTreeMap<String, (String, u32)>;

/// The syntax trees with what is needed to resolve names in them.
struct Modules {
    list: Vec<ParsedModule>,
    /// First place of every rule, by its full path.
    places: Places,
    functions: BTreeSet<String>,
    packages: BTreeSet<String>,
}

struct ParsedModule {
    file: String,
    package: Vec<String>,
    /// Alias to full path.
    imports: BTreeMap<String, String>,
    module: regorus::unstable::Ref<Module>,
}

impl Modules {
    fn of(engine: &mut Engine) -> Self {
        let list: Vec<_> = engine.get_modules().iter().map(ParsedModule::of).collect();
        let mut all = Self {
            list: Vec::new(),
            places: Places::new(),
            functions: BTreeSet::new(),
            packages: BTreeSet::new(),
        };
        for module in &list {
            let package = format!("data.{}", module.package.join("."));
            for rule in &module.module.policy {
                let (head, is_function) = match rule.as_ref() {
                    Rule::Spec { head: RuleHead::Func { refr, .. }, .. } => (refr, true),
                    Rule::Spec {
                        head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. }, ..
                    } => (refr, false),
                    Rule::Default { refr, args, .. } => (refr, !args.is_empty()),
                };
                let path = format!("{package}.{}", static_path(head).join("."));
                let place = (module.file.clone(), rule.span().line);
                if is_function {
                    all.functions.insert(path.clone());
                }
                let known = all.places.entry(path).or_insert_with(|| place.clone());
                *known = place.min(known.clone());
            }
            all.packages.insert(package);
        }
        all.list = list;
        all
    }

    /// A function that reaches itself would run until the stack ends, which no limit can contain.
    fn check_recursion(&self, problems: &mut Vec<Problem>) {
        let mut calls: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for module in &self.list {
            each_expr(&module.module, |rule, expr| {
                let Rule::Spec { head: RuleHead::Func { refr, .. }, .. } = rule else { return };
                let Expr::Call { fcn, .. } = expr else { return };
                let caller = format!("data.{}.{}", module.package.join("."), static_path(refr).join("."));
                let (function, defined) = module.resolve(&static_path(fcn), self);
                if let (Some(caller), true) = (self.functions.get(&caller), defined) {
                    calls.entry(caller).or_default().insert(function);
                }
            });
        }
        for function in &self.functions {
            let mut reached = BTreeSet::new();
            let mut pending: Vec<&str> = vec![function];
            while let Some(at) = pending.pop() {
                for callee in calls.get(at).into_iter().flatten() {
                    if reached.insert(callee.as_str()) {
                        pending.push(callee);
                    }
                }
            }
            if let (true, Some((file, line))) =
                (reached.contains(function.as_str()), self.places.get(function))
            {
                problems.push(Problem {
                    file: file.clone(),
                    line: *line,
                    column: None,
                    severity: Severity::Error,
                    message: format!("the function `{function}` is recursive"),
                    hint: Some("Rego has no recursion; use a comprehension or `walk`".to_owned()),
                });
            }
        }
    }

    /// A datum at the path of a rule would be shadowed by it, or the rule by the datum.
    fn check_data(&self, bundle: &Bundle, problems: &mut Vec<Problem>) {
        for (path, (file, line)) in &self.places {
            let pointer = path.trim_start_matches("data").replace('.', "/");
            if bundle.data().pointer(&pointer).is_some() {
                problems.push(Problem {
                    file: file.clone(),
                    line: *line,
                    column: None,
                    severity: Severity::Error,
                    message: format!("`{path}` is a rule here and a value in the bundle's data"),
                    hint: Some("rename one of them".to_owned()),
                });
            }
        }
    }
}

impl ParsedModule {
    fn of(module: &regorus::unstable::Ref<Module>) -> Self {
        let mut imports = BTreeMap::new();
        for import in &module.imports {
            let path = static_path(&import.refr);
            let alias =
                import.r#as.as_ref().map(|span| span.text().to_owned()).or_else(|| path.last().cloned());
            if let (Some(alias), Some("data")) = (alias, path.first().map(String::as_str)) {
                imports.insert(alias, path.join("."));
            }
        }
        Self {
            file: module.package.span.source.get_path().clone(),
            package: static_path(&module.package.refr),
            imports,
            module: module.clone(),
        }
    }

    fn problem(&self, span: &Span, severity: Severity, message: String, hint: Option<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: span.line,
            column: Some(column(span)),
            severity,
            message,
            hint,
        }
    }

    fn check_roots(&self, bundle: &Bundle, problems: &mut Vec<Problem>) {
        let package: Vec<&str> = self.package.iter().map(String::as_str).collect();
        if !bundle.manifest().owns(&package) {
            problems.push(self.problem(
                &self.module.package.span,
                Severity::Error,
                format!("package `{}` is outside the roots that .manifest declares", package.join(".")),
                None,
            ));
        }
    }

    /// Returns the full path of a function as it is called here: a rule or a builtin.
    fn resolve(&self, call: &[String], modules: &Modules) -> (String, bool) {
        let written = call.join(".");
        let (first, rest) = match call.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => return (written, false),
        };
        let full = if first == "data" {
            written.clone()
        } else if let Some(import) = self.imports.get(first) {
            std::iter::once(import).chain(rest).map(String::as_str).collect::<Vec<_>>().join(".")
        } else {
            format!("data.{}.{written}", self.package.join("."))
        };
        if modules.functions.contains(&full) { (full, true) } else { (written, false) }
    }

    fn check_calls(&self, modules: &Modules, but: &[&str], problems: &mut Vec<Problem>) {
        for import in &self.module.imports {
            let path = static_path(&import.refr).join(".");
            if modules.packages.contains(&path) {
                problems.push(self.problem(
                    &import.span,
                    Severity::Warning,
                    format!("`{path}` is a package: through its alias the engine evaluates every rule in it"),
                    Some(format!("write `{path}.<rule>` in full, or import the rule itself")),
                ));
            }
        }
        each_expr(&self.module, |_, expr| {
            let Expr::Call { fcn, params, .. } = expr else { return };
            let call = static_path(fcn);
            let (name, defined) = self.resolve(&call, modules);
            let span = reference(fcn).map_or(fcn.span(), |(root, _)| root);
            if defined || but.contains(&name.as_str()) {
                return;
            }
            if NONDETERMINISTIC.contains(&name.as_str()) {
                problems.push(self.problem(
                    span,
                    Severity::Error,
                    format!("`{name}` makes a decision depend on more than its input"),
                    Some(instead(&name).to_owned()),
                ));
            } else if !BUILTINS.contains_key(name.as_str()) {
                problems.push(self.problem(
                    span,
                    Severity::Error,
                    format!("there is no function `{name}`"),
                    Some("it is neither defined in the bundle nor a builtin of this engine".to_owned()),
                ));
            }
            for (sized, at, max) in SIZED {
                let Some(argument) = params.get(at).filter(|_| sized == name) else { continue };
                let value = match argument.as_ref() {
                    Expr::Number { value, .. } => value.as_i64().ok(),
                    _ => None,
                };
                if value.is_none_or(|value| value > max) {
                    problems.push(
                        self.problem(
                            argument.span(),
                            Severity::Error,
                            format!(
                                "argument {} of `{name}` must be a number up to {max} in the source",
                                at + 1
                            ),
                            Some(
                                "the engine allocates as much as it says before any limit is looked at"
                                    .to_owned(),
                            ),
                        ),
                    );
                }
            }
        });
    }

    fn check_input(&self, problems: &mut Vec<Problem>) {
        let mut seen = BTreeSet::new();
        each_expr(&self.module, |_, expr| {
            let Some((root, steps)) = reference(expr).filter(|(root, _)| root.text() == "input") else {
                return;
            };
            let path: Vec<Step> = steps.iter().map(|(step, _)| step.clone()).collect();
            let Some(unknown) = unknown_step(&path) else { return };
            let span = steps.get(unknown.at).map_or(root, |(_, span)| *span);
            // The walk meets `input.a.b` and, inside it, `input.a`.
            if seen.insert((span.line, span.col)) {
                problems.push(self.problem(span, Severity::Error, unknown.message, unknown.hint));
            }
        });
    }

    /// Collects every object literal that is a finding: it has a member `rule`, or it is what the entry point holds.
    fn collect_rules(
        &self,
        entrypoint: &str,
        adapter: Adapter,
        rules: &mut Places,
        problems: &mut Vec<Problem>,
    ) {
        let package = format!("data.{}", self.package.join("."));
        each_expr(&self.module, |rule, expr| {
            let Expr::Object { fields, .. } = expr else { return };
            let member = |name: &str| {
                fields
                    .iter()
                    .find(|(_, key, _)| literal(key) == Some(name))
                    .map(|(_, _, value)| value.as_ref())
            };
            let (id, effect) = (member("rule"), member("effect"));
            let is_entry = adapter == Adapter::Findings
                && matches!(rule, Rule::Spec { head: RuleHead::Set { refr, key: Some(key), .. }, .. }
                    if std::ptr::eq(key.as_ref(), expr) && format!("{package}.{}", static_path(refr).join(".")) == entrypoint);
            if !is_entry && (id.is_none() || (adapter == Adapter::Findings && effect.is_none())) {
                return;
            }
            match id.map(|id| (id, literal(id))) {
                Some((_, Some(id))) => {
                    let place = (self.file.clone(), rule.span().line);
                    if let Some(first) = rules.get(id).filter(|first| **first != place) {
                        problems.push(self.problem(
                            rule.span(),
                            Severity::Warning,
                            format!("rule `{id}` is also at {}:{}", first.0, first.1),
                            Some("decisions name one of the places; give each its own id".to_owned()),
                        ));
                    }
                    let known = rules.entry(id.to_owned()).or_insert_with(|| place.clone());
                    *known = place.min(known.clone());
                }
                Some((id, None)) => problems.push(self.problem(
                    id.span(),
                    Severity::Error,
                    "the rule id must be a string literal".to_owned(),
                    Some("a rule is found in its source by its id".to_owned()),
                )),
                None => problems.push(self.problem(
                    rule.span(),
                    Severity::Error,
                    "this finding has no `rule`".to_owned(),
                    Some("add `\"rule\": \"<id>\"`".to_owned()),
                )),
            }
            match effect {
                Some(effect) => {
                    if let Some(word) = literal(effect).filter(|word| !is_effect(word)) {
                        let known: Vec<_> = Effect::ALL.iter().map(|effect| effect.as_str()).collect();
                        problems.push(self.problem(
                            effect.span(),
                            Severity::Error,
                            format!("`{word}` is not an effect"),
                            Some(format!("the effects are {}", known.join(", "))),
                        ));
                    }
                }
                None if is_entry => problems.push(self.problem(
                    rule.span(),
                    Severity::Error,
                    "this finding has no `effect`".to_owned(),
                    Some("add `\"effect\": \"block\"`".to_owned()),
                )),
                None => {}
            }
        });
    }
}

fn is_effect(word: &str) -> bool {
    Effect::ALL.iter().any(|effect| effect.as_str() == word)
}

fn instead(builtin: &str) -> &'static str {
    match builtin {
        "time.now_ns" => "use `input.event.ts_ns`, the time of the action",
        "print" | "trace" => "print in tests only",
        "http.send" | "net.lookup_ip_addr" | "opa.runtime" => {
            "put what it would fetch into the bundle's data"
        }
        _ => "decide from `input` and `data` alone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_errors_are_taken_apart() {
        let text = "\n--> policy/a.rego:3:7\n  |\n3 | x := \n  |       ^\nerror: expecting expression";
        let problem = error_at("other", text);
        assert_eq!(problem.to_string(), "policy/a.rego:3:7: error: expecting expression");
        let problem = error_at("policy/b.rego", "policy/b.rego exceeds maximum allowed line count 20000");
        assert_eq!((problem.file.as_str(), problem.line, problem.column), ("policy/b.rego", 1, None));
    }

    #[test]
    fn every_refused_builtin_is_spelled_like_a_call() {
        assert!(NONDETERMINISTIC.iter().all(|name| !name.contains(' ')));
        // Those that the engine has although it was built without the rest.
        let present: Vec<_> = NONDETERMINISTIC.iter().filter(|name| BUILTINS.contains_key(**name)).collect();
        assert_eq!(present, [&"rand.intn", &"trace"]);
        assert!(SIZED.iter().all(|(name, ..)| BUILTINS.contains_key(*name)));
    }
}
