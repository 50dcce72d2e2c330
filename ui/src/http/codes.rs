//! Codes of sign-in links: random; the one of a start is good as long as the server runs, later ones for
//! one use within ten minutes.
//!
//! A link is opened by other programs and kept in a browser's history: no code is a token, and none
//! outlives the server. Only hashes are kept, in memory: a restart forgets them all.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Codes at one moment; the oldest gives way. `serin status` makes one, also each second.
const CODES_MAX: usize = 1_000;
/// How long a code is good: ten minutes.
const LIFETIME_US: i64 = 10 * 60 * 1_000_000;

/// The codes that are good.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    /// The hash of the one that the start printed.
    of_start: OnceLock<[u8; 32]>,
    /// When each was made, by its hash.
    made_us: Mutex<BTreeMap<[u8; 32], i64>>,
}

impl Codes {
    /// The code of this start, for any number of browsers; a second one is an ordinary one.
    pub(crate) fn begin(&self, random: [u8; 32], now_us: i64) -> String {
        let code = text(random);
        match self.of_start.set(hash(&code)) {
            Ok(()) => code,
            Err(_) => self.make(random, now_us),
        }
    }

    /// A new code.
    pub(crate) fn make(&self, random: [u8; 32], now_us: i64) -> String {
        let code = text(random);
        let mut made_us = self.lock();
        made_us.retain(|_, made| now_us - *made < LIFETIME_US);
        if made_us.len() >= CODES_MAX {
            let oldest = made_us.iter().min_by_key(|(_, made)| **made);
            let oldest = oldest.map(|(hash, _)| *hash);
            made_us.retain(|hash, _| Some(*hash) != oldest);
        }
        made_us.insert(hash(&code), now_us);
        code
    }

    /// Whether the code is good; from now on it is not, unless it is that of the start.
    pub(crate) fn spend(&self, code: &str, now_us: i64) -> bool {
        if self.of_start.get() == Some(&hash(code)) {
            return true;
        }
        let made = self.lock().remove(&hash(code));
        made.is_some_and(|made| now_us - made < LIFETIME_US)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], i64>> {
        self.made_us.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(random: [u8; 32]) -> String {
    blake3::Hash::from_bytes(random).to_hex().to_string()
}

fn hash(code: &str) -> [u8; 32] {
    *blake3::hash(code.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_ten_minutes() {
        let codes = Codes::default();
        let (first, second) = (codes.make([1; 32], 0), codes.make([2; 32], 0));
        assert!(codes.spend(&first, LIFETIME_US - 1));
        assert!(!codes.spend(&first, LIFETIME_US - 1), "it was used");
        assert!(!codes.spend(&second, LIFETIME_US), "it is too old");
        assert!(!codes.spend("guessed", 0));
    }

    #[test]
    fn the_code_of_the_start_is_good_for_every_browser() {
        let codes = Codes::default();
        let first = codes.begin([1; 32], 0);
        let later = codes.begin([2; 32], 0);
        for _ in 0..2 {
            assert!(codes.spend(&first, 2 * LIFETIME_US));
        }
        assert!(codes.spend(&later, 0));
        assert!(!codes.spend(&later, 0));
    }

    #[test]
    fn the_oldest_code_gives_way() {
        let codes = Codes::default();
        let mut random = [0; 32];
        let made: Vec<String> = (0..=CODES_MAX)
            .map(|at| {
                random[..8].copy_from_slice(&at.to_le_bytes());
                codes.make(random, at as i64)
            })
            .collect();
        let is_good = |code: &String| codes.spend(code, CODES_MAX as i64);
        assert!(!is_good(&made[0]));
        assert!(made[1..].iter().all(is_good));
    }
}
