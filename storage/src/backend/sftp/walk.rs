//! Listing object files: several folders at once, since each takes a few trips to the server and back.

use std::sync::Arc;

use backstay_core::{Error, ObjectKey, ObjectMeta, Result};
use futures::{
    StreamExt,
    future::{Either, select},
    stream::BoxStream,
    stream::FuturesUnordered,
};
use russh_sftp::protocol::{File, StatusCode};
use tokio::sync::mpsc;

use super::{connection::Connection, error, folder_reader::FolderReader, folders, mode};

/// Folders that are read at once.
const AT_ONCE: usize = 8;
/// Pages of entries that wait for a slow reader.
const WAITING: usize = 8;
/// A server that shows more folders than this is not one that we filled.
const MOST_FOLDERS: usize = 1 << 20;

type Pages = mpsc::Sender<Result<Vec<ObjectMeta>>>;

/// A folder: its path and what the keys of its objects begin with.
pub(super) struct Folder {
    pub(super) path: String,
    pub(super) prefix: String,
}

/// The objects below a folder, at any depth. The walk is a task of its own, which ends when nobody reads any more.
pub(super) fn list(connection: Arc<Connection>, start: Folder) -> BoxStream<'static, Result<ObjectMeta>> {
    let (pages, mut read) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let walked = match select(Box::pin(walk(&connection, start, &pages)), Box::pin(connection.ended())).await {
            Either::Left((walked, _)) => walked,
            Either::Right(_) => Err(error::broken()),
        };
        if let Err(error) = walked {
            // Nobody reads any more when this fails.
            let _unread = pages.send(Err(error)).await;
        }
    });
    futures::stream::poll_fn(move |ctx| read.poll_recv(ctx))
        .flat_map(|page| {
            let (metas, error) = match page {
                Ok(metas) => (metas, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            futures::stream::iter(metas.into_iter().map(Ok).chain(error))
        })
        .boxed()
}

async fn walk(connection: &Connection, start: Folder, pages: &Pages) -> Result<()> {
    let mut waiting = vec![start];
    let mut running = FuturesUnordered::new();
    let mut outcome = Ok(());
    let mut seen = 0;
    loop {
        while outcome.is_ok() && running.len() < AT_ONCE && !pages.is_closed() {
            let Some(folder) = waiting.pop() else { break };
            running.push(read(connection, folder, pages));
        }
        match running.next().await {
            None => return outcome,
            Some(Ok(below)) => {
                seen += below.len();
                waiting.extend(below);
                if seen > MOST_FOLDERS {
                    outcome = Err(Error::unavailable(
                        "The server shows more folders than a repository can have; is it the right place?",
                    ));
                }
            }
            // The others go on to where they close what they opened.
            Some(Err(error)) => outcome = outcome.and(Err(error)),
        }
    }
}

/// Reads one folder; the folders in it.
async fn read(connection: &Connection, folder: Folder, pages: &Pages) -> Result<Vec<Folder>> {
    let Some(reader) = FolderReader::open(connection, folders::shown(&folder.path)).await? else {
        return Ok(Vec::new());
    };
    let mut below = Vec::new();
    let outcome = read_pages(connection, &reader, &folder, pages, &mut below).await;
    let closed = reader.close().await;
    outcome.and(closed).map(|()| below)
}

async fn read_pages(
    connection: &Connection,
    reader: &FolderReader<'_>,
    folder: &Folder,
    pages: &Pages,
    below: &mut Vec<Folder>,
) -> Result<()> {
    while let Some(page) = reader.page().await? {
        let mut found = Vec::with_capacity(page.len());
        for file in page {
            let Some(key) = key_of(folder, &file) else { continue };
            let path = if folder.path.is_empty() {
                file.filename.clone()
            } else {
                format!("{}/{}", folder.path.trim_end_matches('/'), file.filename)
            };
            let Some(attributes) = known(connection, file, &path).await? else { continue };
            match (mode::sort(&attributes), attributes.size) {
                (mode::Sort::Folder, _) if below.len() < MOST_FOLDERS => {
                    below.push(Folder { path, prefix: format!("{key}/") })
                }
                (mode::Sort::File, Some(size)) => found.push(ObjectMeta { key, size }),
                _ => {}
            }
        }
        if pages.send(Ok(found)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// No key for what cannot be an object: temporary files, and whatever else somebody put there.
fn key_of(folder: &Folder, file: &File) -> Option<ObjectKey> {
    if file.filename.contains('/') {
        return None;
    }
    ObjectKey::new(format!("{}{}", folder.prefix, file.filename)).ok()
}

/// What the server says of an entry; it is asked again where the list does not say enough. Nothing for one that is gone.
async fn known(
    connection: &Connection,
    file: File,
    path: &str,
) -> Result<Option<russh_sftp::protocol::FileAttributes>> {
    let told = mode::sort(&file.attrs) != mode::Sort::Untold && file.attrs.size.is_some();
    if told {
        return Ok(Some(file.attrs));
    }
    match connection.sftp.lstat(path).await {
        Ok(found) => Ok(Some(found.attrs)),
        Err(error) if error::says(&error, StatusCode::NoSuchFile) => Ok(None),
        Err(error) => Err(connection.failed(error, "Look at an object")),
    }
}
