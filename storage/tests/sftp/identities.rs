//! Who we are to the server.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use backstay_core::{Error, ErrorKind, Result, StorageBackend};
use backstay_storage::backend::sftp::{SftpBackend, SftpOptions, SshPrompt, UnknownHostKey};
use secrecy::SecretString;

use crate::{key, server::Server};

async fn outcome(options: SftpOptions) -> Error {
    SftpBackend::new(options).unwrap().head(&key("absent")).await.unwrap_err()
}

async fn let_in(options: SftpOptions) {
    let error = outcome(options).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

async fn kept_out(options: SftpOptions, word: &str) {
    let error = outcome(options).await;
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

/// The server's place and known hosts, with no key yet.
fn keyless(server: &Server) -> SftpOptions {
    SftpOptions::new(server.place()).known_hosts_file(server.file("known_hosts"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_server_does_not_list_is_refused_by_name() {
    let Some(server) = Server::start() else { return };
    kept_out(keyless(&server), "no key").await;
    kept_out(keyless(&server).identity(server.file("authority")), "authority").await;
    // Of several one is enough.
    let_in(keyless(&server).identity(server.file("authority")).identity(server.file("client"))).await;
    // A mistake of ours, and no absent object.
    assert_eq!(outcome(keyless(&server).identity(server.file("none"))).await.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_others_can_read_is_refused() {
    let Some(server) = Server::start() else { return };
    fs::set_permissions(server.file("client"), fs::Permissions::from_mode(0o644)).unwrap();
    kept_out(server.options(), "chmod 600").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_beside_the_key_lets_us_in() {
    let Some(server) = Server::start() else { return };
    let user = server.place().user.unwrap();
    // The server trusts the authority and lists no key.
    fs::write(server.file("authorized_keys"), "").unwrap();
    let more = format!("TrustedUserCAKeys {}\n", server.file("authority.pub").display());
    fs::write(server.file("sshd_config.more"), more).unwrap();
    server.stop();
    server.start_again();
    kept_out(server.options(), "was refused").await;
    server.keygen(&["-q", "-s", "authority", "-I", "test", "-n", &user, "-V", "-1h:+1h", "client.pub"]);
    let_in(server.options()).await;
}

/// Knows a passphrase, perhaps the right one.
struct Knows(&'static str, AtomicU32);

impl SshPrompt for Knows {
    fn passphrase(&self, identity: &Path) -> Result<SecretString> {
        assert!(identity.ends_with("client"));
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(self.0.into())
    }

    fn accept(&self, _unknown: &UnknownHostKey) -> Result<bool> {
        Ok(false)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_key_needs_its_passphrase_once() {
    let Some(server) = Server::start() else { return };
    server.keygen(&["-q", "-p", "-a", "4", "-N", "opens it", "-f", "client"]);
    kept_out(server.options(), "ssh-add").await;
    let wrong = Arc::new(Knows("does not", AtomicU32::new(0)));
    kept_out(server.options().prompt(wrong as Arc<dyn SshPrompt>), "passphrase").await;
    let right = Arc::new(Knows("opens it", AtomicU32::new(0)));
    let backend = SftpBackend::new(server.options().prompt(Arc::clone(&right) as Arc<dyn SshPrompt>)).unwrap();
    assert_eq!(backend.head(&key("absent")).await.unwrap_err().kind(), ErrorKind::NotFound);
    server.kill();
    server.start_again();
    assert_eq!(backend.head(&key("absent")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(right.1.load(Ordering::SeqCst), 1);
    assert!(!format!("{backend:?}").contains("opens it"));
}

/// An agent of our own.
struct Agent(Child, PathBuf);

impl Agent {
    fn start(server: &Server) -> Self {
        let socket = server.file("agent");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        for _ in 0..200 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child, socket)
    }

    fn add(&self, key: &Path) {
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.1).status().unwrap();
        assert!(added.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_logs_in_with_its_keys_and_with_those_asked_for_first() {
    let Some(server) = Server::start() else { return };
    let agent = Agent::start(&server);
    kept_out(keyless(&server).agent(&agent.1), "no key").await;
    agent.add(&server.file("client"));
    let_in(keyless(&server).agent(&agent.1)).await;
    // A named key that the agent holds needs no passphrase, and no other of the agent is offered.
    server.keygen(&["-q", "-p", "-a", "4", "-N", "locked", "-f", "client"]);
    let_in(server.options().agent(&agent.1)).await;
    kept_out(keyless(&server).agent(&agent.1).identity(server.file("authority")).identities_only(true), "authority")
        .await;
    // Keys that are of no use come first, more than a server listens to.
    for number in 0..8 {
        let name = format!("useless{number}");
        server.keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &name]);
        agent.add(&server.file(&name));
    }
    let_in(keyless(&server).agent(&agent.1).identity(server.file("client"))).await;
    // Nor do they use up the server's patience before an open file has its turn.
    server.keygen(&["-q", "-t", "ed25519", "-N", "", "-f", "other"]);
    fs::copy(server.file("other.pub"), server.file("authorized_keys")).unwrap();
    let_in(keyless(&server).agent(&agent.1).identity(server.file("other"))).await;
    kept_out(keyless(&server).agent(&agent.1), "takes none").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_key_works_through_an_agent() {
    let Some(server) = Server::start() else { return };
    let agent = Agent::start(&server);
    server.keygen(&["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "rsa"]);
    fs::copy(server.file("rsa.pub"), server.file("authorized_keys")).unwrap();
    kept_out(keyless(&server).identity(server.file("rsa")), "RSA").await;
    agent.add(&server.file("rsa"));
    let_in(keyless(&server).agent(&agent.1).identity(server.file("rsa")).identities_only(true)).await;
}
