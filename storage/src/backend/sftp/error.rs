//! What a server's answers, and their absence, mean.

use std::{future::Future, time::Duration};

use backstay_core::{Error, ErrorKind, Result};
use russh_sftp::{client::error::Error as SftpError, protocol::StatusCode};

/// Whether the server said that.
pub(super) fn says(error: &SftpError, code: StatusCode) -> bool {
    matches!(error, SftpError::Status(status) if status.status_code == code)
}

/// Whether the connection is of no more use.
pub(super) fn is_loss(error: &SftpError) -> bool {
    match error {
        SftpError::Status(status) => {
            matches!(status.status_code, StatusCode::NoConnection | StatusCode::ConnectionLost)
        }
        // What was asked for may still come, and handles may stay open over there.
        SftpError::IO(_) | SftpError::Timeout | SftpError::UnexpectedPacket | SftpError::UnexpectedBehavior(_) => true,
        SftpError::Limited(_) => false,
    }
}

pub(super) fn translate(error: SftpError, tried: &str) -> Error {
    if is_loss(&error) {
        let hint = match &error {
            SftpError::Timeout => "the server did not answer in time; try again",
            _ => "the connection to the server is lost; try again",
        };
        return Error::unavailable(format!("{tried}: {hint}")).with_source(error).retryable();
    }
    let (kind, hint) = match &error {
        SftpError::Status(status) => match status.status_code {
            StatusCode::NoSuchFile => (ErrorKind::NotFound, "no such object"),
            StatusCode::PermissionDenied => {
                (ErrorKind::PermissionDenied, "the server refuses; check who owns the folder and what its mode is")
            }
            StatusCode::OpUnsupported => (ErrorKind::Unsupported, "the server cannot do this; use another one"),
            StatusCode::BadMessage => {
                (ErrorKind::InvalidInput, "the server does not take this request; is a name too long for it?")
            }
            // SFTP has no words for a full disk, a quota or a disk that fails.
            _ => (
                ErrorKind::Unavailable,
                "the server failed and does not say why; look at its disk (is it full?) and its log",
            ),
        },
        _ => (ErrorKind::Internal, "a limit of the server was not kept; please report this"),
    };
    let said = error.to_string().chars().take(200).collect::<String>();
    Error::new(kind, format!("{tried}: {hint}")).with_context("cause", said).with_source(error)
}

/// The error of a step that took too long.
pub(super) fn silent(step: &str) -> Error {
    Error::unavailable(format!("The server did not answer in time while trying to {step}; try again")).retryable()
}

/// The error of a server that ended the connection while we logged in.
pub(super) fn hung_up(cause: &str) -> Error {
    Error::unavailable(
        "The server ended the connection during the login; is it overloaded, or does it not like so many keys?",
    )
    .with_context("cause", cause)
    .retryable()
}

/// The error of an operation under which the connection went away.
pub(super) fn broken() -> Error {
    Error::unavailable("The connection to the server is lost; try again").retryable()
}

/// Runs a step of making a connection.
pub(super) async fn in_time<T>(
    patience: Duration,
    step: &str,
    attempt: impl Future<Output = Result<T, russh::Error>>,
) -> Result<T> {
    match tokio::time::timeout(patience, attempt).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(refused(error, step)),
        Err(_) => Err(silent(step)),
    }
}

fn refused(error: russh::Error, step: &str) -> Error {
    let said = error.to_string().chars().take(300).collect::<String>();
    let error = match &error {
        russh::Error::NoCommonAlgo { .. } => Error::unsupported(
            "The server speaks none of the algorithms that are spoken here (Ed25519 or ECDSA host keys, AES or ChaCha20); \
             bring it up to date",
        ),
        russh::Error::WrongServerSig | russh::Error::PacketAuth | russh::Error::DecryptionError => {
            Error::integrity("What the server sent does not verify: it does not hold its key, or somebody is in between")
        }
        russh::Error::Version => Error::invalid_input("What answers there is no SSH server; check host and port"),
        _ => Error::unavailable(format!("The connection broke while trying to {step}; try again")).retryable(),
    }
    .with_source(error);
    error.with_context("cause", said)
}
