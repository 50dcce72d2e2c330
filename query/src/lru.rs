//! What is kept for those who ask again, bounded in bytes: what was not asked for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values by key, as many as the bytes hold.
pub(crate) struct Lru<K, V> {
    bytes_max: usize,
    kept: Mutex<Kept<K, V>>,
}

struct Kept<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// From the one that was not asked for longest.
    by_use: BTreeMap<u64, K>,
    uses: u64,
    bytes: usize,
}

struct Entry<V> {
    value: V,
    used: u64,
    bytes: usize,
}

impl<K: Clone + Eq + Hash, V: Clone> Lru<K, V> {
    /// An empty one.
    pub(crate) fn new(bytes_max: usize) -> Lru<K, V> {
        Lru {
            bytes_max,
            kept: Mutex::new(Kept {
                entries: HashMap::new(),
                by_use: BTreeMap::new(),
                uses: 0,
                bytes: 0,
            }),
        }
    }

    /// How much it keeps.
    pub(crate) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    /// The value that is kept.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.kept().get(key)
    }

    /// The value that is kept, or else this one, which takes so many bytes.
    pub(crate) fn get_or_put(&self, key: &K, bytes: usize, value: impl FnOnce() -> V) -> V {
        let mut kept = self.kept();
        if let Some(found) = kept.get(key) {
            return found;
        }
        let value = value();
        kept.put(key, bytes, value.clone());
        kept.shrink(key, self.bytes_max);
        value
    }

    /// Keeps a value in place of what was there.
    pub(crate) fn put(&self, key: &K, bytes: usize, value: V) {
        let mut kept = self.kept();
        kept.put(key, bytes, value);
        kept.shrink(key, self.bytes_max);
    }

    /// Says how many bytes a value takes by now, unless it has gone meanwhile.
    pub(crate) fn weigh(&self, key: &K, bytes: usize) {
        let mut kept = self.kept();
        let Some(entry) = kept.entries.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut entry.bytes, bytes);
        kept.bytes = kept.bytes - before + bytes;
        kept.shrink(key, self.bytes_max);
    }

    fn kept(&self) -> MutexGuard<'_, Kept<K, V>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Kept<K, V> {
    fn get(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        let before = std::mem::replace(&mut entry.used, self.uses);
        self.by_use.remove(&before);
        self.by_use.insert(self.uses, key.clone());
        Some(entry.value.clone())
    }

    fn put(&mut self, key: &K, bytes: usize, value: V) {
        self.uses += 1;
        let used = self.uses;
        self.remove(key);
        let entry = Entry { value, used, bytes };
        self.entries.insert(key.clone(), entry);
        self.by_use.insert(used, key.clone());
        self.bytes += bytes;
    }

    /// Makes room after a value has changed; one that leaves none for others goes itself.
    fn shrink(&mut self, changed: &K, bytes_max: usize) {
        let entry = self.entries.get(changed);
        if entry.is_some_and(|entry| entry.bytes > bytes_max) {
            self.remove(changed);
        }
        while self.bytes > bytes_max {
            let Some(key) = self.by_use.values().next().cloned() else {
                return;
            };
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is held is what is counted.
    fn check(lru: &Lru<u32, u32>, bytes_max: usize) {
        let kept = lru.kept();
        assert!(kept.bytes <= bytes_max);
        assert_eq!(kept.entries.len(), kept.by_use.len());
        let sum: usize = kept.entries.values().map(|entry| entry.bytes).sum();
        assert_eq!(sum, kept.bytes);
    }

    #[test]
    fn the_longest_unused_goes_first_and_bytes_stay_bounded() {
        let lru = Lru::new(1_000);
        lru.put(&0, 10, 0);
        for key in 1..100 {
            lru.put(&key, 90, key);
            // The first is asked for all the time.
            assert_eq!(lru.get(&0), Some(0));
            check(&lru, 1_000);
        }
        assert_eq!((lru.get(&88), lru.get(&99)), (None, Some(99)));
        // In place of another, and by its new weight.
        lru.put(&99, 20, 7);
        lru.weigh(&99, 500);
        assert_eq!((lru.get(&99), lru.get_or_put(&99, 1, || 8)), (Some(7), 7));
        check(&lru, 1_000);
        // What is larger than everything is given out, but not kept, and nobody goes for it.
        assert_eq!(lru.get_or_put(&200, 2_000, || 9), 9);
        assert_eq!((lru.get(&200), lru.get(&99)), (None, Some(7)));
        lru.weigh(&98, 2_000);
        assert_eq!((lru.get(&98), lru.get(&99)), (None, Some(7)));
        check(&lru, 1_000);
    }
}
