//! Whether a time can be believed enough to delete by it.
//!
//! We have no clock, only the times that commits and expiries come with. Where one lies further from
//! the one before than any pause explains, the clock jumped, or Serin was off for long: nothing is
//! deleted by age until the time has gone on evenly for a day, so that whoever set the clock wrong
//! can set it right. Pure.

/// No machine sleeps longer in its daily use; a jump of less lets go what would go within a week.
pub(crate) const JUMP_US_MAX: i64 = 7 * 24 * 3600 * 1_000_000;
/// So long the time has to go on evenly after a jump.
pub(crate) const SETTLE_US: i64 = 24 * 3600 * 1_000_000;

/// The times heard of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    last_us: Option<i64>,
    /// When the last jump ended, by the clock as it was then.
    jumped_us: Option<i64>,
}

impl Clock {
    /// As the times of all commits leave it, in their order.
    pub(crate) fn after(times_us: impl IntoIterator<Item = i64>) -> Clock {
        let mut clock = Clock::default();
        for time_us in times_us {
            clock.hear(time_us);
        }
        clock
    }

    /// The last time heard of.
    pub(crate) fn last_us(&self) -> Option<i64> {
        self.last_us
    }

    /// Hears a time; whether it can be believed.
    pub(crate) fn hear(&mut self, now_us: i64) -> bool {
        let jump_us = self.last_us.map_or(0, |last_us| now_us.abs_diff(last_us));
        self.last_us = Some(now_us);
        if jump_us > JUMP_US_MAX.unsigned_abs() {
            self.jumped_us = Some(now_us);
        }
        match self.jumped_us {
            Some(jumped_us) if now_us.saturating_sub(jumped_us) < SETTLE_US => false,
            _ => {
                self.jumped_us = None;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = SETTLE_US;

    #[test]
    fn a_jump_is_believed_after_a_day_and_a_night_is_none() {
        let mut clock = Clock::after([0, DAY_US, 8 * DAY_US]);
        assert!(clock.hear(8 * DAY_US));
        // 40 days at once, and on from there.
        assert!(!clock.hear(48 * DAY_US));
        assert!(!clock.hear(48 * DAY_US + DAY_US / 2));
        // Set right again: that is a jump too.
        assert!(!clock.hear(8 * DAY_US));
        assert!(clock.hear(9 * DAY_US));
        assert!(!clock.hear(40 * DAY_US));
        assert!(clock.hear(41 * DAY_US));
    }

    #[test]
    fn a_restart_does_not_forget_the_jump() {
        let mut clock = Clock::after([0, 40 * DAY_US]);
        assert!(!clock.hear(40 * DAY_US + 1));
        assert!(clock.hear(41 * DAY_US));
        assert!(Clock::default().hear(i64::MAX));
    }
}
