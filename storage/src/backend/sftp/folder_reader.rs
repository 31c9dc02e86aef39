//! The entries of one folder.

use backstay_core::Result;
use russh_sftp::protocol::{File, StatusCode};

use super::{connection::Connection, error};

/// A folder that is open over there. Not closed when dropped.
pub(super) struct FolderReader<'c> {
    connection: &'c Connection,
    handle: String,
}

impl<'c> FolderReader<'c> {
    /// Nothing for a folder that is not there: an empty one leaves no trace in a store of objects.
    pub(super) async fn open(connection: &'c Connection, folder: &str) -> Result<Option<Self>> {
        match connection.sftp.opendir(folder).await {
            Ok(opened) => Ok(Some(Self { connection, handle: opened.handle })),
            Err(error) if error::says(&error, StatusCode::NoSuchFile) => Ok(None),
            Err(error) => Err(connection.failed(error, "List a folder").with_context("folder", folder)),
        }
    }

    /// Some entries; `None` after the last. An empty page would be the last one, too: a server must not keep us asking.
    pub(super) async fn page(&self) -> Result<Option<Vec<File>>> {
        match self.connection.sftp.readdir(&self.handle).await {
            Ok(page) if page.files.is_empty() => Ok(None),
            Ok(page) => Ok(Some(page.files)),
            Err(error) if error::says(&error, StatusCode::Eof) => Ok(None),
            Err(error) => Err(self.connection.failed(error, "List a folder")),
        }
    }

    pub(super) async fn close(self) -> Result<()> {
        let closed = self.connection.sftp.close(self.handle).await;
        closed.map(drop).map_err(|error| self.connection.failed(error, "Close a folder"))
    }
}
