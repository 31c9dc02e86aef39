//! What an sftp:// repository needs from the user's surroundings: keys, an agent, known hosts. The library reads none of it; this does.

use std::{
    fs::{DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use backstay::{
    Error, Result, ResultExt, SftpOptions,
    sftp::{SshPrompt, UnknownHostKey},
};
use secrecy::SecretString;

use crate::{args::Global, place::variable, prompt};

/// Tried in this order when no key is named, as ssh does.
const USUAL_KEYS: [&str; 2] = ["id_ed25519", "id_ecdsa"];
const HOSTS_OF_ALL: &str = "/etc/ssh/ssh_known_hosts";

/// The options for this place.
pub fn options(place: &str, global: &Global) -> Result<SftpOptions> {
    let home = variable(&["HOME"], None).map(|home| Path::new(&home).join(".ssh"));
    let hosts = home.as_ref().map(|home| home.join("known_hosts"));
    let somebody: Arc<dyn SshPrompt> = Arc::new(Somebody { hosts: hosts.clone() });
    let mut sftp = SftpOptions::new(place.parse()?).allow_unsynced(global.allow_unsynced).prompt(somebody);
    for file in hosts.into_iter().chain([PathBuf::from(HOSTS_OF_ALL)]) {
        sftp = sftp.known_hosts_file(file);
    }
    if let Some(user) = variable(&["USER", "LOGNAME"], None) {
        sftp = sftp.user(user);
    }
    if let Some(socket) = variable(&["SSH_AUTH_SOCK"], None) {
        sftp = sftp.agent(socket);
    }
    if let Some(fingerprint) = &global.accept_host_key {
        if !fingerprint.starts_with("SHA256:") {
            return Err(Error::invalid_input("--accept-host-key takes the SHA256:… that ssh-keygen -l prints"));
        }
        sftp = sftp.accepted_host_key(fingerprint.clone());
    }
    Ok(match &global.identity {
        Some(file) => sftp.identity(file).identities_only(true),
        None => {
            let usual = home.into_iter().flat_map(|home| USUAL_KEYS.map(|name| home.join(name)));
            usual.filter(|file| file.exists()).fold(sftp, SftpOptions::identity)
        }
    })
}

/// Who sits at the terminal.
struct Somebody {
    /// Where accepted hosts are written down.
    hosts: Option<PathBuf>,
}

impl SshPrompt for Somebody {
    fn passphrase(&self, identity: &Path) -> Result<SecretString> {
        let answer = prompt::hidden(&format!("Passphrase of {}: ", identity.display()))?;
        let answer = answer.ok_or_else(|| {
            let what =
                "The identity has a passphrase and there is no terminal to ask on; add it to an ssh-agent (ssh-add)";
            Error::permission_denied(what).with_context("identity", identity.display())
        })?;
        Ok(SecretString::from(answer.as_str()))
    }

    fn accept(&self, unknown: &UnknownHostKey) -> Result<bool> {
        let question = format!(
            "The server {} is not known. It shows the key {} {}.\nIs that its key? It is written to known_hosts then.",
            unknown.host, unknown.algorithm, unknown.fingerprint
        );
        let accepted = prompt::confirmed(&question)?;
        if let Some(hosts) = self.hosts.as_ref().filter(|_| accepted) {
            remember(hosts, &unknown.line).context("file", hosts.display())?;
        }
        Ok(accepted)
    }
}

fn remember(hosts: &Path, line: &str) -> Result<()> {
    let failed = |error| Error::io(error, "Write the server's key down");
    if let Some(folder) = hosts.parent() {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
    }
    let mut file = File::options().append(true).create(true).mode(0o600).open(hosts).map_err(failed)?;
    // A line before it whose end is missing must not swallow it; empty ones mean nothing.
    file.write_all(format!("\n{line}\n").as_bytes()).map_err(failed)
}
