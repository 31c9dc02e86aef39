//! A bounded cache of L2 tables, shared by all images of a chain.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// All tables that a chain of images keeps in memory, in bytes.
const MAX_BYTES: usize = 32 << 20;

/// Which image of the chain, and which of its L2 tables.
pub(crate) type TableKey = (u32, u32);
/// An L2 table in the machine's byte order.
pub(crate) type Table = Arc<Vec<u64>>;

/// Keeps what was used lately: two generations, of which the older is dropped whole when the younger is half full.
#[derive(Debug, Default)]
pub(crate) struct TableCache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<TableKey, Table>,
    old: HashMap<TableKey, Table>,
    young_bytes: usize,
}

impl TableCache {
    /// The table, if it is kept.
    pub(crate) fn get(&self, key: TableKey) -> Option<Table> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = kept.young.get(&key) {
            return Some(Arc::clone(table));
        }
        let table = kept.old.remove(&key)?;
        kept.insert(key, Arc::clone(&table));
        Some(table)
    }

    /// Keeps a table.
    pub(crate) fn insert(&self, key: TableKey, table: Table) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, table);
    }
}

impl Generations {
    fn insert(&mut self, key: TableKey, table: Table) {
        // What a small table costs beside its entries counts too, or many tiny tables would not be bounded.
        let bytes = table.len() * 8 + 128;
        if self.young_bytes + bytes > MAX_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(key, table).is_none() {
            self.young_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stays_below_its_bound_and_keeps_what_is_used() {
        let cache = TableCache::default();
        let table = Arc::new(vec![0; 8192]);
        for index in 0..2000 {
            cache.insert((0, index), Arc::clone(&table));
            assert!(cache.get((0, 0)).is_some(), "{index}");
        }
        let kept = cache.0.lock().unwrap();
        assert!((kept.young.len() + kept.old.len()) * 65536 <= MAX_BYTES);
    }
}
