//! The price table: its file form, its checks, its identity, and which row is for a call.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::decimal::nano;
use super::{Unpriced, VARIANT};
use crate::action::labels::LabelSource;
use crate::id::Digest;

/// Largest table, bytes and rows.
const TABLE_BYTES_MAX: usize = 1 << 20;
const ROWS_MAX: usize = 10_000;
/// Longest label, name of a model or provider, and source.
const NAME_BYTES_MAX: usize = 128;
const SOURCE_BYTES_MAX: usize = 1_024;

/// The table that comes with this version.
const SHIPPED: &str = include_str!("default.toml");

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Larger than anybody can read.
    #[error("the price table has {bytes} bytes, and {TABLE_BYTES_MAX} are the most")]
    TooLarge {
        /// Size.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the price table is not UTF-8 text")]
    Text,
    /// Not TOML of this form.
    #[error("the price table cannot be read: {detail}")]
    Syntax {
        /// What and where.
        detail: String,
    },
    /// A value that cannot be.
    #[error("{place}: {detail}")]
    Value {
        /// `price 12 (openai gpt-4o)`.
        place: String,
        /// What is wrong.
        detail: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    label: String,
    currency: String,
    #[serde(default)]
    variant_attributes: Vec<String>,
    #[serde(default)]
    ordinary_variants: Vec<String>,
    #[serde(default)]
    provider: Vec<ProviderForm>,
    #[serde(default)]
    price: Vec<PriceForm>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderForm {
    name: String,
    aliases: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceForm {
    provider: String,
    model: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    variant: Option<String>,
    currency: Option<String>,
    from: String,
    until: Option<String>,
    #[serde(default)]
    above_input_tokens: u64,
    input: Option<String>,
    output: Option<String>,
    cache_read: Option<String>,
    cache_write: Option<String>,
    reasoning: Option<String>,
    source: String,
    read: String,
}

/// Prices for a million tokens, in nano-units; `None` where there is no price, which is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rates {
    /// Input that no cache served.
    pub input: Option<i64>,
    /// Output.
    pub output: Option<i64>,
    /// Input that a cache served.
    pub cache_read: Option<i64>,
    /// Input that was written to a cache.
    pub cache_write: Option<i64>,
    /// Output spent on reasoning, where it costs other than output.
    pub reasoning: Option<i64>,
}

/// From how many input tokens on a row applies.
pub type Band = u64;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Price {
    /// Provider, as the table calls it.
    pub provider: String,
    /// Model.
    pub model: String,
    /// Other names of the model.
    pub aliases: Vec<String>,
    /// What names of the model start with.
    pub prefixes: Vec<String>,
    /// Variant, such as `batch`; `None` is the ordinary one.
    pub variant: Option<String>,
    /// ISO 4217 code.
    pub currency: String,
    /// First day, UTC.
    #[serde(serialize_with = "day")]
    pub from: Date,
    /// Last day, UTC.
    #[serde(serialize_with = "optional_day")]
    pub until: Option<Date>,
    /// Only calls with more input tokens than this, cached ones included.
    pub above_input_tokens: Band,
    /// Prices.
    pub rates: Rates,
    /// Where the prices were read.
    pub source: String,
    /// And when.
    #[serde(serialize_with = "day")]
    pub read: Date,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn day<S: serde::Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(day)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::ref_option,
    reason = "serde passes the field by reference"
)]
fn optional_day<S: serde::Serializer>(optional: &Option<Date>, serializer: S) -> Result<S::Ok, S::Error> {
    match optional {
        Some(date) => day(date, serializer),
        None => serializer.serialize_none(),
    }
}

/// A checked table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    label: String,
    digest: Digest,
    bytes: Vec<u8>,
    variant_attributes: Vec<String>,
    ordinary_variants: Vec<String>,
    /// (alias, name), in lower case.
    providers: Vec<(String, String)>,
    prices: Vec<Price>,
}

impl Table {
    /// Returns the table that comes with this version.
    pub fn shipped() -> Result<Self, TableError> {
        Self::parse(SHIPPED.as_bytes())
    }

    /// Reads and checks a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        if bytes.len() > TABLE_BYTES_MAX {
            return Err(TableError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| TableError::Text)?;
        let form: FileForm =
            toml::from_str(text).map_err(|error| TableError::Syntax { detail: error.to_string() })?;
        let whole = |detail: String| TableError::Value { place: "the table".to_owned(), detail };
        if !is_label(&form.label) {
            return Err(whole(format!(
                "`{}` is not a label: 1 to 64 letters, digits, `.`, `_` and `-`",
                form.label
            )));
        }
        if form.price.is_empty() || form.price.len() > ROWS_MAX {
            return Err(whole(format!(
                "it has {} rows of [[price]], and 1 to {ROWS_MAX} are needed",
                form.price.len()
            )));
        }
        let currency = currency(&form.currency).map_err(whole)?;
        let mut providers = Vec::new();
        for provider in &form.provider {
            for alias in &provider.aliases {
                let pair = (alias.to_lowercase(), provider.name.to_lowercase());
                if providers.iter().any(|(known, name)| *known == pair.0 && *name != pair.1) {
                    return Err(whole(format!("provider `{alias}` is an alias of two providers")));
                }
                providers.push(pair);
            }
        }
        let mut prices = Vec::with_capacity(form.price.len());
        let mut keys = BTreeSet::new();
        for (number, row) in (1..).zip(form.price) {
            let place = format!("price {number} ({} {})", row.provider, row.model);
            let price =
                row.check(&currency).map_err(|detail| TableError::Value { place: place.clone(), detail })?;
            for name in std::iter::once(&price.model).chain(&price.aliases).chain(&price.prefixes) {
                let key = (
                    price.provider.clone(),
                    name.clone(),
                    price.variant.clone(),
                    price.from,
                    price.above_input_tokens,
                );
                if !keys.insert(key) {
                    let detail = format!("there is another price for `{name}` from {} on", price.from);
                    return Err(TableError::Value { place, detail });
                }
            }
            prices.push(price);
        }
        Ok(Self {
            label: form.label,
            digest: Digest::of(bytes),
            bytes: bytes.to_vec(),
            variant_attributes: form.variant_attributes,
            ordinary_variants: form.ordinary_variants.iter().map(|name| name.to_lowercase()).collect(),
            providers,
            prices,
        })
    }

    /// Returns what the author calls it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the digest of its bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns its file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns its identity: label and digest.
    pub fn id(&self) -> String {
        format!("{}@{}", self.label, self.digest)
    }

    /// Returns its rows in the order of the file.
    pub fn prices(&self) -> &[Price] {
        &self.prices
    }

    /// Returns where the variant of a call is looked for.
    pub fn variant_source(&self) -> LabelSource {
        LabelSource { name: VARIANT.to_owned(), attributes: self.variant_attributes.clone() }
    }

    /// Finds the row for a call. `day` is that of the call, UTC; `prompt_tokens` all of its input.
    pub fn find(
        &self,
        provider: Option<&str>,
        model: &str,
        variant: Option<&str>,
        day: Date,
        prompt_tokens: u64,
    ) -> Result<&Price, Unpriced> {
        let model = model.to_lowercase();
        let provider = provider.map(|name| self.provider(name));
        let variant = variant.map(str::to_lowercase).filter(|name| !self.ordinary_variants.contains(name));
        // How well each row's name fits; only the best count.
        let mut best = 0;
        let mut rows: Vec<&Price> = Vec::new();
        for price in &self.prices {
            if provider.as_ref().is_some_and(|provider| *provider != price.provider) {
                continue;
            }
            let fit = price.fit(&model);
            if fit > best {
                best = fit;
                rows.clear();
            }
            if fit > 0 && fit == best {
                rows.push(price);
            }
        }
        if rows.is_empty() {
            return Err(Unpriced::UnknownModel);
        }
        rows.retain(|price| price.variant == variant);
        if rows.is_empty() {
            return Err(Unpriced::UnknownVariant);
        }
        let mut found: Option<&Price> = None;
        let owners: BTreeSet<&str> = rows.iter().map(|price| price.provider.as_str()).collect();
        for owner in owners {
            let price = at(rows.iter().copied().filter(|price| price.provider == owner), day, prompt_tokens);
            let Some(price) = price else { return Err(Unpriced::OutOfDate) };
            if found.is_some_and(|known| (known.rates, &known.currency) != (price.rates, &price.currency)) {
                return Err(Unpriced::SeveralProviders);
            }
            found = found.or(Some(price));
        }
        found.ok_or(Unpriced::UnknownModel)
    }

    fn provider(&self, name: &str) -> String {
        let name = name.to_lowercase();
        let known = self.providers.iter().find(|(alias, _)| *alias == name);
        known.map_or(name, |(_, name)| name.clone())
    }
}

/// Chooses the newest price that is valid on a day, and of its date the highest band that the call reaches.
fn at<'p>(rows: impl Iterator<Item = &'p Price> + Clone, day: Date, prompt_tokens: u64) -> Option<&'p Price> {
    let from = rows.clone().map(|price| price.from).filter(|from| *from <= day).max()?;
    let valid = rows.filter(|price| price.from == from && price.until.is_none_or(|until| day <= until));
    // A band of its own begins above its threshold; the one from zero on takes a call without input too.
    let reached =
        valid.filter(|price| price.above_input_tokens == 0 || prompt_tokens > price.above_input_tokens);
    reached.max_by_key(|price| price.above_input_tokens)
}

impl Price {
    /// Tells how well the row fits a name: exactly, with a date behind it, or by a prefix, the longer the better.
    fn fit(&self, model: &str) -> usize {
        const EXACT: usize = usize::MAX;
        const DATED: usize = usize::MAX - 1;
        let names = || std::iter::once(&self.model).chain(&self.aliases);
        if names().any(|name| name == model) {
            return EXACT;
        }
        let undated = undated(model);
        if undated.is_some_and(|undated| names().any(|name| name == undated)) {
            return DATED;
        }
        let prefixes = self.prefixes.iter().filter(|prefix| model.starts_with(prefix.as_str()));
        prefixes.map(String::len).max().unwrap_or(0)
    }
}

/// Takes the date of a snapshot off a name: `-2025-08-07`, `-20250807`, `@20250807`, `-latest`.
fn undated(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let split = |length: usize| model.len().checked_sub(length).and_then(|at| model.split_at_checked(at));
    if let Some((name, date)) = split(9)
        && let Some(date) = date.strip_prefix(['-', '@'])
        && digits(date)
    {
        return Some(name);
    }
    let (name, date) = split(11)?;
    let mut parts = date.strip_prefix('-')?.split('-');
    let dated =
        [4, 2, 2].into_iter().all(|length| parts.next().is_some_and(|p| p.len() == length && digits(p)));
    dated.then_some(name)
}

impl PriceForm {
    fn check(self, currency_of_table: &str) -> Result<Price, String> {
        for name in [&self.provider, &self.model].into_iter().chain(&self.aliases).chain(&self.prefixes) {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
                return Err(format!(
                    "`{name}` is not a name: 1 to {NAME_BYTES_MAX} bytes, no control characters"
                ));
            }
        }
        if self.source.is_empty() || self.source.len() > SOURCE_BYTES_MAX {
            return Err("`source` must say where the prices were read".to_owned());
        }
        let date = |text: &str| {
            text.parse::<Date>().map_err(|_| format!("`{text}` is not a day: write it like 2026-11-20"))
        };
        let rate = |text: &Option<String>| {
            text.as_ref()
                .map(|text| {
                    nano(text).ok_or_else(|| {
                        format!("`{text}` is not a price: a decimal number as text, like \"0.075\", for a million tokens")
                    })
                })
                .transpose()
        };
        let rates = Rates {
            input: rate(&self.input)?,
            output: rate(&self.output)?,
            cache_read: rate(&self.cache_read)?,
            cache_write: rate(&self.cache_write)?,
            reasoning: rate(&self.reasoning)?,
        };
        if rates == Rates::default() {
            return Err("it has no price at all".to_owned());
        }
        let (from, until) = (date(&self.from)?, self.until.as_deref().map(date).transpose()?);
        if until.is_some_and(|until| until < from) {
            return Err(format!("it ends before it begins, on {from}"));
        }
        let lower = |names: Vec<String>| names.into_iter().map(|name| name.to_lowercase()).collect();
        Ok(Price {
            provider: self.provider.to_lowercase(),
            model: self.model.to_lowercase(),
            aliases: lower(self.aliases),
            prefixes: lower(self.prefixes),
            variant: self.variant.map(|variant| variant.to_lowercase()),
            currency: self.currency.as_deref().map_or(Ok(currency_of_table.to_owned()), currency)?,
            from,
            until,
            above_input_tokens: self.above_input_tokens,
            rates,
            read: date(&self.read)?,
            source: self.source,
        })
    }
}

fn currency(text: &str) -> Result<String, String> {
    let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code { Ok(text.to_owned()) } else { Err(format!("`{text}` is not a currency: write it like USD")) }
}

/// Tells whether a text can be the label of a table or contract.
pub(crate) fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests;
