//! A small strict reader of our own HTML, and the rules that every page keeps.
//!
//! It reads only what our templates write: quoted attributes, and every element closed but the void ones. What
//! it cannot read is a finding too.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};

const VOID: [&str; 6] = ["meta", "link", "input", "br", "img", "hr"];

/// One element as it was opened.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Text of everything inside.
    pub(crate) text: String,
    pub(crate) inside: Vec<String>,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// Reads a page into its elements in document order.
pub(crate) fn read(html: &str) -> Vec<Element> {
    let mut elements: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut rest = html.strip_prefix("<!doctype html>").expect("a page starts with its doctype");
    while let Some(at) = rest.find('<') {
        let text = decode(&rest[..at]);
        for index in &open {
            elements[*index].text.push_str(&text);
        }
        rest = &rest[at + 1..];
        let end = tag_end(rest);
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let index = open.pop().unwrap_or_else(|| panic!("</{name}> closes nothing"));
            assert_eq!(elements[index].name, name, "wrong nesting");
            continue;
        }
        let closed = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "`<{tag}` is not a tag: unescaped text?");
        let inside = open.iter().map(|index| elements[*index].name.clone()).collect();
        elements.push(Element {
            name: name.to_owned(),
            attributes: attributes_of(attributes),
            text: String::new(),
            inside,
        });
        if !closed && !VOID.contains(&name) {
            open.push(elements.len() - 1);
        }
    }
    assert!(
        open.is_empty(),
        "not closed: {:?}",
        open.iter().map(|index| &elements[*index].name).collect::<Vec<_>>()
    );
    elements
}

fn tag_end(rest: &str) -> usize {
    let mut quoted = false;
    for (at, character) in rest.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '>' if !quoted => return at,
            _ => {}
        }
    }
    panic!("a tag without end: {}", &rest[..rest.len().min(80)]);
}

fn attributes_of(mut text: &str) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return attributes;
        }
        let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
        let name = text[..end].to_owned();
        text = &text[end..];
        let mut value = String::new();
        if let Some(after) = text.strip_prefix("=\"") {
            let close = after.find('"').expect("a quoted value ends");
            value = decode(&after[..close]);
            text = &after[close + 1..];
        } else {
            assert!(!text.starts_with('='), "attribute {name} is not quoted");
        }
        assert!(attributes.insert(name.clone(), value).is_none(), "attribute {name} twice");
    }
}

fn decode(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#34;", "\"")
        .replace("&amp;", "&")
}

/// Returns everything on a page that breaks a rule.
pub(crate) fn lint(html: &str) -> Vec<String> {
    let elements = read(html);
    let mut wrong = Vec::new();
    let ids: Vec<&str> = elements.iter().filter_map(|element| element.attribute("id")).collect();
    let known: BTreeSet<&str> = ids.iter().copied().collect();
    if known.len() != ids.len() {
        let twice = ids.iter().filter(|id| ids.iter().filter(|other| other == id).count() > 1);
        wrong.push(format!("ids twice: {:?}", twice.collect::<BTreeSet<_>>()));
    }
    let labelled: BTreeSet<&str> =
        elements.iter().filter(|e| e.name == "label").filter_map(|e| e.attribute("for")).collect();
    let mut level = 0;
    for element in &elements {
        let name = element.name.as_str();
        for (attribute, value) in &element.attributes {
            if attribute == "style" || attribute.starts_with("on") {
                wrong.push(format!("<{name} {attribute}=…>"));
            }
            if matches!(attribute.as_str(), "href" | "src" | "action")
                && !(value.starts_with('/') && !value.starts_with("//") || value.starts_with('#'))
            {
                wrong.push(format!("<{name} {attribute}=\"{value}\"> leads away"));
            }
            if let ("href", Some(target)) = (attribute.as_str(), value.strip_prefix('#'))
                && !known.contains(target)
            {
                wrong.push(format!("link to #{target}, which is not on the page"));
            }
            if attribute == "aria-labelledby" && !known.contains(value.as_str()) {
                wrong.push(format!("aria-labelledby {value}, which is not on the page"));
            }
        }
        match name {
            "style" => wrong.push("a <style> element".to_owned()),
            "script" if element.attribute("src").is_none() || !element.text.trim().is_empty() => {
                wrong.push("an inline script".to_owned());
            }
            "a" if element.text.trim().is_empty() => wrong.push("a link without text".to_owned()),
            "button" if element.text.trim().is_empty() => wrong.push("a button without text".to_owned()),
            "input" | "select"
                if element.attribute("type") != Some("hidden")
                    && !element.attribute("id").is_some_and(|id| labelled.contains(id)) =>
            {
                wrong.push(format!("a {name} without label"));
            }
            "th" if element.attribute("scope").is_none() => {
                wrong.push(format!("th `{}` without scope", element.text));
            }
            "td" if !element.inside.iter().any(|outer| outer == "table") => {
                wrong.push("td outside a table".to_owned());
            }
            "svg"
                if element.attribute("aria-hidden") != Some("true")
                    && element.attribute("aria-label").is_none() =>
            {
                wrong.push("an svg that is neither hidden nor named".to_owned());
            }
            "section" if element.attribute("aria-labelledby").is_none() => {
                wrong.push("a section without name".to_owned());
            }
            "h1" | "h2" | "h3" | "h4" => {
                let this = name.trim_start_matches('h').parse::<u32>().unwrap();
                if this > level + 1 {
                    wrong.push(format!("{name} `{}` after level {level}", element.text.trim()));
                }
                if element.text.trim().is_empty() {
                    wrong.push(format!("an empty {name}"));
                }
                level = this;
            }
            _ => {}
        }
    }
    // A drawing has titles of its own.
    let outside_svg = elements.iter().filter(|element| !element.inside.iter().any(|outer| outer == "svg"));
    let names: Vec<&str> = outside_svg.map(|element| element.name.as_str()).collect();
    let count = |wanted: &str| names.iter().filter(|name| **name == wanted).count();
    for (wanted, number) in [("h1", 1), ("main", 1), ("title", 1)] {
        if count(wanted) != number {
            wrong.push(format!("{} <{wanted}> elements", count(wanted)));
        }
    }
    for table in elements.iter().filter(|element| element.name == "table") {
        if table.text.trim().is_empty() {
            wrong.push("an empty table".to_owned());
        }
    }
    if count("table") != count("thead") {
        wrong.push("a table without head".to_owned());
    }
    if elements.first().is_none_or(|html| html.attribute("lang") != Some("en")) {
        wrong.push("no language".to_owned());
    }
    wrong
}

#[test]
fn the_lint_finds_what_it_is_for() {
    let page = |body: &str| {
        format!(
            "<!doctype html><html lang=\"en\"><head><title>t</title></head><body><main><h1>t</h1>{body}</main></body></html>"
        )
    };
    assert_eq!(lint(&page("<p>fine</p>")), Vec::<String>::new());
    for bad in [
        "<p style=\"x\">a</p>",
        "<p onclick=\"x\">a</p>",
        "<script>x</script>",
        "<a href=\"https://evil.example\">a</a>",
        "<a href=\"javascript:x\">a</a>",
        "<a href=\"#nowhere\">a</a>",
        "<a href=\"/\"></a>",
        "<input id=\"x\" name=\"x\">",
        "<h3>skips a level</h3>",
        "<table><tbody><tr><td>1</td></tr></tbody></table>",
        "<i id=\"x\">1</i><i id=\"x\">2</i>",
        "<svg></svg>",
    ] {
        assert_eq!(lint(&page(bad)).len(), 1, "{bad}: {:?}", lint(&page(bad)));
    }
}
