//! Integration tests of the server and the command line, one binary.

mod anchor_support;
mod anchors;
mod browser;
mod cli;
mod cli_bad_input;
mod cli_disk;
mod cli_find;
mod cli_fsck;
mod cli_help;
mod cli_keys;
mod cli_redact;
mod cli_support;
mod export_log;
mod interop;
mod interop_python;
mod markup;
mod readers;
mod served;
mod site;
mod web_downloads;
mod web_ingest;
mod web_pages;
mod web_safety;
mod web_tiles;
mod webdriver;
mod witness;
