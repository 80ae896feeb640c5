//! What a replay comes to, counted while its points go by.

use std::collections::BTreeMap;

use serde::Serialize;
use verdict_ledger::event::Effect;

use super::{Amount, Answer, Basis, Replayed, Reproduction, RunHeader, Select};

/// Money of one sort, by currency, with how often nobody knew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MoneySum {
    /// Recorded costs, nano-units as decimal strings in JSON.
    #[serde(serialize_with = "decimal")]
    pub measured: BTreeMap<String, i128>,
    /// What was reserved.
    #[serde(serialize_with = "decimal")]
    pub estimated: BTreeMap<String, i128>,
    /// Actions of which nobody says what they cost: the sums are lower bounds while this is not zero.
    pub unknown: u64,
}

/// What a replay comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Points.
    pub points: u64,
    /// Decisions, by effect.
    pub effects: BTreeMap<Effect, u64>,
    /// Points without a decision, by reason.
    pub unknown: BTreeMap<String, u64>,
    /// Points that a stopped step would have prevented.
    pub not_reached: u64,
    /// Points that are decided as if they had come all the same.
    pub diverged: u64,
    /// Actions that were stopped and run now: what would have followed was never seen.
    pub unobserved: u64,
    /// Effects that are not the recorded ones: from, to, and whether an earlier flip is the cause.
    pub flips: Vec<Flip>,
    /// Points with a decision and no recorded one.
    pub not_recorded: u64,
    /// Determining rules.
    pub rules: BTreeMap<String, BTreeMap<Effect, u64>>,
    /// What would not have been spent.
    pub avoided: MoneySum,
    /// What could be spent and was not.
    pub exposed: MoneySum,
    /// What was spent on asking for steps that are stopped.
    pub wasted: MoneySum,
    /// Whether the decisions that name the bundle come out again.
    pub reproduction: Reproduction,
    #[serde(skip)]
    transitions: BTreeMap<(Effect, Effect, bool), u64>,
}

/// One way in which decisions changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Flip {
    /// Recorded.
    pub from: Effect,
    /// Replayed.
    pub to: Effect,
    /// True when an earlier flip is the cause: in the state that history had it is another decision.
    pub induced: bool,
    /// Points.
    pub points: u64,
}

impl Tally {
    /// Counts a point of a run.
    pub fn add(&mut self, header: &RunHeader, replayed: &Replayed) {
        self.points += 1;
        self.reproduction.add(header, replayed);
        self.diverged += u64::from(replayed.diverged.is_some());
        self.unobserved += u64::from(replayed.unobserved);
        match &replayed.answer {
            Answer::Unknown { reason, .. } => *self.unknown.entry(reason.clone()).or_default() += 1,
            Answer::NotReached { .. } => self.not_reached += 1,
            Answer::Decided { decision } => {
                *self.effects.entry(decision.effect).or_default() += 1;
                for rule in &decision.rules {
                    *self.rules.entry(rule.id.clone()).or_default().entry(decision.effect).or_default() += 1;
                }
                match &replayed.point.recorded {
                    None => self.not_recorded += 1,
                    Some(recorded) if recorded.effect != decision.effect => {
                        let flip = (recorded.effect, decision.effect, replayed.induced.is_some());
                        *self.transitions.entry(flip).or_default() += 1;
                    }
                    Some(_) => {}
                }
            }
        }
        if let Some(money) = &replayed.money {
            for (sum, amount) in [
                (&mut self.avoided, &money.avoided),
                (&mut self.exposed, &money.exposed),
                (&mut self.wasted, &money.wasted),
            ] {
                if let Some(amount) = amount {
                    sum.add(amount);
                }
            }
        }
    }

    /// Finishes the count.
    #[must_use]
    pub fn finish(mut self) -> Self {
        let flip = |((from, to, induced), points): (&(Effect, Effect, bool), &u64)| Flip {
            from: *from,
            to: *to,
            induced: *induced,
            points: *points,
        };
        self.flips = self.transitions.iter().map(flip).collect();
        self.flips.sort_by_key(|flip| std::cmp::Reverse((flip.points, flip.from, flip.to)));
        self
    }
}

impl MoneySum {
    fn add(&mut self, amount: &Amount) {
        let price = amount.price.as_ref().and_then(|price| Some((price, price.nano.parse::<i128>().ok()?)));
        let sums = match amount.basis {
            Basis::Measured => &mut self.measured,
            Basis::Estimated => &mut self.estimated,
            Basis::Unknown => {
                self.unknown += 1;
                return;
            }
        };
        if let Some((price, nano)) = price {
            let sum = sums.entry(price.currency.clone()).or_default();
            *sum = sum.saturating_add(nano);
        }
    }

    /// Tells whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn decimal<S: serde::Serializer>(sums: &BTreeMap<String, i128>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(sums.iter().map(|(currency, nano)| (currency, nano.to_string())))
}

const MILLION: i128 = 1_000_000;
/// The square of 1.96 standard deviations, in millionths.
const Z_SQUARED: i128 = 3_841_459;

/// The share of all points that a count in a sample stands for: lowest and highest that 95 of 100 samples agree with
/// (Wilson's interval), in millionths.
pub fn confidence(select: &Select, count: u64, points: u64) -> Option<(u64, u64)> {
    select.sample?;
    if points == 0 {
        return None;
    }
    // In millionths, so that every machine says the same; the square of 1.96 for 95 of 100.
    let (count, points) = (i128::from(count), i128::from(points));
    let share = count * MILLION / points;
    let middle = share + Z_SQUARED / (2 * points);
    let variance = share * (MILLION - share) / points + Z_SQUARED * MILLION / (4 * points * points);
    let spread = (Z_SQUARED * variance / MILLION).max(0).cast_unsigned().isqrt().cast_signed();
    let whole = MILLION + Z_SQUARED / points;
    let bound = |value: i128| u64::try_from((value * MILLION / whole).clamp(0, MILLION)).unwrap_or_default();
    Some((bound(middle - spread), bound(middle + spread)))
}

#[cfg(test)]
mod tests {
    use super::super::Sample;
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        let select = Select { sample: Some(Sample { per_million: 10, seed: 0 }), ..Select::default() };
        // 10 of 100: 0.0552 to 0.1744.
        let (low, high) = confidence(&select, 10, 100).unwrap();
        assert!((55_000..55_400).contains(&low) && (174_200..174_700).contains(&high), "{low} {high}");
        let (low, high) = confidence(&select, 0, 50).unwrap();
        assert!(low == 0 && (71_000..71_600).contains(&high), "{high}");
        assert_eq!(confidence(&Select::default(), 1, 2), None, "all points need no interval");
        assert_eq!(confidence(&select, 0, 0), None);
    }
}
