//! Reading object files.

use std::{future::Future, ops::Range};

use backstay_core::{Error, ErrorKind, ObjectKey, Result};
use bytes::Bytes;
use futures::future::{Either, join, select};
use russh_sftp::protocol::FileAttributes;

use super::{connection::Connection, mode, transfer::Open, write::Gone};
use crate::backend::local::check_object_range;

/// What is read together with the question for the size: small objects need no more.
const FIRST: u64 = 64 << 10;

/// The size of an object. A folder is no object.
fn size_of(attributes: &FileAttributes) -> Result<u64> {
    match mode::sort(attributes) {
        mode::Sort::Folder => return Err(Error::not_found("No such object: its name is that of a folder")),
        mode::Sort::Other => {
            let what = "A link, pipe or device lies where an object should be; put the file itself there";
            return Err(Error::new(ErrorKind::Integrity, what));
        }
        mode::Sort::File | mode::Sort::Untold => {}
    }
    attributes.size.ok_or_else(|| Error::unsupported("The server does not tell the size of a file; use another one"))
}

pub(super) async fn size(connection: &Connection, path: &str) -> Result<u64> {
    let found = connection.sftp.stat(path).await.map_err(|error| connection.failed(error, "Look at an object"))?;
    size_of(&found.attrs)
}

pub(super) async fn whole(connection: &Connection, path: &str, gone: Gone) -> Result<Bytes> {
    let file = Open::to_read(connection, path, "Open an object").await?;
    let outcome = unless_gone(gone, all_of(&file)).await;
    close(file, outcome).await
}

async fn all_of(file: &Open<'_>) -> Result<Bytes> {
    let (attributes, first) = join(file.attributes(), file.read(0..FIRST)).await;
    let size = size_of(&attributes?)?;
    let mut body = first?;
    if size > body.len() as u64 {
        let start = body.len() as u64;
        file.read_into(start..size, &mut body).await?;
    }
    // Not one byte more than the size, so that a file that grows meanwhile cannot grow the answer.
    body.truncate(size as usize);
    if body.len() as u64 != size {
        return Err(shrunk());
    }
    Ok(body.into())
}

pub(super) async fn range(
    connection: &Connection,
    path: &str,
    key: &ObjectKey,
    range: Range<u64>,
    gone: Gone,
) -> Result<Bytes> {
    let file = Open::to_read(connection, path, "Open an object").await?;
    let outcome = unless_gone(gone, part_of(&file, key, range)).await;
    close(file, outcome).await
}

async fn part_of(file: &Open<'_>, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
    let within = range.start..range.end.clamp(range.start, range.start.saturating_add(FIRST));
    let (attributes, first) = join(file.attributes(), file.read(within)).await;
    check_object_range(key, &range, size_of(&attributes?)?)?;
    let mut body = first?;
    let got = range.start + body.len() as u64;
    if got < range.end {
        file.read_into(got..range.end, &mut body).await?;
    }
    if body.len() as u64 != range.end - range.start {
        return Err(shrunk());
    }
    Ok(body.into())
}

fn shrunk() -> Error {
    Error::unavailable("The object became shorter while it was read; read it again").retryable()
}

/// Nothing can be wrong with what was read already; a lost connection shows at the next request.
async fn close<T>(file: Open<'_>, outcome: Result<T>) -> Result<T> {
    let _later = file.close().await;
    outcome
}

async fn unless_gone<T>(gone: Gone, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match select(Box::pin(work), gone).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => Err(Error::cancelled()),
    }
}
