//! Keeps the machine busy: one thread for each processor, which works for most of its time.
//!
//! Not all of it, as a machine at its limit has it: then nobody could say who is late. Start at
//! [`Busy::start`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work and rest take turns in this time.
const TURN: Duration = Duration::from_millis(50);

/// Busy until it is dropped.
#[derive(Debug)]
pub struct Busy {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// Takes this share of each processor, from 0 to 1.
    pub fn start(share: f64) -> Busy {
        let is_over = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let thread = |_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    while began.elapsed() < TURN.mul_f64(share) {
                        std::hint::spin_loop();
                    }
                    std::thread::sleep(TURN.saturating_sub(began.elapsed()));
                }
            })
        };
        Busy {
            threads: (0..processors).map(thread).collect(),
            is_over,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("it only counts time");
        }
    }
}
