//! Real files of this machine, for a disk that is like a real one.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// No single file may make up the disk.
const MOST_OF_A_FILE: u64 = 32 << 20;
/// Folders are left after so many files, so that walking them takes no time.
const MOST_FILES: usize = 20_000;

/// A file to copy from.
pub struct SourceFile {
    path: PathBuf,
    /// How much of it is taken.
    pub size: u64,
}

impl SourceFile {
    /// Opens it; `None` when it may not be read or has gone.
    pub fn open(&self) -> Option<std::io::Take<File>> {
        use std::io::Read;
        Some(File::open(&self.path).ok()?.take(self.size))
    }
}

/// Files of the system and of the Rust toolchain, whichever are there.
pub struct Files;

impl Files {
    /// Up to `bytes` of files: programs, libraries, sources, documentation, mixed.
    pub fn collect(bytes: u64) -> Vec<SourceFile> {
        let mut folders: Vec<(PathBuf, u64)> =
            vec![("/usr/bin".into(), 15), ("/usr/lib".into(), 25), ("/usr/share".into(), 20)];
        // Cargo says where it is when it runs an example.
        let cargo = std::env::var_os("CARGO").map(PathBuf::from);
        if let Some(toolchain) = cargo.as_deref().and_then(Path::parent).and_then(Path::parent) {
            folders.push((toolchain.join("lib"), 20));
            folders.push((toolchain.join("share"), 10));
        }
        if let Some(home) = std::env::var_os("HOME") {
            folders.push((Path::new(&home).join(".cargo/registry/src"), 20));
        }
        let mut lists: Vec<_> = folders
            .into_iter()
            .map(|(folder, percent)| {
                let mut list = Vec::new();
                let mut left = bytes / 100 * percent;
                walk(&folder, &mut left, &mut list);
                list.into_iter()
            })
            .collect();
        let mut mixed: Vec<SourceFile> = Vec::new();
        let mut sum = 0;
        loop {
            let before = mixed.len();
            mixed.extend(lists.iter_mut().filter_map(Iterator::next));
            sum += mixed[before..].iter().map(|file| file.size).sum::<u64>();
            if mixed.len() == before || sum >= bytes {
                return mixed;
            }
        }
    }
}

/// Adds the files below a folder in the order of their names until `left` is used up. Links are not followed.
fn walk(folder: &Path, left: &mut u64, list: &mut Vec<SourceFile>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if *left == 0 || list.len() >= MOST_FILES {
            return;
        }
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            walk(&entry.path(), left, list);
        } else if meta.is_file() && meta.len() > 0 {
            let size = meta.len().min(MOST_OF_A_FILE).min(*left);
            *left -= size;
            list.push(SourceFile { path: entry.path(), size });
        }
    }
}
