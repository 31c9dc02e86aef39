//! Private key files.

use std::{
    fmt, fs, io,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use backstay_core::{Error, Result, ResultExt};
use russh::keys::{Certificate, PrivateKey, PublicKey, decode_secret_key};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// The largest RSA keys have some 13 KiB.
const LARGEST: u64 = 64 << 10;

/// A key file as it was read.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) path: PathBuf,
    /// In clear in files of OpenSSH's form, encrypted or not.
    pub(super) public: Option<PublicKey>,
    pub(super) certificate: Option<Certificate>,
    state: State,
}

#[derive(Clone)]
enum State {
    Open(Arc<PrivateKey>),
    Locked(Arc<Zeroizing<String>>),
    /// RSA: this build can use it through an agent alone.
    AgentOnly,
}

impl Identity {
    /// Reads the file and the certificate beside it.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Self::read_key(path).context("identity", path.display())
    }

    fn read_key(path: &Path) -> Result<Self> {
        let text = read_private(path)?;
        let certificate = read_certificate(path)?;
        let unreadable = || {
            Error::invalid_input("This file is no private key that this build can read; give an Ed25519 or ECDSA key")
        };
        let (public, state) = match PrivateKey::from_openssh(text.as_bytes()) {
            Ok(key) if key.algorithm().is_rsa() => (Some(key.public_key().clone()), State::AgentOnly),
            Ok(key) if key.is_encrypted() => (Some(key.public_key().clone()), State::Locked(Arc::new(text))),
            Ok(key) => (Some(key.public_key().clone()), State::Open(Arc::new(key))),
            // Older forms, which tell nothing while they are locked.
            Err(_) if text.contains("ENCRYPTED") => (None, State::Locked(Arc::new(text))),
            Err(_) if text.contains("BEGIN RSA PRIVATE KEY") => (None, State::AgentOnly),
            Err(_) => {
                let key = decode_secret_key(&text, None).map_err(|error| unreadable().with_source(error))?;
                (Some(key.public_key().clone()), State::Open(Arc::new(key)))
            }
        };
        Ok(Self { path: path.to_owned(), public, certificate, state })
    }

    /// The private key, when no passphrase is in the way.
    pub(super) fn key(&self) -> Option<Arc<PrivateKey>> {
        match &self.state {
            State::Open(key) => Some(Arc::clone(key)),
            State::Locked(_) | State::AgentOnly => None,
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        matches!(self.state, State::Locked(_))
    }

    pub(super) fn needs_agent(&self) -> bool {
        matches!(self.state, State::AgentOnly)
    }

    /// Opens it with the passphrase. Takes as long as who made the file wanted it to.
    pub(super) fn unlock(&mut self, passphrase: &SecretString) -> Result<()> {
        let State::Locked(text) = &self.state else { return Ok(()) };
        let key = decode_secret_key(text, Some(passphrase.expose_secret())).map_err(|_| {
            Error::permission_denied("The passphrase does not open the identity file")
                .with_context("identity", self.path.display())
        })?;
        self.public = Some(key.public_key().clone());
        self.state = if key.algorithm().is_rsa() { State::AgentOnly } else { State::Open(Arc::new(key)) };
        Ok(())
    }
}

/// No key, not even a locked one.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("path", &self.path).finish_non_exhaustive()
    }
}

fn read_private(path: &Path) -> Result<Zeroizing<String>> {
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        // Not "not found": that is said of objects alone.
        io::ErrorKind::NotFound => {
            Error::invalid_input("There is no such identity file; correct its name").with_source(error)
        }
        _ => Error::io(error, "Open an identity file"),
    })?;
    let meta = file.metadata().map_err(|error| Error::io(error, "Look at an identity file"))?;
    if !meta.is_file() {
        return Err(Error::invalid_input("An identity is a file with a private key"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(Error::permission_denied(
            "Others can read the identity file, so that the key in it is not a secret; run chmod 600 on it",
        ));
    }
    read_text(file, meta.len()).map(Zeroizing::new)
}

/// `FILE-cert.pub`, when it is there.
fn read_certificate(path: &Path) -> Result<Option<Certificate>> {
    let mut name = path.as_os_str().to_owned();
    name.push("-cert.pub");
    let file = match fs::File::open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(error, "Open the certificate of an identity")),
    };
    let size = file.metadata().map_err(|error| Error::io(error, "Look at a certificate"))?.len();
    let text = read_text(file, size)?;
    let certificate = Certificate::from_openssh(text.trim_end())
        .map_err(|error| Error::invalid_input("The certificate of the identity cannot be read").with_source(error));
    certificate.map(Some).context("certificate", Path::new(&name).display())
}

fn read_text(file: fs::File, size: u64) -> Result<String> {
    let mut text = String::with_capacity(size.min(LARGEST) as usize + 1);
    let read = file.take(LARGEST + 1).read_to_string(&mut text);
    match read {
        Ok(_) if text.len() as u64 <= LARGEST => Ok(text),
        Ok(_) => Err(Error::invalid_input("This file is too large to be a key")),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Error::invalid_input("This file is no key")),
        Err(error) => Err(Error::io(error, "Read a key file")),
    }
}
