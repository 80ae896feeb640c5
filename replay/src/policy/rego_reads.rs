//! Which members of the input Rego sources can read, and at which places.
//!
//! Works on the syntax tree. A read is a reference that begins at `input`, or at an import of something below it; what
//! is above a path is read with it (`input.action` reads every argument) and so is what is below. A place is the line
//! that the interpreter's coverage names when it evaluates the expression, so that a run can tell which reads it made.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Engine as Interpreter;
use regorus::unstable::{Expr, Module};

use super::engine::{Lines, Reads, overlap, steps};
use super::schema::Step;
use super::syntax::{each_expr, literal, reference, static_path};

/// Every read of a bundle.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadSites {
    /// (file, line, steps below `input` that are fixed in the source)
    sites: BTreeSet<(String, u32, Vec<String>)>,
}

impl ReadSites {
    /// Finds the reads in everything that an engine holds.
    pub(super) fn of(engine: &mut Interpreter) -> Self {
        let mut found = Self::default();
        for module in engine.get_modules() {
            found.scan(module);
        }
        found
    }

    fn scan(&mut self, module: &Module) {
        let file = module.package.span.source.get_path();
        let mut aliases = BTreeMap::from([("input".to_owned(), Vec::new())]);
        for import in &module.imports {
            let path = static_path(&import.refr);
            let alias =
                import.r#as.as_ref().map(|span| span.text().to_owned()).or_else(|| path.last().cloned());
            if let (Some(alias), Some(("input", below))) =
                (alias, path.split_first().map(|(root, below)| (root.as_str(), below)))
            {
                aliases.insert(alias, below.to_vec());
            }
        }
        // By where the root of a reference stands: the walk meets `input.a.b` first and then, inside it, `input.a` and
        // `input`, which are evaluated as parts of it and read no more than it does.
        let mut roots: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        each_expr(module, |_, expr| {
            if let Expr::Call { fcn, params, .. } = expr
                && static_path(fcn).join(".") == "object.get"
                && let [from, key, _] = params.as_slice()
                && let Some((root, mut path, true)) = path_of(from, &aliases)
                && let Some(keys) = key_path(key)
            {
                path.extend(keys);
                roots.entry(root).or_insert(path);
            }
            if let Some((root, path, _)) = path_of(expr, &aliases) {
                let path = roots.entry(root).or_insert(path).clone();
                self.sites.insert((file.clone(), expr.span().line, path));
            }
        });
    }

    /// Returns all paths, or `None` when the whole document is read.
    pub(super) fn paths(&self) -> Reads {
        let paths: BTreeSet<_> = self.sites.iter().map(|(.., path)| path).collect();
        (!paths.iter().any(|path| path.is_empty())).then(|| paths.into_iter().cloned().collect())
    }

    /// Tells whether an evaluation made none of the reads that can see the pointers. A line that the coverage says
    /// nothing about counts as reached.
    pub(super) fn untouched(&self, pointers: &[String], covered: &Lines) -> bool {
        let wanted: Vec<_> = pointers.iter().map(|pointer| steps(pointer)).collect();
        self.sites.iter().filter(|(.., path)| wanted.iter().any(|wanted| overlap(path, wanted))).all(
            |(file, line, _)| match covered.get(file) {
                Some((reached, missed)) => !reached.contains(line) && missed.contains(line),
                // The interpreter has no table for a file of which it evaluated nothing.
                None => true,
            },
        )
    }

    /// Tells whether any read can see the pointers.
    pub(super) fn may_read(&self, pointers: &[String]) -> bool {
        let wanted: Vec<_> = pointers.iter().map(|pointer| steps(pointer)).collect();
        self.sites.iter().any(|(.., path)| wanted.iter().any(|wanted| overlap(path, wanted)))
    }
}

/// Takes a reference below `input` apart: where its root stands, its fixed steps, and whether those are all of them.
fn path_of(expr: &Expr, aliases: &BTreeMap<String, Vec<String>>) -> Option<(u32, Vec<String>, bool)> {
    let (root, steps) = reference(expr)?;
    let mut path = aliases.get(root.text())?.clone();
    let fixed = steps.iter().map_while(|(step, _)| match step {
        Step::Field(name) => Some(name.clone()),
        Step::Any => None,
    });
    let before = path.len();
    path.extend(fixed);
    let whole = path.len() - before == steps.len();
    Some((root.start, path, whole))
}

/// Reads the second argument of `object.get`: a key, or a path of keys.
fn key_path(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Array { items, .. } => items.iter().map(|item| literal(item).map(str::to_owned)).collect(),
        key => literal(key).map(|key| vec![key.to_owned()]),
    }
}
