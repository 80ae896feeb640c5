//! The lattice of effects: how the findings of many rules become one decision.
//!
//! Effects join by maximum. Obligations join by union whatever effect wins, except that two of them fold into
//! one where one implies the other:
//!
//! | kind | parameter | of two that differ in nothing else |
//! |---|---|---|
//! | `cooldown_until` | `until_ns` | the latest |
//! | `spend_cap` | `nano` | the lowest |
//!
//! The join is commutative, associative and idempotent, with [`Joined::identity`] as its identity, so that the
//! order in which an engine returns findings cannot be seen in a decision.

use std::collections::{BTreeMap, BTreeSet};

use verdict_ledger::event::{Effect, Obligation};

use super::decision::{Decision, EvalError, Finding};

/// The obligation that ends a cooldown; the latest wins.
pub const COOLDOWN_UNTIL: &str = "cooldown_until";
/// The obligation that caps what may be spent; the lowest wins.
pub const SPEND_CAP: &str = "spend_cap";

/// What findings join to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Maximum of the effects.
    pub effect: Effect,
    /// Union of the obligations.
    pub obligations: BTreeSet<Obligation>,
}

impl Joined {
    /// Returns what no finding at all joins to.
    pub const fn identity() -> Self {
        Self { effect: Effect::NoOp, obligations: BTreeSet::new() }
    }

    /// Makes the element of one finding.
    pub fn of(finding: &Finding) -> Self {
        Self::identity()
            .join(Self { effect: finding.effect, obligations: finding.obligations.iter().cloned().collect() })
    }

    /// Joins two.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let mut obligations = BTreeSet::new();
        // Those that fold into one, by everything in which they must not differ.
        let mut folded: BTreeMap<Obligation, i64> = BTreeMap::new();
        for obligation in self.obligations.into_iter().chain(other.obligations) {
            match folding(&obligation) {
                Some((rest, value, fold)) => {
                    folded.entry(rest).and_modify(|kept| *kept = fold(*kept, value)).or_insert(value);
                }
                None => {
                    obligations.insert(obligation);
                }
            }
        }
        for (mut rest, value) in folded {
            if let Some((parameter, _)) = folding_rule(&rest.kind) {
                rest.params.insert(parameter.to_owned(), value.to_string());
            }
            obligations.insert(rest);
        }
        Self { effect: self.effect.max(other.effect), obligations }
    }
}

type Fold = fn(i64, i64) -> i64;

fn folding_rule(kind: &str) -> Option<(&'static str, Fold)> {
    match kind {
        COOLDOWN_UNTIL => Some(("until_ns", i64::max)),
        SPEND_CAP => Some(("nano", i64::min)),
        _ => None,
    }
}

/// Splits an obligation that folds into what must be equal and its number. A number that is not written in
/// its one canonical form does not fold: it is kept as it stands.
fn folding(obligation: &Obligation) -> Option<(Obligation, i64, Fold)> {
    let (parameter, fold) = folding_rule(&obligation.kind)?;
    let text = obligation.params.get(parameter)?;
    let value: i64 = text.parse().ok()?;
    if value.to_string() != *text {
        return None;
    }
    let mut rest = obligation.clone();
    rest.params.remove(parameter);
    Some((rest, value, fold))
}

/// Joins the findings of one evaluation. When every rule abstains on an action with effects, `default` rules.
pub fn decide(mut findings: Vec<Finding>, default: Option<Effect>) -> Decision {
    for finding in &mut findings {
        finding.obligations.sort();
        finding.obligations.dedup();
    }
    findings.sort();
    findings.dedup();
    let joined = findings.iter().map(Joined::of).fold(Joined::identity(), Joined::join);
    let effect = match joined.effect {
        // Every rule abstained; a rule that says `no_op` abstains too.
        Effect::NoOp => default.unwrap_or(Effect::NoOp),
        effect => effect,
    };
    let rules: BTreeSet<_> = findings.iter().filter(|f| f.effect == effect).map(|f| f.rule.clone()).collect();
    Decision {
        effect,
        rules: rules.into_iter().collect(),
        obligations: joined.obligations.into_iter().collect(),
        findings,
        error: None,
    }
}

/// Makes the decision of an evaluation that failed: it blocks, and says that no rule did.
pub fn failed(error: EvalError) -> Decision {
    Decision {
        effect: Effect::Block,
        rules: Vec::new(),
        obligations: Vec::new(),
        findings: Vec::new(),
        error: Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decision::RuleRef;
    use proptest::prelude::*;

    fn obligation() -> impl Strategy<Value = Obligation> {
        let number = prop_oneof![
            (-3i64..4).prop_map(|n| n.to_string()),
            Just("007".to_owned()),
            Just("soon".to_owned()),
            Just(i64::MAX.to_string()),
        ];
        let kind = prop::sample::select(vec![COOLDOWN_UNTIL, SPEND_CAP, "notify", "redact"]);
        (kind, prop::sample::select(vec!["until_ns", "nano", "role"]), number, any::<bool>()).prop_map(
            |(kind, name, value, scoped)| {
                let mut params = BTreeMap::from([(name.to_owned(), value)]);
                if scoped {
                    params.insert("currency".to_owned(), "USD".to_owned());
                }
                Obligation { kind: kind.to_owned(), params }
            },
        )
    }

    fn finding() -> impl Strategy<Value = Finding> {
        (prop::sample::select(Effect::ALL.to_vec()), 0..4u8, prop::collection::vec(obligation(), 0..4))
            .prop_map(|(effect, rule, obligations)| Finding {
                effect,
                rule: RuleRef { id: format!("r{rule}"), file: None, line: None },
                reason: None,
                obligations,
            })
    }

    fn element() -> impl Strategy<Value = Joined> {
        prop::collection::vec(finding(), 0..4)
            .prop_map(|findings| findings.iter().map(Joined::of).fold(Joined::identity(), Joined::join))
    }

    proptest! {
        #[test]
        fn join_is_commutative(a in element(), b in element()) {
            prop_assert_eq!(a.clone().join(b.clone()), b.join(a));
        }

        #[test]
        fn join_is_associative(a in element(), b in element(), c in element()) {
            prop_assert_eq!(
                a.clone().join(b.clone()).join(c.clone()),
                a.join(b.join(c))
            );
        }

        #[test]
        fn join_is_idempotent_and_has_an_identity(a in element()) {
            prop_assert_eq!(a.clone().join(a.clone()), a.clone());
            prop_assert_eq!(a.clone().join(Joined::identity()), a);
        }

        #[test]
        fn a_finding_more_never_loosens(findings in prop::collection::vec(finding(), 1..6), more in finding()) {
            let before = decide(findings.clone(), None).effect;
            let mut findings = findings;
            findings.push(more);
            prop_assert!(decide(findings, None).effect >= before);
        }

        #[test]
        fn the_order_of_findings_cannot_be_seen(findings in prop::collection::vec(finding(), 0..6), turn in 0usize..6) {
            let mut turned = findings.clone();
            if !turned.is_empty() {
                let at = turn % turned.len();
                turned.rotate_left(at);
                turned.extend(findings.first().cloned());
            }
            let (a, b) = (decide(findings, Some(Effect::Block)), decide(turned, Some(Effect::Block)));
            prop_assert_eq!(serde_json::to_string(&a).unwrap(), serde_json::to_string(&b).unwrap());
        }
    }

    fn obliged(kind: &str, params: &[(&str, &str)]) -> Obligation {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Obligation { kind: kind.to_owned(), params }
    }

    fn says(effect: Effect, rule: &str, obligations: Vec<Obligation>) -> Finding {
        Finding {
            effect,
            rule: RuleRef { id: rule.into(), file: None, line: None },
            reason: None,
            obligations,
        }
    }

    #[test]
    fn obligations_of_weaker_findings_stay_and_fold() {
        let decision = decide(
            vec![
                says(
                    Effect::Allow,
                    "a",
                    vec![obliged("notify", &[("role", "x")]), obliged(SPEND_CAP, &[("nano", "9")])],
                ),
                says(
                    Effect::Cooldown,
                    "b",
                    vec![
                        obliged(COOLDOWN_UNTIL, &[("until_ns", "10")]),
                        obliged(SPEND_CAP, &[("nano", "5")]),
                    ],
                ),
                says(Effect::Cooldown, "c", vec![obliged(COOLDOWN_UNTIL, &[("until_ns", "9")])]),
            ],
            Some(Effect::Block),
        );
        assert_eq!(decision.effect, Effect::Cooldown);
        assert_eq!(decision.rules.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(
            decision.obligations,
            [
                obliged(COOLDOWN_UNTIL, &[("until_ns", "10")]),
                obliged("notify", &[("role", "x")]),
                obliged(SPEND_CAP, &[("nano", "5")]),
            ]
        );
        assert_eq!(decision.findings.len(), 3);
    }

    #[test]
    fn the_default_rules_only_when_all_abstain() {
        assert_eq!(decide(vec![], Some(Effect::Block)).effect, Effect::Block);
        assert_eq!(decide(vec![], None).effect, Effect::NoOp);
        let abstains = decide(vec![says(Effect::NoOp, "a", vec![])], Some(Effect::Block));
        assert_eq!((abstains.effect, abstains.rules.len()), (Effect::Block, 0));
        assert_eq!(decide(vec![says(Effect::Allow, "a", vec![])], Some(Effect::Block)).effect, Effect::Allow);
    }
}
