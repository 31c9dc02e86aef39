//! Disks of guests as they change from day to day, made of few pieces so that deduplication is frequent.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use backstay_core::{ChangeToken, RangeSet};
use backstay_testkit::{MemoryDisk, SeededRandom};

use crate::actor::derive;

const BLOCK: usize = 4096;
const PIECE_BYTES: usize = 24 * BLOCK;
const PIECES: u64 = 5;
/// Every block of a disk begins with this: what a stored object must not hold.
pub const MARK: &[u8; 24] = b"plain bytes of a guest: ";

/// A disk at one moment.
pub struct Version {
    pub content: Arc<Vec<u8>>,
    pub token: ChangeToken,
}

/// Which disk of which workload at which moment.
type Name = (String, u64, u64);

static VERSIONS: LazyLock<Mutex<HashMap<Name, Arc<Version>>>> = LazyLock::new(Mutex::default);

/// A disk at a moment: the same for every run, so that it is made but once.
pub fn version(workload: &str, disk: u64, version: u64) -> Arc<Version> {
    let name = (workload.to_owned(), disk, version);
    if let Some(known) = versions().get(&name) {
        return Arc::clone(known);
    }
    let made = Arc::new(make(workload, disk, version));
    Arc::clone(versions().entry(name).or_insert(made))
}

fn versions() -> std::sync::MutexGuard<'static, HashMap<Name, Arc<Version>>> {
    VERSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make(workload: &str, disk: u64, at: u64) -> Version {
    let random = SeededRandom::new(derive(disk, workload, at));
    let content = match at.checked_sub(1) {
        None => (0..2 + random.below(2)).flat_map(|_| piece(random.below(PIECES))).collect(),
        Some(before) => changed(&version(workload, disk, before).content, &random),
    };
    let token = ChangeToken::new(blake3::hash(&content).as_bytes().to_vec()).expect("32 bytes are no large token");
    Version { content: Arc::new(content), token }
}

/// One of the pieces that all disks are made of.
fn piece(number: u64) -> Vec<u8> {
    (0..PIECE_BYTES / BLOCK).flat_map(|block| patterned(number * 1000 + block as u64)).collect()
}

fn patterned(seed: u64) -> Vec<u8> {
    let random = SeededRandom::new(derive(seed, "block", 0));
    let mut block = MARK.to_vec();
    // Some compress and some do not.
    if seed.is_multiple_of(3) {
        while block.len() < BLOCK {
            block.extend_from_slice(&random.next().to_le_bytes());
        }
    } else {
        let word = random.next().to_le_bytes();
        block.resize(BLOCK, 0);
        block[MARK.len()..].chunks_mut(8).for_each(|part| part.copy_from_slice(&word[..part.len()]));
    }
    block
}

/// Some blocks are written, some zeroed, now and then the disk gets another size.
fn changed(before: &[u8], random: &SeededRandom) -> Vec<u8> {
    let mut content = before.to_vec();
    for _ in 0..1 + random.below(3) {
        let blocks = (content.len() / BLOCK) as u64;
        let from = random.below(blocks);
        for block in from..(from + 1 + random.below(8)).min(blocks) {
            let new = if random.below(4) == 0 { vec![0; BLOCK] } else { patterned(random.below(2000)) };
            content[block as usize * BLOCK..][..BLOCK].copy_from_slice(&new);
        }
    }
    match random.below(6) {
        0 => content.extend(piece(random.below(PIECES))),
        1 if content.len() > 2 * PIECE_BYTES => content.truncate(content.len() - PIECE_BYTES - 512),
        _ => {}
    }
    content.resize(content.len().div_ceil(512) * 512, 0);
    let whole = content.len() / BLOCK * BLOCK;
    if random.below(3) > 0 {
        content.truncate(whole.max(BLOCK));
    }
    content
}

/// The disk as a source that knows what has changed since the point with this token.
pub fn source(workload: &str, disk: u64, now: u64, base: Option<&ChangeToken>, most: u64) -> MemoryDisk {
    let new = version(workload, disk, now);
    let source = MemoryDisk::new(new.content.as_ref().clone()).with_token(new.token.clone());
    let old = (0..most).map(|at| version(workload, disk, at)).find(|old| Some(&old.token) == base);
    match old {
        Some(old) => {
            let token = old.token.clone();
            source.changed_since_token(token, differing(&old.content, &new.content))
        }
        None => source,
    }
}

fn differing(old: &[u8], new: &[u8]) -> RangeSet {
    let blocks = old.chunks(BLOCK).zip(new.chunks(BLOCK)).enumerate().filter(|(_, (old, new))| old != new);
    blocks.map(|(at, (_, new))| (at * BLOCK) as u64..(at * BLOCK + new.len()) as u64).collect()
}
