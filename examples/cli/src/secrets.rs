//! Passphrases and key files: where they come from. Never from an argument, which every user of the machine can see.

use std::{
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use backstay::{
    Context, Error, Result, ResultExt,
    repository::{Credential, NewSlot, SecretKey, ids::SignerId},
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{args::Global, prompt, sides::Side};

const PASSPHRASE_VARIABLE: &str = "BACKSTAY_PASSPHRASE";
const KEY_FILE_VARIABLE: &str = "BACKSTAY_KEY_FILE";
/// No passphrase and no key file is larger.
const MAX_BYTES: u64 = 64 << 10;

/// What opens a repository: options before variables, key file before passphrase, and at last the terminal.
pub async fn to_open(global: &Global, ctx: &Context) -> Result<Credential> {
    open_with(global, "Passphrase: ", ctx).await
}

async fn open_with(global: &Global, prompt: &'static str, ctx: &Context) -> Result<Credential> {
    let options = [global.passphrase_file.is_some(), global.passphrase_command.is_some(), global.key_file.is_some()];
    if options.iter().filter(|given| **given).count() > 1 {
        return Err(Error::invalid_input(
            "One of --passphrase-file, --passphrase-command and --key-file is enough to open a repository",
        ));
    }
    if let Some(path) = &global.key_file {
        return read_key_file(path);
    }
    if let Some(passphrase) = from_options(global)? {
        return Ok(Credential::passphrase(passphrase.as_str()));
    }
    if let Some(path) = key_file_variable(KEY_FILE_VARIABLE) {
        return read_key_file(&path);
    }
    let passphrase = match from_variable(PASSPHRASE_VARIABLE)? {
        Some(passphrase) => passphrase,
        None => on_a_thread(ctx, move || prompt::once(prompt).and_then(checked)).await?,
    };
    Ok(Credential::passphrase(passphrase.as_str()))
}

/// The same for one of two repositories: its own options, its own variables, then what opens any.
pub async fn to_open_side(options: &Global, own_options: bool, side: Side, ctx: &Context) -> Result<Credential> {
    if !own_options {
        let name = |name: &str| name.replacen("BACKSTAY_", side.variable_prefix(), 1);
        if let Some(path) = key_file_variable(&name(KEY_FILE_VARIABLE)) {
            return read_key_file(&path);
        }
        if let Some(passphrase) = from_variable(&name(PASSPHRASE_VARIABLE))? {
            return Ok(Credential::passphrase(passphrase.as_str()));
        }
    }
    open_with(options, side.prompt(), ctx).await
}

/// The ways into a new repository, and the key file that was made for it.
pub async fn to_init(global: &Global, ctx: &Context) -> Result<(Vec<NewSlot>, Option<NewKeyFile>)> {
    if global.passphrase_file.is_some() && global.passphrase_command.is_some() {
        return Err(Error::invalid_input("Give --passphrase-file or --passphrase-command, not both"));
    }
    let key_file = global.key_file.clone().or_else(|| key_file_variable(KEY_FILE_VARIABLE));
    let mut passphrase = match from_options(global)? {
        None => from_variable(PASSPHRASE_VARIABLE)?,
        some => some,
    };
    if passphrase.is_none() && key_file.is_none() {
        passphrase = Some(on_a_thread(ctx, || checked(prompt::twice()?)).await?);
    }
    let mut slots = Vec::new();
    if let Some(passphrase) = passphrase {
        if SecretKey::parse(&passphrase).is_ok() {
            return Err(Error::invalid_input("A Backstay key cannot be a passphrase; choose another one"));
        }
        slots.push(NewSlot::Passphrase(SecretString::from(passphrase.as_str().to_owned())));
    }
    let made = match key_file {
        None => None,
        // A variable names the key that is used everywhere; an option is a wish for a new one.
        Some(path) if global.key_file.is_none() && path.exists() => {
            slots.push(NewSlot::KeyFile(parse_key_file(&path)?));
            None
        }
        Some(path) => {
            let key = SecretKey::generate(ctx)?;
            let file = NewKeyFile::write(path, &key)?;
            slots.push(NewSlot::KeyFile(key));
            Some(file)
        }
    };
    Ok((slots, made))
}

/// A key file that is removed again unless it is kept.
pub struct NewKeyFile {
    pub path: PathBuf,
    kept: bool,
}

impl NewKeyFile {
    /// Writes the file for its owner alone; nothing is ever overwritten.
    pub fn write(path: PathBuf, key: &SecretKey) -> Result<Self> {
        let failed = |error| Error::io(error, "Make the key file").with_context("path", path.display());
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let made = Self { path: path.clone(), kept: false };
        file.write_all(key.to_text().expose_secret().as_bytes())
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        Ok(made)
    }

    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewKeyFile {
    fn drop(&mut self) {
        if !self.kept {
            // It opens nothing.
            let _useless = std::fs::remove_file(&self.path);
        }
    }
}

fn key_file_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn read_key_file(path: &Path) -> Result<Credential> {
    let text = read_file(path, "Read key file")?;
    let (key, owner) = key_and_owner(&text).context("path", path.display())?;
    Ok(match owner {
        Some(owner) => Credential::Recipient { key, owner },
        None => Credential::Key(key),
    })
}

fn parse_key_file(path: &Path) -> Result<SecretKey> {
    let text = read_file(path, "Read key file")?;
    Ok(key_and_owner(&text).context("path", path.display())?.0)
}

/// A key, and on a line of its own the public key of the owner that it is to be used with, where there is one.
fn key_and_owner(text: &str) -> Result<(SecretKey, Option<SignerId>)> {
    let (owner, key): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.trim_start().starts_with("owner "));
    let owner = match owner.as_slice() {
        [] => None,
        [line] => {
            let owner = SignerId::from_hex(line.trim().trim_start_matches("owner ").trim());
            Some(owner.ok_or_else(|| Error::invalid_input("The owner in the key file is not 64 hex digits"))?)
        }
        _ => return Err(Error::invalid_input("The key file names several owners")),
    };
    Ok((SecretKey::parse(&Zeroizing::new(key.concat()))?, owner))
}

/// A new passphrase: from this file, or asked for twice.
pub async fn new_passphrase(file: Option<&Path>, ctx: &Context) -> Result<SecretString> {
    let passphrase = match file {
        Some(path) => read_file(path, "Read passphrase file").and_then(checked).context("path", path.display())?,
        None => on_a_thread(ctx, || checked(prompt::twice()?)).await?,
    };
    Ok(SecretString::from(passphrase.as_str().to_owned()))
}

fn from_options(global: &Global) -> Result<Option<Zeroizing<String>>> {
    let text = match (&global.passphrase_file, &global.passphrase_command) {
        (Some(path), _) => read_file(path, "Read passphrase file").and_then(checked).context("path", path.display()),
        (None, Some(command)) => run(command).and_then(checked),
        (None, None) => return Ok(None),
    };
    text.map(Some)
}

fn from_variable(name: &str) -> Result<Option<Zeroizing<String>>> {
    match std::env::var(name) {
        Ok(passphrase) => checked(Zeroizing::new(passphrase)).context("variable", name).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::invalid_input("The passphrase is not UTF-8").with_context("variable", name))
        }
    }
}

fn read_file(path: &Path, tried: &str) -> Result<Zeroizing<String>> {
    let failed = |error| Error::io(error, tried).with_context("path", path.display());
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    to_text(&bytes)
}

fn run(command: &str) -> Result<Zeroizing<String>> {
    let output = std::process::Command::new("sh").args(["-c", command]).stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| Error::io(error, "Run the passphrase command"))?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(Error::invalid_input("The passphrase command failed").with_context("status", output.status));
    }
    to_text(&bytes)
}

fn to_text(bytes: &[u8]) -> Result<Zeroizing<String>> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::invalid_input("That is too large for a passphrase or a key"));
    }
    std::str::from_utf8(bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| Error::invalid_input("The passphrase or key is not UTF-8"))
}

/// Without one newline at the end; never empty.
fn checked(text: Zeroizing<String>) -> Result<Zeroizing<String>> {
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(Error::invalid_input("The passphrase is empty; choose one that nobody guesses"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Asking blocks, and ^C must get through.
async fn on_a_thread<T: Send + 'static>(ctx: &Context, ask: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    ctx.or_cancelled(ctx.blocking(ask)).await
}
