//! Writing object files: temporary, synced, linked to their place.

use std::sync::atomic::{AtomicBool, Ordering};

use backstay_core::{Error, ErrorKind, OsRandom, PutMode, RandomSource, Result};
use bytes::Bytes;
use futures::future::{Either, join, select};
use russh_sftp::protocol::{Packet, StatusCode};
use tokio::sync::oneshot;

use super::{SftpPlace, connection::Connection, error, folders::Folders, mode, temporary, transfer::Open};

/// Fires when nobody wants the outcome any more.
pub(super) type Gone = oneshot::Receiver<()>;

#[derive(Debug)]
pub(super) struct Writer {
    place: SftpPlace,
    pub(super) folders: Folders,
    cleaned: AtomicBool,
    allow_unsynced: bool,
}

impl Writer {
    pub(super) fn new(place: SftpPlace, allow_unsynced: bool) -> Self {
        Self { folders: Folders::new(place.clone()), place, cleaned: AtomicBool::new(false), allow_unsynced }
    }

    pub(super) async fn put(
        &self,
        connection: &Connection,
        path: &str,
        body: &Bytes,
        mode: PutMode,
        gone: Gone,
    ) -> Result<()> {
        if !connection.features.fsync && !self.allow_unsynced {
            return Err(Error::unsupported(
                "The server cannot be told to write an object to its disk (it lacks fsync@openssh.com), so that a power cut there can \
                 take what was reported as stored. Use another server, or accept that with --allow-unsynced",
            ));
        }
        self.try_put(connection, path, body, mode, gone).await.map_err(|error| match error.kind() {
            // A put looks for nothing, so that "not found" would mislead: a folder vanished under our hands.
            ErrorKind::NotFound => {
                self.folders.forget();
                Error::unavailable("A folder of the repository vanished while an object was written; run it again")
                    .with_source(error)
                    .retryable()
            }
            _ => error,
        })
    }

    async fn try_put(
        &self,
        connection: &Connection,
        path: &str,
        body: &Bytes,
        mode: PutMode,
        gone: Gone,
    ) -> Result<()> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| if folder.is_empty() { "/" } else { folder });
        let temporaries = self.place.below(temporary::FOLDER);
        self.folders.ensure(connection, folder).await?;
        self.folders.ensure(connection, &temporaries).await?;
        let mut name = [0; 16];
        OsRandom.fill(&mut name)?;
        let waiting = format!("{temporaries}/{}", hex::encode(name));
        // Looking saves writing a pack for nothing; the link decides.
        let look = async { mode == PutMode::Create && is_there(connection, path).await.unwrap_or(false) };
        let (file, there) = join(Open::new(connection, &waiting, self.folders.mode() & 0o666), look).await;
        let file = file?;
        let written = if there {
            file.close().await.and(Err(exists()))
        } else {
            self.write(connection, file, &temporaries, body, gone).await
        };
        let placed = match written {
            Ok(()) => publish(connection, &waiting, path, mode).await,
            Err(error) => Err(error),
        };
        let moved = placed.as_ref().is_ok_and(|left_behind| !left_behind);
        if !moved && !connection.is_lost() {
            // What stays is removed by a later process.
            let _for_later = connection.sftp.remove(&waiting).await;
        }
        placed?;
        self.folders.sync(connection, folder).await
    }

    async fn write(
        &self,
        connection: &Connection,
        file: Open<'_>,
        temporaries: &str,
        body: &Bytes,
        gone: Gone,
    ) -> Result<()> {
        if !self.cleaned.swap(true, Ordering::Relaxed)
            && let Ok(made) = file.attributes().await
        {
            temporary::clean(connection, temporaries, made.mtime).await;
        }
        let sync = connection.features.fsync;
        let transfer = async {
            file.write(body).await?;
            if sync { file.sync("Sync an object").await } else { Ok(()) }
        };
        let outcome = match select(Box::pin(transfer), gone).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(Error::cancelled()),
        };
        outcome.and(file.close().await)
    }
}

fn exists() -> Error {
    Error::already_exists("The object is there already")
}

async fn is_there(connection: &Connection, path: &str) -> Result<bool> {
    match connection.sftp.lstat(path).await {
        Ok(_) => Ok(true),
        Err(error) if error::says(&error, StatusCode::NoSuchFile) => Ok(false),
        Err(error) => Err(connection.failed(error, "Look for an object")),
    }
}

/// Puts the temporary file in its place. Whether a name of it stays behind.
async fn publish(connection: &Connection, waiting: &str, path: &str, mode: PutMode) -> Result<bool> {
    const TRIED: &str = "Move an object to its place";
    match mode {
        PutMode::Replace if connection.features.posix_rename => {
            let request = two_strings(waiting, path)?;
            match connection.sftp.extended("posix-rename@openssh.com", request).await {
                Ok(Packet::Status(status)) if status.status_code == StatusCode::Ok => Ok(false),
                Ok(Packet::Status(status)) => Err(connection.failed(status.into(), TRIED)),
                Ok(_) => Err(connection.failed(russh_sftp::client::error::Error::UnexpectedPacket, TRIED)),
                Err(error) => Err(connection.failed(error, TRIED)),
            }
        }
        PutMode::Create if connection.features.hardlink => match connection.sftp.hardlink(waiting, path).await {
            Ok(_) => Ok(true),
            // All that the protocol says of a name that is taken is "failure".
            Err(error) if !error::is_loss(&error) && is_there(connection, path).await? => Err(exists()),
            Err(error)
                if error::says(&error, StatusCode::OpUnsupported)
                    || error::says(&error, StatusCode::PermissionDenied) =>
            {
                let what = "The server refuses the hard link that gives an object its name: its file system knows none, or the folder may not be \
                            written; use another place";
                Err(Error::unsupported(what).with_source(error))
            }
            Err(error) => Err(connection.failed(error, TRIED)),
        },
        // By the protocol a rename never replaces. Whether two at once can both succeed is the server's secret, which is why
        // `create_if_absent` is not promised there.
        PutMode::Create | PutMode::Replace => {
            if is_there(connection, path).await? {
                return match mode {
                    PutMode::Create => Err(exists()),
                    PutMode::Replace => Err(Error::unsupported(
                        "The server cannot replace a file in one step (it lacks posix-rename@openssh.com)",
                    )),
                };
            }
            match connection.sftp.rename(waiting, path).await {
                Ok(_) => Ok(false),
                Err(error) if !error::is_loss(&error) && is_there(connection, path).await? => Err(exists()),
                Err(error) => Err(connection.failed(error, TRIED)),
            }
        }
    }
}

/// As the protocol writes strings: the length in four bytes, then the bytes.
fn two_strings(first: &str, second: &str) -> Result<Vec<u8>> {
    let mut request = Vec::with_capacity(8 + first.len() + second.len());
    for text in [first, second] {
        let length = u32::try_from(text.len()).map_err(|_| Error::invalid_input("A path is too long"))?;
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(text.as_bytes());
    }
    Ok(request)
}

pub(super) async fn delete(connection: &Connection, path: &str) -> Result<()> {
    match connection.sftp.remove(path).await {
        Ok(_) => Ok(()),
        Err(error) if error::says(&error, StatusCode::NoSuchFile) => Ok(()),
        Err(error) => {
            // A folder is no object.
            if !error::is_loss(&error)
                && let Ok(found) = connection.sftp.lstat(path).await
                && mode::sort(&found.attrs) == mode::Sort::Folder
            {
                return Ok(());
            }
            Err(connection.failed(error, "Delete an object"))
        }
    }
}
