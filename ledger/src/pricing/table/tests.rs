use super::*;
use crate::event::Usage;
use crate::pricing::price;

const HEAD: &str = "label = \"t-1\"\ncurrency = \"USD\"\nvariant_attributes = [\"tier\"]\nordinary_variants = [\"default\"]\n";

fn row(provider: &str, model: &str, from: &str, rest: &str) -> String {
    format!(
        "[[price]]\nprovider = \"{provider}\"\nmodel = \"{model}\"\nfrom = \"{from}\"\nsource = \"list\"\nread = \"2026-01-01\"\n{rest}\n"
    )
}

fn table(rows: &[String]) -> Table {
    Table::parse(format!("{HEAD}{}", rows.concat()).as_bytes()).unwrap()
}

fn refusal(text: &str) -> String {
    Table::parse(text.as_bytes()).unwrap_err().to_string()
}

fn usage(provider: Option<&str>, model: &str, input: u64, output: u64) -> Usage {
    Usage {
        provider: provider.map(str::to_owned),
        model: Some(model.to_owned()),
        input_tokens: Some(input),
        output_tokens: Some(output),
        ..Usage::default()
    }
}

/// 2026-06-01T00:00:00Z.
const JUNE: u64 = 1_780_272_000_000_000_000;

#[test]
fn the_shipped_table_is_usable_and_says_where_each_price_is_from() {
    let table = Table::shipped().unwrap();
    assert!(table.prices().len() >= 30);
    for price in table.prices() {
        assert!(price.source.starts_with("https://"), "{price:?}");
        assert!(price.rates.input.is_some_and(|rate| rate > 0), "{price:?}");
        assert!(price.read >= price.from, "{price:?}");
    }
    // 1,000 tokens at 0.15 and 100 at 0.60 for a million: 150,000 and 60,000 nano-dollars.
    let cost = price(&table, &usage(Some("openai"), "gpt-4o-mini-2024-07-18", 1_000, 100), false, None, JUNE)
        .unwrap();
    assert_eq!((cost.nano, cost.currency.as_str()), (210_000, "USD"));
    assert_eq!(cost.basis, format!("priced:verdict-2026-11-25@{}", table.digest()));
    assert!(cost.basis.contains("@sha256:"));
}

#[test]
fn three_tokens_of_the_cheapest_model_are_not_rounded_to_nothing() {
    let table = table(&[row("openai", "small", "2026-01-01", "input = \"0.15\"\noutput = \"0\"")]);
    assert_eq!(price(&table, &usage(Some("openai"), "small", 3, 0), false, None, JUNE).unwrap().nano, 450);
}

#[test]
fn names_fit_exactly_then_dated_then_by_the_longest_prefix() {
    let table = table(&[
        row("p", "gpt-4o", "2026-01-01", "input = \"1\"\noutput = \"1\"\naliases = [\"four\"]"),
        row("p", "gpt-4o-mini", "2026-01-01", "input = \"2\"\noutput = \"1\""),
        row("p", "tuned", "2026-01-01", "input = \"3\"\noutput = \"1\"\nprefixes = [\"ft:\"]"),
        row("p", "tuned-4o", "2026-01-01", "input = \"4\"\noutput = \"1\"\nprefixes = [\"ft:gpt-4o\"]"),
    ]);
    for (model, input) in [
        ("gpt-4o", Some(1)),
        ("GPT-4o", Some(1)),
        ("four", Some(1)),
        ("gpt-4o-2024-08-06", Some(1)),
        ("gpt-4o-20240806", Some(1)),
        ("gpt-4o@20240806", Some(1)),
        ("gpt-4o-latest", Some(1)),
        ("gpt-4o-mini", Some(2)),
        ("ft:gpt-3", Some(3)),
        ("ft:gpt-4o:acme", Some(4)),
        // Another model whose name only begins like a known one.
        ("gpt-4o-audio-preview", None),
        ("gpt-4", None),
        ("", None),
        ("é", None),
        ("-2024-08-06", None),
    ] {
        let found = price(&table, &usage(Some("p"), model, 1_000_000, 0), false, None, JUNE);
        match input {
            Some(input) => assert_eq!(found.unwrap().nano, input * 1_000_000_000, "{model}"),
            None => assert_eq!(found, Err(Unpriced::UnknownModel), "{model}"),
        }
    }
}

#[test]
fn the_price_of_the_day_counts() {
    let table = table(&[
        row("p", "m", "2025-01-01", "input = \"9\"\noutput = \"9\""),
        row("p", "m", "2026-06-01", "input = \"1\"\noutput = \"1\"\nuntil = \"2026-06-30\""),
    ]);
    let at =
        |ns: u64| price(&table, &usage(Some("p"), "m", 1_000_000, 0), false, None, ns).map(|cost| cost.nano);
    let day = 86_400_000_000_000;
    assert_eq!(at(JUNE - 1), Ok(9_000_000_000), "the last nanosecond of May");
    assert_eq!(at(JUNE), Ok(1_000_000_000));
    assert_eq!(at(JUNE + 29 * day), Ok(1_000_000_000));
    assert_eq!(at(JUNE + 30 * day), Err(Unpriced::OutOfDate), "the old price does not come back");
    assert_eq!(at(0), Err(Unpriced::OutOfDate));
    assert_eq!(at(u64::MAX), Err(Unpriced::OutOfDate));
}

#[test]
fn what_is_not_known_is_not_free() {
    let table = table(&[
        row("a", "m", "2026-01-01", "input = \"1\"\noutput = \"2\""),
        row("b", "m", "2026-01-01", "input = \"3\"\noutput = \"2\""),
        row("a", "same", "2026-01-01", "input = \"1\"\noutput = \"2\""),
        row("b", "same", "2026-01-01", "input = \"1\"\noutput = \"2\""),
        row("a", "embed", "2026-01-01", "input = \"1\""),
        row("a", "m", "2026-01-01", "variant = \"batch\"\ninput = \"0.5\"\noutput = \"1\""),
    ]);
    let ask = |usage: &Usage, variant: Option<&str>| {
        price(&table, usage, false, variant, JUNE).map(|cost| cost.nano)
    };
    assert_eq!(ask(&usage(None, "m", 1, 1), None), Err(Unpriced::SeveralProviders));
    assert!(ask(&usage(None, "same", 1_000_000, 0), None).is_ok());
    assert_eq!(ask(&usage(Some("c"), "m", 1, 1), None), Err(Unpriced::UnknownModel));
    assert_eq!(
        ask(&Usage { output_tokens: None, ..usage(Some("a"), "m", 1, 1) }, None),
        Err(Unpriced::NoTokens)
    );
    assert_eq!(
        ask(&Usage { input_tokens: None, ..usage(Some("a"), "m", 1, 1) }, None),
        Err(Unpriced::NoTokens)
    );
    assert_eq!(ask(&Usage { model: None, ..usage(Some("a"), "m", 1, 1) }, None), Err(Unpriced::NoModel));
    assert_eq!(
        ask(&Usage { output_tokens: None, ..usage(Some("a"), "embed", 1_000_000, 0) }, None),
        Ok(1_000_000_000)
    );
    let cached = Usage { cache_read_tokens: Some(5), ..usage(Some("a"), "m", 10, 1) };
    assert_eq!(ask(&cached, None), Err(Unpriced::NoRate));
    assert_eq!(ask(&usage(Some("a"), "m", 1_000_000, 0), Some("Batch")), Ok(500_000_000));
    assert_eq!(ask(&usage(Some("a"), "m", 1_000_000, 0), Some("default")), Ok(1_000_000_000));
    assert_eq!(ask(&usage(Some("a"), "m", 1, 1), Some("priority")), Err(Unpriced::UnknownVariant));
    assert_eq!(ask(&usage(Some("a"), "m", u64::MAX, u64::MAX), None), Err(Unpriced::Implausible));
    assert_eq!(ask(&usage(Some("a"), "m", 0, 0), None), Ok(0), "nothing used costs nothing");
}

#[test]
fn long_prompts_have_the_price_of_their_band() {
    let table = table(&[
        row("p", "m", "2026-01-01", "input = \"1\"\noutput = \"1\"\ncache_read = \"1\""),
        row(
            "p",
            "m",
            "2026-01-01",
            "above_input_tokens = 200\ninput = \"2\"\noutput = \"2\"\ncache_read = \"2\"",
        ),
    ]);
    let nano = |input: u64| price(&table, &usage(Some("p"), "m", input, 0), false, None, JUNE).unwrap().nano;
    assert_eq!((nano(0), nano(200), nano(201)), (0, 200_000, 402_000));
    // Cached input is part of the prompt, wherever it is counted.
    let cached = Usage { cache_read_tokens: Some(150), ..usage(Some("p"), "m", 100, 0) };
    assert_eq!(price(&table, &cached, true, None, JUNE).unwrap().nano, 500_000);
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_place() {
    let good = row("p", "m", "2026-01-01", "input = \"1\"");
    for (text, says) in [
        (HEAD.to_owned(), "0 rows"),
        (format!("{HEAD}{good}{good}"), "price 2 (p m): there is another price for `m`"),
        (format!("{HEAD}{}", good.replace("\"1\"", "1")), "cannot be read"),
        (format!("{HEAD}{}", good.replace("\"1\"", "\"1e3\"")), "`1e3` is not a price"),
        (format!("{HEAD}{}", good.replace("input", "imput")), "imput"),
        (format!("{HEAD}{}", good.replace("2026-01-01\"\nsource", "soon\"\nsource")), "`soon` is not a day"),
        (format!("{HEAD}{}", row("p", "m", "2026-01-01", "")), "no price at all"),
        (
            format!("{HEAD}{}", row("p", "m", "2026-02-01", "input = \"1\"\nuntil = \"2026-01-31\"")),
            "ends before",
        ),
        (format!("{}{good}", HEAD.replace("USD", "usd")), "`usd` is not a currency"),
        (format!("{}{good}", HEAD.replace("t-1", "t 1")), "`t 1` is not a label"),
        (format!("{HEAD}{}", row("p", "m\\u0007", "2026-01-01", "input = \"1\"")), "control characters"),
    ] {
        let said = refusal(&text);
        assert!(said.contains(says), "{says}: {said}");
    }
    assert!(matches!(Table::parse(b"\xff"), Err(TableError::Text)));
    assert!(matches!(Table::parse(&vec![b'#'; TABLE_BYTES_MAX + 1]), Err(TableError::TooLarge { .. })));
}
