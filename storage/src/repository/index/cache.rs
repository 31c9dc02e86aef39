//! Pages that were opened lately, the least recently used first to go.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What an entry takes beside the bytes of its page, roughly.
const ENTRY: usize = 128;

/// A segment by its number in the index, and a page by its number in the segment.
pub(super) type Key = (u32, u32);

/// Bounded in bytes. The lock is held for a few table operations, never while something is read or opened.
pub(super) struct Cache {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    pages: HashMap<Key, (Arc<[u8]>, u64)>,
    by_age: BTreeMap<u64, Key>,
    bytes: usize,
    now: u64,
}

impl Cache {
    pub fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default() }
    }

    pub const fn limit(&self) -> usize {
        self.limit
    }

    pub fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        let mut inner = self.lock();
        inner.now += 1;
        let now = inner.now;
        let (page, used) = inner.pages.get_mut(&key)?;
        let page = Arc::clone(page);
        let before = std::mem::replace(used, now);
        inner.by_age.remove(&before);
        inner.by_age.insert(now, key);
        Some(page)
    }

    pub fn put(&self, key: Key, page: &Arc<[u8]>) {
        if page.len() + ENTRY > self.limit {
            return;
        }
        let mut inner = self.lock();
        inner.remove(key);
        inner.now += 1;
        let now = inner.now;
        inner.bytes += page.len() + ENTRY;
        inner.pages.insert(key, (Arc::clone(page), now));
        inner.by_age.insert(now, key);
        while inner.bytes > self.limit
            && let Some((_, oldest)) = inner.by_age.first_key_value()
        {
            let oldest = *oldest;
            inner.remove(oldest);
        }
    }

    /// Forgets every page of a segment.
    pub fn forget(&self, segment: u32) {
        let mut inner = self.lock();
        let keys: Vec<Key> = inner.pages.keys().copied().filter(|key| key.0 == segment).collect();
        keys.into_iter().for_each(|key| inner.remove(key));
    }

    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, key: Key) {
        if let Some((page, used)) = self.pages.remove(&key) {
            self.by_age.remove(&used);
            self.bytes -= page.len() + ENTRY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_page_goes_first_and_the_limit_holds() {
        let page: Arc<[u8]> = vec![0; 1000].into();
        let cache = Cache::new(3 * (1000 + ENTRY));
        (0..3).for_each(|n| cache.put((0, n), &page));
        assert!(cache.get((0, 0)).is_some());
        cache.put((1, 3), &page);
        assert!(cache.get((0, 1)).is_none());
        assert!(cache.get((0, 0)).is_some() && cache.get((0, 2)).is_some() && cache.get((1, 3)).is_some());
        cache.put((1, 3), &page);
        assert_eq!(cache.bytes(), 3 * (1000 + ENTRY));
        cache.forget(0);
        assert_eq!(cache.bytes(), 1000 + ENTRY);
    }

    #[test]
    fn a_page_larger_than_the_cache_is_not_kept() {
        let cache = Cache::new(100);
        cache.put((0, 0), &vec![0; 101].into());
        assert!(cache.get((0, 0)).is_none());
        assert_eq!(cache.bytes(), 0);
    }
}
