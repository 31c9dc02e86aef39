//! Asking for a passphrase on the terminal.

use std::{io::IsTerminal, sync::OnceLock};

use backstay::{Error, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

static TERMINAL: OnceLock<(std::fs::File, Termios)> = OnceLock::new();

/// Puts the terminal back as it was when a prompt was cut off by ^C.
pub fn restore_terminal() {
    if let Some((terminal, before)) = TERMINAL.get() {
        // It is gone when this fails.
        let _gone = tcsetattr(terminal, OptionalActions::Now, before);
    }
}

/// Asks once, without echo.
pub fn once(text: &str) -> Result<Zeroizing<String>> {
    // Standard input may be the data; somebody is there all the same when messages go to a terminal.
    let somebody_is_there = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty").ok().filter(|_| somebody_is_there);
    let Some(terminal) = terminal else {
        return Err(Error::invalid_input(
            "No passphrase: use --passphrase-file, --passphrase-command, --key-file or BACKSTAY_PASSPHRASE where there is no \
             terminal to ask on",
        ));
    };
    if let Ok(before) = tcgetattr(&terminal) {
        TERMINAL.get_or_init(|| (terminal, before));
    }
    let answer = rpassword::prompt_password(text).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => Error::cancelled(),
        _ => Error::io(error, "Ask for the passphrase"),
    })?;
    Ok(Zeroizing::new(answer))
}

/// Asks for something new, twice.
pub fn twice() -> Result<Zeroizing<String>> {
    let first = once("New passphrase: ")?;
    if *once("The same again: ")? != *first {
        return Err(Error::invalid_input("The two passphrases differ; run it again"));
    }
    Ok(first)
}
