//! What the commands share that count actions: the range, the settle window, the labels.

use std::ops::Range;
use std::sync::Arc;

use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::activation::ActivationError;
use verdict_ledger::clock::{Clock as _, SystemClock};
use verdict_ledger::view::{Rules, View};
use verdict_ledger::{Ledger, Record};

use crate::cli::Context;
use crate::exit::{CliError, Kind};
use crate::progress::Progress;

/// Labels that can be asked for at most.
const LABELS_MAX: usize = 32;

/// Returns the time before which nothing more is expected.
pub(crate) fn settled_before_ns(context: &Context) -> u64 {
    SystemClock.now_ns().saturating_sub(context.settle_ns)
}

/// Reads what is in force at the end of the log.
pub(crate) fn rules(ledger: &Ledger, labels: Vec<LabelSource>) -> Result<Arc<Rules>, CliError> {
    Ok(Rules::read(ledger, ledger.head().size, labels)?)
}

/// Folds and prices a range. `seen` is shown every record.
pub(crate) fn view(
    ledger: &Ledger,
    range: Range<u64>,
    labels: Vec<LabelSource>,
    context: &Context,
    seen: &mut dyn FnMut(&Record),
) -> Result<View, CliError> {
    let rules = rules(ledger, labels)?;
    let progress = Progress::start(context.output, "read");
    let (mut done, all) = (0_u64, range.end.saturating_sub(range.start));
    let view = View::read(ledger, range, &rules, settled_before_ns(context), &mut |record| {
        seen(record);
        done += 1;
        if done.is_multiple_of(1_024) {
            progress.at(done, all);
        }
    })?;
    Ok(view)
}

/// Reads `team=genops.team,metadata.team`.
pub(crate) fn parse_label(text: &str) -> Result<LabelSource, String> {
    let expected =
        || format!("`{text}` is not NAME=ATTRIBUTE[,ATTRIBUTE…], like team=genops.team,metadata.team");
    let (name, attributes) = text.split_once('=').ok_or_else(expected)?;
    let attributes: Vec<&str> =
        attributes.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if name.trim().is_empty() || attributes.is_empty() {
        return Err(expected());
    }
    Ok(LabelSource::new(name.trim(), &attributes))
}

/// Adds what was asked for to the usual labels; a name that is given again replaces the usual attributes.
pub(crate) fn labels(given: &[LabelSource]) -> Result<Vec<LabelSource>, CliError> {
    let mut all = LabelSource::defaults();
    for source in given {
        all.retain(|known| known.name != source.name);
        all.push(source.clone());
    }
    if all.len() > LABELS_MAX {
        return Err(CliError::unusable(format!(
            "{} labels are asked for, and {LABELS_MAX} are the most",
            all.len()
        )));
    }
    Ok(all)
}

impl From<ActivationError> for CliError {
    fn from(error: ActivationError) -> Self {
        match error {
            ActivationError::Ledger(error) => error.into(),
            ActivationError::Append(error) => error.into(),
            ActivationError::Content { .. } => {
                Self::of(Kind::Unusable, &error).hint("it was written for another version of verdict")
            }
            _ => Self::of(Kind::Untrusted, &error).hint("run `verdict fsck` to see what else is damaged"),
        }
    }
}
