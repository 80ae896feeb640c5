//! Walking the syntax trees of Rego sources.

use regorus::unstable::{Expr, Literal, Module, Query, Rule, RuleHead, Span};

use super::schema::Step;

/// Visits every expression of every rule. Iterative: references can nest deeper than a stack.
pub(super) fn each_expr(module: &Module, mut visit: impl FnMut(&Rule, &Expr)) {
    for rule in &module.policy {
        let mut pending: Vec<&Expr> = Vec::new();
        match rule.as_ref() {
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { refr, assign, .. } => {
                        pending.push(refr);
                        pending.extend(assign.iter().map(|assign| assign.value.as_ref()));
                    }
                    RuleHead::Set { refr, key, .. } => {
                        pending.push(refr);
                        pending.extend(key.iter().map(AsRef::as_ref));
                    }
                    RuleHead::Func { refr, args, assign, .. } => {
                        pending.push(refr);
                        pending.extend(args.iter().map(AsRef::as_ref));
                        pending.extend(assign.iter().map(|assign| assign.value.as_ref()));
                    }
                }
                for body in bodies {
                    pending.extend(body.assign.iter().map(|assign| assign.value.as_ref()));
                    push_query(&body.query, &mut pending);
                }
            }
            Rule::Default { args, value, .. } => {
                pending.extend(args.iter().map(AsRef::as_ref));
                pending.push(value);
            }
        }
        while let Some(expr) = pending.pop() {
            visit(rule, expr);
            push_children(expr, &mut pending);
        }
    }
}

fn push_query<'a>(query: &'a Query, out: &mut Vec<&'a Expr>) {
    for statement in &query.stmts {
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                out.extend(key.iter().map(AsRef::as_ref));
                out.push(value);
                out.push(collection);
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => out.push(expr),
            Literal::Every { domain, query, .. } => {
                out.push(domain);
                push_query(query, out);
            }
        }
        for with in &statement.with_mods {
            out.push(&with.refr);
            out.push(&with.r#as);
        }
    }
}

fn push_children<'a>(expr: &'a Expr, out: &mut Vec<&'a Expr>) {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. } => {}
        Expr::Array { items, .. } | Expr::Set { items, .. } => out.extend(items.iter().map(AsRef::as_ref)),
        Expr::Object { fields, .. } => {
            for (_, key, value) in fields {
                out.push(key);
                out.push(value);
            }
        }
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            out.push(term);
            push_query(query, out);
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            out.push(key);
            out.push(value);
            push_query(query, out);
        }
        Expr::Call { fcn, params, .. } => {
            out.push(fcn);
            out.extend(params.iter().map(AsRef::as_ref));
        }
        Expr::UnaryExpr { expr, .. } => out.push(expr),
        Expr::RefDot { refr, .. } => out.push(refr),
        Expr::RefBrack { refr, index, .. } => {
            out.push(refr);
            out.push(index);
        }
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            out.push(lhs);
            out.push(rhs);
        }
        Expr::Membership { key, value, collection, .. } => {
            out.extend(key.iter().map(AsRef::as_ref));
            out.push(value);
            out.push(collection);
        }
    }
}

/// Counts characters from the start of the line, as editors do; the engine counts a tab as four.
pub(super) fn column(span: &Span) -> u32 {
    let before = span.source.contents().get(..span.start as usize).unwrap_or_default();
    let in_line = before.rsplit('\n').next().unwrap_or_default().chars().count();
    u32::try_from(in_line + 1).unwrap_or(u32::MAX)
}

/// Turns a column of the engine into one of an editor.
pub(super) fn untabbed(line: &str, column: u32) -> u32 {
    let mut at = 1;
    let mut editor = 1;
    for c in line.chars() {
        if at >= column {
            break;
        }
        at += if c == '\t' { 4 } else { 1 };
        editor += 1;
    }
    editor + column.saturating_sub(at)
}

/// Takes a reference apart: its root variable and its steps, each with its place.
pub(super) fn reference(expr: &Expr) -> Option<(&Span, Vec<(Step, &Span)>)> {
    let mut steps = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::Var { span, .. } => {
                steps.reverse();
                return Some((span, steps));
            }
            Expr::RefDot { refr, field, .. } => {
                steps.push((Step::Field(field.0.text().to_owned()), &field.0));
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                let step = literal(index).map_or(Step::Any, |name| Step::Field(name.to_owned()));
                steps.push((step, index.span()));
                at = refr;
            }
            _ => return None,
        }
    }
}

/// Returns the components of a reference up to the first that is not fixed in the source.
pub(super) fn static_path(expr: &Expr) -> Vec<String> {
    let Some((root, steps)) = reference(expr) else { return Vec::new() };
    let fields = steps.into_iter().map_while(|(step, _)| match step {
        Step::Field(name) => Some(name),
        Step::Any => None,
    });
    std::iter::once(root.text().to_owned()).chain(fields).collect()
}

pub(super) fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            value.as_string().ok().map(AsRef::as_ref)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_an_editor() {
        assert_eq!(untabbed("\t\tx", 9), 3);
        assert_eq!(untabbed("ab", 2), 2);
        assert_eq!(untabbed("", 1), 1);
        assert_eq!(untabbed("ab", 5), 5);
    }
}
