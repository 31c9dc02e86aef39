//! Whether a server is the one that it should be.

use backstay_core::{Error, ErrorKind};
use russh::keys::{Certificate, HashAlg, PublicKey, PublicKeyOrCertificate, ssh_key::certificate::CertType};

use super::{
    SftpPlace,
    known_hosts::{KnownHost, Listed},
};

/// A host that no file lists, and the key that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownHostKey {
    /// As `known_hosts` calls it: `host`, or `[host]:port` for another port than 22.
    pub host: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// `ssh-ed25519` and so on.
    pub algorithm: String,
    /// The line for `known_hosts` that makes it known, without its end.
    pub line: String,
}

/// Why a server's key was not taken: the source of the error of a connection, for a program that wants to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostKeyError {
    /// No file lists the host.
    #[error("the host {} is not known; its key is {} {}", .0.host, .0.algorithm, .0.fingerprint)]
    Unknown(UnknownHostKey),
    /// The files list other keys for the host than the one that it shows.
    #[error("the key of {host} is {fingerprint}, and that is not the one of {}", .listed.join(", "))]
    Changed {
        /// As `known_hosts` calls it.
        host: String,
        /// Of the key that it shows.
        fingerprint: String,
        /// Where other keys are listed: `FILE:LINE`.
        listed: Vec<String>,
    },
    /// A file revokes the key, or the authority behind it.
    #[error("the key {fingerprint} of {host} is revoked by {at}")]
    Revoked {
        /// As `known_hosts` calls it.
        host: String,
        /// Of the key that it shows.
        fingerprint: String,
        /// `FILE:LINE`.
        at: String,
    },
    /// A listed authority signed the host's certificate, which is not good all the same.
    #[error("the certificate of {host} is not good: {why}")]
    Certificate {
        /// As `known_hosts` calls it.
        host: String,
        /// What is wrong with it.
        why: String,
    },
}

impl HostKeyError {
    /// The error that a caller gets; this one is its source.
    pub(super) fn into_error(self) -> Error {
        let (kind, message) = match &self {
            HostKeyError::Unknown(unknown) => (
                ErrorKind::PermissionDenied,
                format!(
                    "The server is not known. It shows the key {} {}. Compare that with what its keeper says \
                     (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there); if it is the same, accept it: \
                     --accept-host-key {} on the command line, or this line in ~/.ssh/known_hosts: {}",
                    unknown.algorithm, unknown.fingerprint, unknown.fingerprint, unknown.line
                ),
            ),
            HostKeyError::Changed { fingerprint, listed, .. } => (
                ErrorKind::Integrity,
                format!(
                    "THE KEY OF THE SERVER HAS CHANGED. Somebody may be between you and it, or it was set up anew. Nothing was \
                     sent. It shows {fingerprint}; another key is listed at {}. If its keeper confirms the new key, \
                     remove the old line",
                    listed.join(", ")
                ),
            ),
            HostKeyError::Revoked { fingerprint, at, .. } => (
                ErrorKind::Integrity,
                format!(
                    "THE SERVER SHOWS A KEY THAT IS REVOKED ({fingerprint}, at {at}). Whoever stole it can pose as the \
                     server. Nothing was sent. Give the server a new key"
                ),
            ),
            HostKeyError::Certificate { why, .. } => (
                ErrorKind::PermissionDenied,
                format!("The server's certificate is not good: {why}. Have its keeper make a new one"),
            ),
        };
        Error::new(kind, message).with_source(self)
    }
}

/// What may be shown by one host.
#[derive(Clone, Debug)]
pub(super) struct HostTrust {
    pub(super) place: SftpPlace,
    pub(super) known: KnownHost,
    /// A fingerprint that is fine for an unknown host.
    pub(super) accepted: Option<String>,
}

impl HostTrust {
    /// `now` in seconds since 1970.
    pub(super) fn check(&self, shown: &PublicKeyOrCertificate, now: u64) -> Result<(), HostKeyError> {
        let key = shown.public_key();
        let host = self.place.known_as();
        let fingerprint = fingerprint(&key);
        let blob = blob(&key);
        let authority = shown.certificate().and_then(authority);
        let is = |listed: &Listed, key: &Option<Vec<u8>>| key.as_ref().is_some_and(|key| *key == listed.blob);
        if let Some(revoked) = self.known.revoked.iter().find(|listed| is(listed, &blob) || is(listed, &authority)) {
            return Err(HostKeyError::Revoked { host, fingerprint, at: revoked.at.clone() });
        }
        let mut bad_certificate = None;
        if let Some(certificate) = shown.certificate()
            && self.known.authorities.iter().any(|listed| is(listed, &authority))
        {
            match check_certificate(certificate, &self.place.host, now) {
                Ok(()) => return Ok(()),
                Err(why) => bad_certificate = Some(why),
            }
        }
        // A certificate of nobody's is as good as the key in it.
        if self.known.keys.iter().any(|listed| is(listed, &blob)) {
            return Ok(());
        }
        if let Some(why) = bad_certificate {
            return Err(HostKeyError::Certificate { host, why });
        }
        let algorithm = key.algorithm().as_str().to_owned();
        // The server was asked for keys of the listed sorts first, so that another sort means that it has none of them any more, unless this
        // build does not speak the listed ones.
        if self.known.keys.iter().any(|listed| listed.algorithm == algorithm || is_spoken(&listed.algorithm)) {
            let listed = self.known.keys.iter().map(|listed| listed.at.clone()).collect();
            return Err(HostKeyError::Changed { host, fingerprint, listed });
        }
        if self.accepted.as_deref().is_some_and(|accepted| same_fingerprint(accepted, &fingerprint)) {
            return Ok(());
        }
        let line = format!("{host} {}", PublicKey::new(key.key_data().clone(), "").to_openssh().unwrap_or_default());
        Err(HostKeyError::Unknown(UnknownHostKey { host, fingerprint, algorithm, line: line.trim_end().to_owned() }))
    }
}

/// `SHA256:…` of a key.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn same_fingerprint(given: &str, shown: &str) -> bool {
    given.trim().trim_end_matches('=') == shown
}

fn blob(key: &PublicKey) -> Option<Vec<u8>> {
    key.to_bytes().ok()
}

fn authority(certificate: &Certificate) -> Option<Vec<u8>> {
    blob(&PublicKey::new(certificate.signature_key().clone(), ""))
}

/// Whether this build can check signatures of that sort.
fn is_spoken(algorithm: &str) -> bool {
    super::connection::HOST_KEYS.iter().any(|spoken| spoken.as_str() == algorithm)
}

fn check_certificate(certificate: &Certificate, host: &str, now: u64) -> Result<(), String> {
    if certificate.cert_type() != CertType::Host {
        return Err("it is one for users, not for hosts".to_owned());
    }
    // None would mean any host, which OpenSSH refuses, too.
    if !certificate.valid_principals().iter().any(|principal| principal.eq_ignore_ascii_case(host)) {
        return Err(format!("it is for {:.200?}, not for {host}", certificate.valid_principals()));
    }
    if now < certificate.valid_after() {
        return Err("it is not valid yet; is the clock right?".to_owned());
    }
    if now >= certificate.valid_before() {
        return Err("it has expired".to_owned());
    }
    if certificate.critical_options().iter().next().is_some() {
        return Err("it makes conditions that this build does not know".to_owned());
    }
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    certificate
        .validate_at(now, [&authority])
        .map_err(|_| "its signature is wrong or of a sort that is not spoken".to_owned())
}

#[cfg(test)]
mod tests;
