//! A small shared cache with a bound on what it holds.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Mutex, PoisonError},
};

/// Keeps what was put in last, up to a bound. First in, first out: what is read twice close together is what matters here.
pub struct BoundedCache<K, V> {
    inner: Mutex<Inner<K, V>>,
    bound: usize,
}

struct Inner<K, V> {
    held: HashMap<K, (V, usize)>,
    order: VecDeque<K>,
    cost: usize,
}

impl<K: Clone + Eq + Hash, V: Clone> BoundedCache<K, V> {
    /// A cache whose values cost at most `bound` together.
    pub fn new(bound: usize) -> Self {
        Self { inner: Mutex::new(Inner { held: HashMap::new(), order: VecDeque::new(), cost: 0 }), bound }
    }

    /// The value, if it is still there.
    pub fn get(&self, key: &K) -> Option<V> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.held.get(key).map(|(value, _)| value.clone())
    }

    /// Keeps a value; what is oldest goes.
    pub fn put(&self, key: K, value: V, cost: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if cost > self.bound || inner.held.contains_key(&key) {
            return;
        }
        inner.cost += cost;
        inner.order.push_back(key.clone());
        inner.held.insert(key, (value, cost));
        while inner.cost > self.bound {
            let Some(oldest) = inner.order.pop_front() else { break };
            if let Some((_, cost)) = inner.held.remove(&oldest) {
                inner.cost -= cost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_never_holds_more_than_its_bound() {
        let cache = BoundedCache::new(10);
        (0..100).for_each(|n| cache.put(n, n, 3));
        assert_eq!((0..100).filter(|n| cache.get(n).is_some()).collect::<Vec<_>>(), [97, 98, 99]);
        cache.put(200, 200, 11);
        assert_eq!(cache.get(&200), None);
    }
}
