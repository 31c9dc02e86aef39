//! Standard output: one JSON document, or text.

use std::io::Write;

use backstay::{Error, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// How to print.
#[derive(Clone, Copy)]
pub struct Output {
    pub json: bool,
    pub quiet: bool,
}

impl Output {
    /// What was asked for; printed even when quiet.
    pub fn answer<T: Serialize>(self, document: &T, text: impl FnOnce() -> String) -> Result<()> {
        if !self.json {
            return print(text().trim_end());
        }
        let document = serde_json::to_string_pretty(document)
            .map_err(|error| Error::internal(format!("The answer cannot be written as JSON: {error}")))?;
        print(&document)
    }

    /// What was done; not printed when quiet, unless as JSON.
    pub fn report<T: Serialize>(self, document: &T, text: impl FnOnce() -> String) -> Result<()> {
        if self.quiet && !self.json { Ok(()) } else { self.answer(document, text) }
    }

    /// What went wrong, on standard error.
    pub fn error(self, error: &Error, warnings: &[String]) {
        let line = if self.json {
            let context: serde_json::Map<_, _> =
                error.context().iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
            let mut document = serde_json::json!({
                "error": { "kind": error.kind().name(), "message": error.message(), "context": context }
            });
            if !warnings.is_empty() {
                document["warnings"] = warnings.into();
            }
            document.to_string()
        } else {
            let mut text = format!("error: {}", error.message());
            for (key, value) in error.context() {
                text.push_str(&format!("\n  {key}: {value}"));
            }
            text
        };
        // Nobody is left to tell when standard error is closed.
        let _closed = writeln!(std::io::stderr(), "{line}");
    }
}

/// A line (or more) on standard output. A reader that went away, such as `head`, is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io(error, "Write to standard output"))
        }
        _ => Ok(()),
    }
}

/// A table without frames; columns from `right` on are of numbers.
pub fn table<const N: usize>(head: [&str; N], right: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
