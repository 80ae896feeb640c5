//! What the records of a group share: their resource, and their instrumentation scope.
//!
//! Every event carries it whole. From the second record of a group on it is a copy of one that was written down, unless
//! the profile of a record takes something out of it, which few do.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::ingest::fields::Fields;

/// The resource or scope of one record.
#[derive(Clone)]
pub(in crate::ingest) struct Shared {
    group: Rc<Group>,
    /// What is left of the attributes, once something was taken.
    own: Option<Fields>,
}

struct Group {
    /// Name under `attributes`.
    name: &'static str,
    fields: Fields,
    /// What is stated outside of the attributes.
    extra: Map<String, Value>,
    /// The whole as it goes into an event, and the pointers of its numbers that are text.
    written: OnceCell<(Option<Value>, Vec<String>)>,
    was_used: Cell<bool>,
}

impl Shared {
    pub(super) fn new(name: &'static str, fields: Fields, extra: Map<String, Value>) -> Self {
        let (written, was_used) = (OnceCell::new(), Cell::new(false));
        Self { group: Rc::new(Group { name, fields, extra, written, was_used }), own: None }
    }

    /// Looks at a text.
    pub(in crate::ingest) fn get_text(&self, name: &str) -> Option<&str> {
        self.own.as_ref().unwrap_or(&self.group.fields).get_text(name)
    }

    /// Takes a text that fits into the statement.
    pub(in crate::ingest) fn text(&mut self, name: &str) -> Option<String> {
        self.get_text(name)?;
        self.own.get_or_insert_with(|| self.group.fields.clone()).text(name)
    }

    /// Takes the first of several names that holds a usable text.
    pub(in crate::ingest) fn first_text(&mut self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    /// Adds what is left to the attributes of an event.
    pub(super) fn write_to(&mut self, members: &mut Vec<(String, Value)>, restated: &mut Vec<String>) {
        let group = &*self.group;
        let write =
            |fields, restated: &mut Vec<String>| write(group.name, fields, group.extra.clone(), restated);
        let written = if let Some(fields) = self.own.take() {
            write(fields, restated)
        } else if group.was_used.replace(true) {
            let (written, pointers) = group.written.get_or_init(|| {
                let mut pointers = Vec::new();
                (write(group.fields.clone(), &mut pointers), pointers)
            });
            restated.extend_from_slice(pointers);
            written.clone()
        } else {
            // Many groups have one record; it is not worth a copy to keep.
            write(group.fields.clone(), restated)
        };
        members.extend(written.map(|value| (group.name.to_owned(), value)));
    }
}

fn write(
    name: &str,
    fields: Fields,
    mut extra: Map<String, Value>,
    restated: &mut Vec<String>,
) -> Option<Value> {
    if !fields.is_empty() {
        let attributes = fields.into_map(&format!("/attributes/{name}/attributes"), &[], restated);
        extra.insert("attributes".to_owned(), Value::Object(attributes));
    }
    (!extra.is_empty()).then_some(Value::Object(extra))
}
