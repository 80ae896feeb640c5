//! Answers about an action, as the panel shows them.

use verdict_replay::answers::{Answers, How, Question, Statement};

/// Events that are named behind a statement.
const SEQS_MAX: usize = 6;

/// The panel.
#[derive(Debug)]
pub(crate) struct AnswersView {
    /// Everything in one sentence.
    pub(crate) headline: String,
    /// Questions and what is known.
    pub(crate) answers: Vec<AnswerView>,
    /// Where the search stopped.
    pub(crate) stops: Vec<String>,
    /// True when a policy rules on such an action.
    pub(crate) is_point: bool,
}

/// One question.
#[derive(Debug)]
pub(crate) struct AnswerView {
    /// The question.
    pub(crate) asks: &'static str,
    /// What is known.
    pub(crate) says: Vec<SaidView>,
}

/// One statement.
#[derive(Debug)]
pub(crate) struct SaidView {
    /// The text.
    pub(crate) text: String,
    /// How it is known, when that is not the action's own word.
    pub(crate) how: &'static str,
    /// Events that say so.
    pub(crate) seqs: Vec<u64>,
    /// Events that are not named.
    pub(crate) more: usize,
}

impl AnswersView {
    /// Makes the panel.
    pub(crate) fn of(answers: Answers) -> Self {
        let no_point = |said: &Statement| said.text.starts_with("no:");
        let replayable = answers.answers.iter().find(|answer| answer.question == Question::Replayable);
        let is_point = !replayable.is_some_and(|answer| answer.says.iter().any(no_point));
        Self {
            headline: answers.headline,
            is_point,
            stops: answers.stops,
            answers: answers
                .answers
                .into_iter()
                .map(|answer| AnswerView {
                    asks: answer.asks,
                    says: answer.says.into_iter().map(said).collect(),
                })
                .collect(),
        }
    }
}

fn said(statement: Statement) -> SaidView {
    let how = match statement.how {
        How::Stated => "",
        how => how.as_str(),
    };
    let more = statement.seqs.len().saturating_sub(SEQS_MAX);
    let seqs = statement.seqs.into_iter().take(SEQS_MAX).collect();
    SaidView { text: statement.text, how, seqs, more }
}
