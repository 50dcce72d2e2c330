//! Identities: ULIDs that rise, and the random names of producers, traces and spans.
//!
//! Generators are seeded once and then pure. They are for uniqueness, not for secrets.

use serin_wire::time::Micros;

/// The random part of a ULID, 80 bits.
const RANDOM_BITS: u32 = 80;
/// The lowest random bits stay free at a new millisecond, so that counting up within it has room.
const ROOM_BITS: u32 = 24;

/// A small fast generator: SplitMix64, by Steele, Lea and Flood (OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Makes ULIDs, each greater than the one before, also when the clock stands still or goes back.
#[derive(Debug)]
pub(crate) struct Ulids {
    random: [Random; 2],
    last: u128,
}

impl Ulids {
    /// Two seeds, since 64 bits would let two of a million instances meet.
    pub(crate) fn new(seeds: [u64; 2]) -> Ulids {
        Ulids {
            random: seeds.map(Random::new),
            last: 0,
        }
    }

    pub(crate) fn next(&mut self, now_us: Micros) -> u128 {
        let millis = u128::from((now_us / 1000).max(0).cast_unsigned()) & ((1 << 48) - 1);
        if millis <= self.last >> RANDOM_BITS {
            self.last += 1;
        } else {
            let [high, low] = &mut self.random;
            let random = (u128::from(high.next()) << 64 | u128::from(low.next()))
                & ((1 << RANDOM_BITS) - 1)
                & !(1 << (ROOM_BITS - 1));
            self.last = millis << RANDOM_BITS | random;
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulids_rise_whatever_the_clock_does() {
        let mut ulids = Ulids::new([1, 2]);
        let mut last = 0;
        for now_us in [
            5_000,
            5_000,
            5_999,
            4_000,
            0,
            -7,
            6_000,
            1_800_000_000_000_000,
        ] {
            let next = ulids.next(now_us);
            assert!(next > last, "{now_us}");
            last = next;
        }
        assert_eq!(last >> RANDOM_BITS, 1_800_000_000_000);
    }

    #[test]
    fn other_seeds_make_other_ids() {
        let ids = [[1, 2], [1, 3], [2, 2]].map(|seeds| Ulids::new(seeds).next(9_000));
        assert_ne!(ids[0], ids[1]);
        assert_ne!(ids[0], ids[2]);
    }
}
