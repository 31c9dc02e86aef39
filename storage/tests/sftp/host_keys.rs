//! Whether the server is the right one.

use std::{fs, sync::Arc, sync::Mutex};

use backstay_core::{Error, ErrorKind, Result, StorageBackend};
use backstay_storage::backend::sftp::{HostKeyError, SftpBackend, SftpOptions, SshPrompt, UnknownHostKey};
use secrecy::SecretString;

use crate::{key, server::Server};

fn host(server: &Server) -> String {
    format!("[127.0.0.1]:{}", server.port())
}

fn known(server: &Server, lines: &[String]) {
    fs::write(server.file("known_hosts"), lines.join("\n") + "\n").unwrap();
}

async fn outcome(options: SftpOptions) -> Result<()> {
    SftpBackend::new(options).unwrap().head(&key("absent")).await.map(drop)
}

/// That the server was let in: it says itself that the object is not there.
async fn accepted(options: SftpOptions) {
    let error = outcome(options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

async fn refused(options: SftpOptions) -> (ErrorKind, HostKeyError, String) {
    let error: Error = outcome(options).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap_or_else(|| panic!("no host key error: {error}"));
    (
        error.kind(),
        source.downcast_ref::<HostKeyError>().unwrap_or_else(|| panic!("{error}")).clone(),
        error.to_string(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_refused_with_its_fingerprint_and_accepted_by_it() {
    let Some(server) = Server::start() else { return };
    known(&server, &["other ".to_owned() + &server.public("host")]);
    let (kind, why, text) = refused(server.options()).await;
    let HostKeyError::Unknown(unknown) = why else { panic!("{why}") };
    assert_eq!(kind, ErrorKind::PermissionDenied);
    assert_eq!(unknown.fingerprint, server.fingerprint("host"));
    assert!(text.contains(&unknown.fingerprint) && text.contains("--accept-host-key"), "{text}");
    accepted(server.options().accepted_host_key(unknown.fingerprint.clone())).await;
    let wrong = refused(server.options().accepted_host_key("SHA256:0000000000000000000000000000000000000000000")).await;
    assert!(matches!(wrong.1, HostKeyError::Unknown(_)));
    // The line that the error gives is one.
    known(&server, &[unknown.line]);
    accepted(server.options()).await;
    fs::remove_file(server.file("known_hosts")).unwrap();
    assert!(matches!(refused(server.options()).await.1, HostKeyError::Unknown(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_refused_whatever_is_accepted() {
    let Some(server) = Server::start() else { return };
    known(&server, &[format!("{} {}", host(&server), server.public("client"))]);
    for options in [server.options(), server.options().accepted_host_key(server.fingerprint("host"))] {
        let (kind, why, text) = refused(options).await;
        assert_eq!(kind, ErrorKind::Integrity);
        let HostKeyError::Changed { fingerprint, listed, .. } = why else { panic!("{why}") };
        assert_eq!(fingerprint, server.fingerprint("host"));
        assert!(listed[0].ends_with("known_hosts:1") && text.contains("CHANGED"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_though_it_is_listed_and_accepted() {
    let Some(server) = Server::start() else { return };
    let key = server.public("host");
    known(&server, &[format!("{} {key}", host(&server)), format!("@revoked * {key}")]);
    let (kind, why, _) = refused(server.options().accepted_host_key(server.fingerprint("host"))).await;
    assert_eq!(kind, ErrorKind::Integrity);
    assert!(matches!(why, HostKeyError::Revoked { ref at, .. } if at.ends_with(":2")), "{why}");
    // A line that revokes and cannot be read may be the one.
    known(&server, &[format!("{} {key}", host(&server)), "@revoked * ssh-ed25519 AAAA!".to_owned()]);
    assert_eq!(outcome(server.options()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn hashed_names_wildcards_and_other_sorts_of_keys_are_known() {
    let Some(server) = Server::start() else { return };
    known(&server, &[format!("{} {}", host(&server), server.public("host"))]);
    server.keygen(&["-q", "-H", "-f", "known_hosts"]);
    assert!(fs::read_to_string(server.file("known_hosts")).unwrap().starts_with("|1|"));
    accepted(server.options()).await;
    known(&server, &[format!("[127.0.0.?]:* {}", server.public("host"))]);
    accepted(server.options()).await;
    known(&server, &[format!("[127.0.0.?]:*,![127.0.0.1]:{} {}", server.port(), server.public("host"))]);
    assert!(matches!(refused(server.options()).await.1, HostKeyError::Unknown(_)));
    // The server prefers its other key: it must be asked for the one that is listed.
    known(&server, &[format!("{} {}", host(&server), server.public("host_ecdsa"))]);
    accepted(server.options()).await;
    // A line without the port counts where none has it.
    known(&server, &[format!("127.0.0.1 {}", server.public("host"))]);
    accepted(server.options()).await;
}

/// Has the server show a certificate that `ssh-keygen -s authority -h` makes with these options.
fn certify(server: &Server, options: &[&str]) {
    let mut arguments = vec!["-q", "-s", "authority", "-I", "test"];
    arguments.extend(options);
    arguments.push("host.pub");
    server.keygen(&arguments);
    let more = format!("HostCertificate {}\n", server.file("host-cert.pub").display());
    fs::write(server.file("sshd_config.more"), more).unwrap();
    server.stop();
    server.start_again();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_certificate_of_a_listed_authority_is_taken_when_it_is_for_this_host_now() {
    let Some(server) = Server::start() else { return };
    let authority = format!("@cert-authority [127.0.0.1]:* {}", server.public("authority"));
    known(&server, std::slice::from_ref(&authority));
    // Without a certificate an authority says nothing.
    assert!(matches!(refused(server.options()).await.1, HostKeyError::Unknown(_)));
    certify(&server, &["-h", "-n", "other.example,127.0.0.1", "-V", "-1h:+1h"]);
    accepted(server.options()).await;
    // Of an authority that nobody listed: the key alone counts.
    known(&server, &[format!("@cert-authority * {}", server.public("client"))]);
    assert!(matches!(refused(server.options()).await.1, HostKeyError::Unknown(_)));
    known(&server, &[authority.clone(), format!("@revoked * {}", server.public("authority"))]);
    assert!(matches!(refused(server.options()).await.1, HostKeyError::Revoked { .. }));
    known(&server, std::slice::from_ref(&authority));
    for (bad, word) in [
        (vec!["-h", "-n", "other.example"], "other.example"),
        (vec!["-h"], "not for 127.0.0.1"),
        (vec!["-h", "-n", "127.0.0.1", "-V", "-2h:-1h"], "expired"),
        (vec!["-h", "-n", "127.0.0.1", "-V", "+1h:+2h"], "not valid yet"),
    ] {
        certify(&server, &bad);
        let (kind, why, text) = refused(server.options().accepted_host_key(server.fingerprint("host"))).await;
        assert_eq!(kind, ErrorKind::PermissionDenied);
        assert!(matches!(why, HostKeyError::Certificate { .. }) && text.contains(word), "{bad:?}: {text}");
    }
    // The key itself may be listed besides.
    known(&server, &[authority, format!("{} {}", host(&server), server.public("host"))]);
    accepted(server.options()).await;
}

/// Says this, and remembers what it was asked.
struct Somebody(bool, Mutex<Vec<UnknownHostKey>>);

impl SshPrompt for Somebody {
    fn passphrase(&self, _identity: &std::path::Path) -> Result<SecretString> {
        Err(Error::invalid_input("nobody asked for one"))
    }

    fn accept(&self, unknown: &UnknownHostKey) -> Result<bool> {
        self.1.lock().unwrap().push(unknown.clone());
        Ok(self.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_asked_about_an_unknown_host_once_and_about_no_changed_one() {
    let Some(server) = Server::start() else { return };
    known(&server, &[]);
    for answer in [true, false] {
        let somebody = Arc::new(Somebody(answer, Mutex::default()));
        let backend = SftpBackend::new(server.options().prompt(Arc::clone(&somebody) as Arc<dyn SshPrompt>)).unwrap();
        let kind = backend.head(&key("absent")).await.unwrap_err().kind();
        assert_eq!(kind, if answer { ErrorKind::NotFound } else { ErrorKind::PermissionDenied });
        if answer {
            // A new connection to the same server asks nobody again.
            server.kill();
            server.start_again();
            assert_eq!(backend.head(&key("absent")).await.unwrap_err().kind(), ErrorKind::NotFound);
        }
        let asked = somebody.1.lock().unwrap();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].fingerprint, server.fingerprint("host"));
        assert_eq!(asked[0].host, host(&server));
    }
    known(&server, &[format!("{} {}", host(&server), server.public("client"))]);
    let somebody = Arc::new(Somebody(true, Mutex::default()));
    let changed = refused(server.options().prompt(Arc::clone(&somebody) as Arc<dyn SshPrompt>)).await;
    assert!(matches!(changed.1, HostKeyError::Changed { .. }));
    assert!(somebody.1.lock().unwrap().is_empty());
}
