//! A data folder with a real bus over it, whose server is gone when the test is over.

use std::time::Duration;

use serin_bus::{Bus, BusError, BusOptions, stop_left};

/// See the module.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) async fn start(&self) -> Bus {
        let bus = Bus::start(BusOptions {
            data_dir: self.0.path().join("data"),
            joined: None,
            port: None,
            events_bytes_max: 256 << 20,
            server_binary: std::env::var_os("SERIN_NATS_SERVER").map(Into::into),
            search_path: std::env::var_os("PATH"),
            beside: None,
        });
        let bus = bus.await.expect("the bus starts");
        bus.events().await.expect("the stream");
        bus.telemetry().await.expect("the memory stream");
        bus
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let folder = self.0.path().join("data");
        let stopping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                // A process that another test starts at this moment holds the folder's lock until
                // it is its own program.
                let stopping = async {
                    loop {
                        match stop_left(&folder).await {
                            Err(BusError::InUse(_)) => {}
                            stopped => return stopped.expect("stopped"),
                        };
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                let stopped = tokio::time::timeout(Duration::from_secs(10), stopping).await;
                stopped.expect("the lock is let go")
            });
        });
        stopping.join().expect("no panic");
    }
}
