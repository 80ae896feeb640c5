//! What this server proves and what it does not.

use askama::Template;

use super::{Page, render};
use crate::web::view::page::Shell;

#[derive(Debug, Template)]
#[template(path = "about.html")]
struct AboutPage {
    shell: Shell,
}

/// `GET /about`
pub(crate) async fn show(shell: Shell) -> Page {
    render(&AboutPage { shell })
}
