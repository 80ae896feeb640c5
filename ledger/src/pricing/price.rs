//! What one call costs by a table.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::table::Table;
use super::{Unpriced, VARIANT};
use crate::action::Action;
use crate::action::labels::Labels;
use crate::event::{ActionKind, Cost, Usage};

/// Tokens that a price is for.
const TOKENS_OF_A_PRICE: i128 = 1_000_000;

/// The tokens of a call, each in one sort only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Input that no cache served or took.
    pub input: u64,
    /// Input that a cache served.
    pub cache_read: u64,
    /// Input that was written to a cache.
    pub cache_write: u64,
    /// Output without reasoning.
    pub output: u64,
    /// Output spent on reasoning.
    pub reasoning: u64,
}

impl Tokens {
    /// Sorts the numbers of a usage. `cached_beside`: the cached tokens are not among the input tokens.
    pub fn of(usage: &Usage, cached_beside: bool) -> Result<Self, Unpriced> {
        let (Some(input), output) = (usage.input_tokens, usage.output_tokens) else {
            return Err(Unpriced::NoTokens);
        };
        let (cache_read, cache_write) =
            (usage.cache_read_tokens.unwrap_or(0), usage.cache_write_tokens.unwrap_or(0));
        let input = if cached_beside {
            input
        } else {
            let cached = cache_read.checked_add(cache_write).ok_or(Unpriced::Implausible)?;
            input.checked_sub(cached).ok_or(Unpriced::Implausible)?
        };
        let reasoning = usage.reasoning_tokens.unwrap_or(0);
        // Reasoning is part of the output in every convention; a source that leaves it out says less output than
        // reasoning, and then it stands beside it.
        let output = output.unwrap_or(0);
        let output = output.checked_sub(reasoning).unwrap_or(output);
        Ok(Self { input, cache_read, cache_write, output, reasoning })
    }

    /// Returns all of the input.
    pub const fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }
}

/// Prices a usage that says no cost of its own. `at_ns` is when the call was made.
pub fn price(
    table: &Table,
    usage: &Usage,
    cached_beside: bool,
    variant: Option<&str>,
    at_ns: u64,
) -> Result<Cost, Unpriced> {
    let model = usage.model.as_deref().ok_or(Unpriced::NoModel)?;
    let tokens = Tokens::of(usage, cached_beside)?;
    let day = Timestamp::from_nanosecond(i128::from(at_ns)).map_err(|_| Unpriced::OutOfDate)?;
    let day = day.to_zoned(TimeZone::UTC).date();
    let row = table.find(usage.provider.as_deref(), model, variant, day, tokens.prompt())?;
    let rates = row.rates;
    // Embeddings have no output and say so by having no price for it.
    if rates.output.is_some() && usage.output_tokens.is_none() {
        return Err(Unpriced::NoTokens);
    }
    let mut sum: i128 = 0;
    for (tokens, rate) in [
        (tokens.input, rates.input),
        (tokens.cache_read, rates.cache_read),
        (tokens.cache_write, rates.cache_write),
        (tokens.output, rates.output),
        (tokens.reasoning, rates.reasoning.or(rates.output)),
    ] {
        if tokens > 0 {
            let rate = rate.ok_or(Unpriced::NoRate)?;
            // Below 2^64 times 2^63, five times: no overflow.
            sum += i128::from(tokens) * i128::from(rate);
        }
    }
    let nano = i64::try_from(half_even(sum)).map_err(|_| Unpriced::Implausible)?;
    Ok(Cost { nano, currency: row.currency.clone(), basis: format!("priced:{}", table.id()) })
}

/// Divides by the tokens of a price, to the nearest nano-unit, halves to the even one.
const fn half_even(sum: i128) -> i128 {
    let (whole, rest) = (sum / TOKENS_OF_A_PRICE, sum % TOKENS_OF_A_PRICE);
    let half = TOKENS_OF_A_PRICE / 2;
    if rest > half || (rest == half && whole % 2 != 0) { whole + 1 } else { whole }
}

/// Gives every model call without a reported cost the one that the table says, or the reason why it says none.
/// `labels` are those of the actions, with the variant; see [`Table::variant_source`].
pub fn apply(table: &Table, actions: &mut [Action], labels: &[Labels]) {
    for (index, action) in actions.iter_mut().enumerate() {
        let usage = action.usage.as_ref().filter(|usage| !usage.aggregate);
        let Some(usage) = usage.filter(|usage| usage.cost.is_none()) else { continue };
        let counts = [usage.input_tokens, usage.output_tokens];
        if action.kind != ActionKind::Model && counts.iter().all(Option::is_none) {
            continue;
        }
        let variant = labels.get(index).and_then(|labels| labels.get(VARIANT));
        // The variant is of the call itself: what a caller above asked for says nothing about this one.
        let variant = variant.filter(|variant| !variant.inherited).map(|variant| variant.value.as_str());
        match price(table, usage, action.cached_beside, variant, action.start_ns) {
            Ok(cost) => {
                if let Some(usage) = &mut action.usage {
                    usage.cost = Some(cost);
                }
            }
            Err(reason) => action.unpriced = Some(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_side() {
        assert_eq!([499_999, 500_000, 500_001, 1_500_000, 2_500_000].map(half_even), [0, 0, 1, 2, 2]);
    }

    #[test]
    fn each_token_is_in_one_sort() {
        let usage = |input, read, output, reasoning| Usage {
            input_tokens: Some(input),
            cache_read_tokens: Some(read),
            output_tokens: Some(output),
            reasoning_tokens: Some(reasoning),
            ..Usage::default()
        };
        let tokens = Tokens::of(&usage(100, 60, 50, 20), false).unwrap();
        assert_eq!(tokens, Tokens { input: 40, cache_read: 60, cache_write: 0, output: 30, reasoning: 20 });
        assert_eq!(Tokens::of(&usage(100, 60, 50, 0), true).unwrap().input, 100);
        assert_eq!(Tokens::of(&usage(100, 101, 50, 0), false), Err(Unpriced::Implausible));
        assert_eq!(Tokens::of(&usage(1, 0, 5, 20), false).unwrap().output, 5);
        assert_eq!(Tokens::of(&Usage::default(), false), Err(Unpriced::NoTokens));
    }
}
