//! What the tests of the bus share: a folder with a server of its own.

use serin_bus::{Bus, BusOptions, stop_left};

/// A data folder whose server is gone when the test is over, however it ends.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn options(&self) -> BusOptions {
        BusOptions {
            data_dir: self.0.path().to_path_buf(),
            joined: None,
            port: None,
            events_bytes_max: 64 << 20,
            server_binary: None,
            search_path: std::env::var_os("PATH"),
            beside: None,
        }
    }

    pub(crate) async fn start(&self) -> Bus {
        Bus::start(self.options()).await.expect("the bus starts")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let folder = self.0.path().to_path_buf();
        let stopping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(stop_left(&folder)).expect("stopped")
        });
        stopping.join().expect("no panic");
    }
}
