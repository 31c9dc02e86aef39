//! Temporary files: how a body waits until it is whole, and what becomes of those whose writer died.
//!
//! They lie in `~tmp` below the root, as those of a local folder do. SFTP has no locks, so a file is a leftover when nobody wrote to it for
//! [`GRACE`], by the server's clock: counted from the time of a file that was made just now. If that is wrong, a living writer's link
//! fails, its put returns an error, and nothing is lost.

use super::{connection::Connection, folder_reader::FolderReader, mode};

pub(super) const FOLDER: &str = "~tmp";
/// A day, in seconds.
const GRACE: u32 = 24 * 3600;
/// Pages of names that one process looks at; there is always a next one.
const PAGES: usize = 100;

/// Removes what dead writers left. `now` is the time of a file that was made just now. Failures leave it for later.
pub(super) async fn clean(connection: &Connection, folder: &str, now: Option<u32>) {
    let (Some(now), Ok(Some(reader))) = (now, FolderReader::open(connection, folder).await) else { return };
    let mut leftovers = Vec::new();
    for _ in 0..PAGES {
        let Ok(Some(page)) = reader.page().await else { break };
        let old = page.into_iter().filter(|file| {
            let age = file.attrs.mtime.map_or(0, |written| now.saturating_sub(written));
            mode::sort(&file.attrs) == mode::Sort::File && age >= GRACE && !file.filename.contains('/')
        });
        leftovers.extend(old.map(|file| file.filename));
    }
    let _best_effort = reader.close().await;
    for name in leftovers {
        let _for_later = connection.sftp.remove(format!("{folder}/{name}")).await;
    }
}
