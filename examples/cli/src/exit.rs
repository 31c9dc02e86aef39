//! Exit codes. Frozen: scripts depend on them.

use std::io::Write;

use backstay::{Error, ErrorKind};

/// All went well.
pub const OK: u8 = 0;
/// A mistake of ours.
pub const INTERNAL: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// `check` found something.
pub const FINDINGS: u8 = 3;
/// The numbers of error kinds begin after this one.
const KINDS: u8 = 10;
/// Numbers of signals begin after this one, as shells have it.
pub const SIGNALS: u8 = 128;

/// The code of an error: ten more than the frozen number of its kind, but for our own mistakes and ^C.
pub fn code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Internal => INTERNAL,
        ErrorKind::Cancelled => SIGNALS + 2,
        kind => u8::try_from(kind.code()).map_or(INTERNAL, |code| KINDS + code),
    }
}

/// Says what is wrong with the command line (or what was asked to be said) and exits.
pub fn usage(error: &clap::Error) -> ! {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !wants_json {
        error.exit();
    }
    let message = error.render().to_string();
    let message = message.trim().trim_start_matches("error: ");
    let document = serde_json::json!({ "error": { "kind": "Usage", "message": message, "context": {} } });
    // Nobody is left to tell when standard error is closed.
    let _closed = writeln!(std::io::stderr(), "{document}");
    std::process::exit(i32::from(USAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_a_code_of_its_own() {
        let mut codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| code(&Error::new(*kind, ""))).collect();
        assert_eq!(codes, [11, 12, 13, 14, 15, 16, 17, 18, 130, 1]);
        codes.extend([OK, USAGE, FINDINGS]);
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len() + 3);
    }
}
