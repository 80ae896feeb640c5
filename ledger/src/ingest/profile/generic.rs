//! Any other span or log record: kept whole, understood only as far as OpenTelemetry itself goes.

use super::{Draft, Profile, Unset};

pub(super) const PROFILE: Profile = Profile { name: "generic", version: 1, applies: |_| true, map };

fn map(draft: &mut Draft) {
    // No status is no statement here: most instrumentations never set one.
    draft.outcome_from_status(Unset::SaysNothing);
    if let Some(name) = draft.log_event() {
        // A plain log line has no name; who wrote it is the nearest thing to one.
        let name = if name.is_empty() { &*draft.scope_name } else { name };
        draft.event.action.name = name.to_owned();
    }
}
