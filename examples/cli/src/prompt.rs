//! Asking for a passphrase on the terminal.

use std::{
    io::{BufRead, BufReader, IsTerminal, Read, Write},
    sync::OnceLock,
};

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

/// The terminal, where somebody is there to be asked.
fn terminal() -> Option<std::fs::File> {
    // Standard input may be the data; somebody is there all the same when messages go to a terminal.
    let somebody_is_there = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    std::fs::File::options().read(true).write(true).open("/dev/tty").ok().filter(|_| somebody_is_there)
}

/// Asks once, without echo.
pub fn once(text: &str) -> Result<Zeroizing<String>> {
    hidden(text)?.ok_or_else(|| {
        Error::invalid_input(
            "No passphrase: use --passphrase-file, --passphrase-command, --key-file or BACKSTAY_PASSPHRASE where there is no \
             terminal to ask on",
        )
    })
}

/// Asks without echo; nothing when nobody is there.
pub fn hidden(text: &str) -> Result<Option<Zeroizing<String>>> {
    let Some(terminal) = terminal() else { return Ok(None) };
    if let Ok(before) = tcgetattr(&terminal) {
        TERMINAL.get_or_init(|| (terminal, before));
    }
    let answer = rpassword::prompt_password(text).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => Error::cancelled(),
        _ => Error::io(error, "Ask for the passphrase"),
    })?;
    Ok(Some(Zeroizing::new(answer)))
}

/// Whether somebody types `yes`. Nobody is a no.
pub fn confirmed(text: &str) -> Result<bool> {
    let Some(mut terminal) = terminal() else { return Ok(false) };
    let asked = |error| Error::io(error, "Ask on the terminal");
    write!(terminal, "{text} (yes/no) ").and_then(|()| terminal.flush()).map_err(asked)?;
    let mut answer = String::new();
    // Longer ones are no yes either.
    BufReader::new(terminal.take(100)).read_line(&mut answer).map_err(asked)?;
    Ok(answer.trim() == "yes")
}

/// Whether somebody can be asked.
pub fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a question that is answered by `yes`.
pub fn confirm(question: &str) -> Result<bool> {
    eprint!("{question} Type `yes` to go on: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Error::io(error, "Read the answer"))?;
    Ok(answer.trim() == "yes")
}

/// Asks for something new, twice.
pub fn twice() -> Result<Zeroizing<String>> {
    let first = once("New passphrase: ")?;
    if *once("The same again: ")? != *first {
        return Err(Error::invalid_input("The two passphrases differ; run it again"));
    }
    Ok(first)
}
