//! Bytes to and from open files: many requests in flight, each of some 64 KiB, since one after the other would wait for the line each time.

use std::ops::Range;

use backstay_core::{Error, Result};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};

use super::{connection::Connection, error};

/// Requests of one transfer in flight; [`Connection::slots`] limits those of all.
const IN_FLIGHT: usize = 32;

/// A file that is open over there. Not closed when dropped: who opened it calls [`Self::close`], in a task that nobody can drop.
pub(super) struct Open<'c> {
    connection: &'c Connection,
    handle: String,
}

impl<'c> Open<'c> {
    pub(super) async fn to_read(connection: &'c Connection, path: &str, tried: &str) -> Result<Self> {
        let opened = connection.sftp.open(path, OpenFlags::READ, FileAttributes::empty()).await;
        let handle = opened.map_err(|error| connection.failed(error, tried))?.handle;
        Ok(Self { connection, handle })
    }

    /// A file that was not there.
    pub(super) async fn new(connection: &'c Connection, path: &str, mode: u32) -> Result<Self> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let attributes = FileAttributes { permissions: Some(mode), ..FileAttributes::empty() };
        let opened = connection.sftp.open(path, flags, attributes).await;
        let handle = opened.map_err(|error| connection.failed(error, "Make a temporary file"))?.handle;
        Ok(Self { connection, handle })
    }

    pub(super) async fn attributes(&self) -> Result<FileAttributes> {
        let found = self.connection.sftp.fstat(&self.handle).await;
        Ok(found.map_err(|error| self.connection.failed(error, "Look at an object"))?.attrs)
    }

    /// These bytes, or fewer where the file ends.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.read_into(range, &mut body).await?;
        Ok(body)
    }

    /// The same, behind what is in `body` already.
    pub(super) async fn read_into(&self, range: Range<u64>, body: &mut Vec<u8>) -> Result<()> {
        let piece = self.connection.features.read as u64;
        reserve(body, range.end.saturating_sub(range.start))?;
        let starts = (range.start..range.end).step_by(self.connection.features.read);
        let mut pieces = futures::stream::iter(starts.map(|at| self.read_piece(at, (range.end - at).min(piece))))
            .buffered(IN_FLIGHT);
        while let Some((part, wanted)) = pieces.try_next().await? {
            body.extend_from_slice(&part);
            if (part.len() as u64) < wanted {
                break;
            }
        }
        Ok(())
    }

    /// A server may send less than was asked for without being at the end.
    async fn read_piece(&self, mut at: u64, wanted: u64) -> Result<(Vec<u8>, u64)> {
        let _slot = self.connection.slots.acquire().await;
        let mut part = Vec::new();
        while (part.len() as u64) < wanted {
            let missing = wanted - part.len() as u64;
            match self.connection.sftp.read(&self.handle, at, missing as u32).await {
                Ok(data) if data.data.is_empty() => break,
                Ok(data) if data.data.len() as u64 > missing => {
                    return Err(Error::unavailable(
                        "The server sent more than it was asked for; it cannot be trusted to work",
                    ));
                }
                Ok(data) => {
                    at += data.data.len() as u64;
                    if part.is_empty() { part = data.data } else { part.extend_from_slice(&data.data) }
                }
                Err(error) if error::says(&error, StatusCode::Eof) => break,
                Err(error) => return Err(self.connection.failed(error, "Read an object")),
            }
        }
        Ok((part, wanted))
    }

    pub(super) async fn write(&self, body: &Bytes) -> Result<()> {
        let piece = self.connection.features.write;
        let pieces =
            (0..body.len()).step_by(piece).map(|at| self.write_piece(at, body.slice(at..body.len().min(at + piece))));
        let mut written = futures::stream::iter(pieces).buffer_unordered(IN_FLIGHT);
        while written.try_next().await?.is_some() {}
        Ok(())
    }

    async fn write_piece(&self, at: usize, part: Bytes) -> Result<()> {
        let _slot = self.connection.slots.acquire().await;
        let written = self.connection.sftp.write(&self.handle, at as u64, part.into()).await;
        written.map(drop).map_err(|error| self.connection.failed(error, "Write an object"))
    }

    /// Has the server write the file to its disk.
    pub(super) async fn sync(&self, tried: &str) -> Result<()> {
        let synced = self.connection.sftp.fsync(&self.handle).await;
        synced.map(drop).map_err(|error| self.connection.failed(error, tried))
    }

    /// Some servers tell only now that a write failed.
    pub(super) async fn close(self) -> Result<()> {
        let closed = self.connection.sftp.close(self.handle).await;
        closed.map(drop).map_err(|error| self.connection.failed(error, "Close a file"))
    }
}

/// A file of absurd size must be an error, not the end of the process.
fn reserve(body: &mut Vec<u8>, size: u64) -> Result<()> {
    usize::try_from(size).ok().and_then(|size| body.try_reserve_exact(size).ok()).ok_or_else(|| {
        Error::unavailable("There is not enough memory for the object; read it in ranges").with_context("size", size)
    })
}
