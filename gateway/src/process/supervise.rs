//! Serin's side: starts the process of the gateway, adopts it, has it replaced, starts it again.
//!
//! The listener is kept here as well where we bound it, so that connections wait while a process that
//! was killed is started again. Start at [`Supervisor::open`].

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::binding::{Binding, Held, bind};
use super::link::{Link, SupervisorError};
use super::protocol::{Ask, Say};
use super::run::command;
use crate::counts::GatewayStats;
use crate::table::Table;

/// How long a process may take to open its socket.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// It says something each second; one that is silent so long is ended and started again.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// The pause before a restart doubles from the first to the last while they come in a row.
const RESTART_PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(5)];
/// A process that lived so long starts again without a pause.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// What the process is started with.
#[derive(Debug, Clone)]
pub struct SupervisorOptions {
    /// The program whose command `gateway` it is: ours.
    pub program: PathBuf,
    /// Tells our program from an older one.
    pub build: String,
    /// The bus, with credentials.
    pub bus: String,
}

/// How the gateway is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SupervisorState {
    /// Its process; absent where the system does not tell.
    pub pid: Option<i32>,
    /// The revision of the table that new requests see.
    pub taken: u64,
    /// What it has counted, as of a second ago at most.
    pub stats: GatewayStats,
    /// How often it had to be started again.
    pub restarts: u64,
}

/// The gateway's process, watched. Dropped without [`Supervisor::close`] it goes on by itself, to be
/// adopted by the next Serin.
#[derive(Debug)]
pub struct Supervisor {
    address: SocketAddr,
    state: watch::Receiver<SupervisorState>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts the process, or adopts the one that was left; it serves once there is a table.
    pub async fn open(
        binding: Binding,
        options: SupervisorOptions,
        tables: watch::Receiver<Arc<Table>>,
    ) -> Result<Supervisor, SupervisorError> {
        let address = binding.address;
        let (told, state) = watch::channel(SupervisorState::default());
        let (stop, stopped) = watch::channel(false);
        let mut keeper = Keeper {
            socket: binding.socket,
            address,
            listener: None,
            options,
            tables,
            told,
            old: None,
            closing: JoinSet::new(),
        };
        let link = match binding.held {
            Held::Left(left) => keeper.adopt(left).await?,
            Held::Bound(listener) => {
                keeper.listener = Some(listener);
                keeper.start().await?
            }
        };
        Ok(Supervisor {
            address,
            state,
            stop,
            task: Some(tokio::spawn(keeper.run(link, stopped))),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is, as it changes.
    pub fn state(&self) -> watch::Receiver<SupervisorState> {
        self.state.clone()
    }

    /// Lets the requests under way finish, and ends the process.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the watch over the gateway broke");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

struct Keeper {
    socket: PathBuf,
    address: SocketAddr,
    /// Where we bound it; an adopted process has it alone.
    listener: Option<TcpListener>,
    options: SupervisorOptions,
    tables: watch::Receiver<Arc<Table>>,
    told: watch::Sender<SupervisorState>,
    /// The process that was replaced, until the one that follows serves.
    old: Option<Link>,
    /// Processes that finish their requests.
    closing: JoinSet<()>,
}

impl Keeper {
    /// Takes over a process as it is, or has it replaced by our program.
    async fn adopt(&mut self, mut left: Link) -> Result<Link, SupervisorError> {
        let hello = &left.hello;
        if hello.build == self.options.build && hello.bus == self.options.bus {
            tracing::info!("adopted the gateway of an earlier run");
            return Ok(left);
        }
        let asked = Ask::Replace {
            program: self.options.program.clone(),
            bus: self.options.bus.clone(),
        };
        if left.ask(&asked).await.is_ok()
            && let Ok(link) = tokio::time::timeout(OPEN_WITHIN, self.connect()).await
        {
            tracing::info!("replaced the gateway of an earlier version");
            self.old = Some(left);
            return Ok(link);
        }
        tracing::warn!("the gateway of an earlier version cannot be replaced; it is ended first");
        left.close(false).await;
        self.start().await
    }

    /// Returns once our program answers.
    async fn connect(&self) -> Link {
        loop {
            if let Ok(link) = Link::connect(&self.socket).await
                && link.hello.build == self.options.build
                && link.hello.bus == self.options.bus
            {
                return link;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts a process on the listener.
    async fn start(&mut self) -> Result<Link, SupervisorError> {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => bind(self.address).await?,
        };
        let spawned = listener.try_clone().and_then(|listener| {
            let options = &self.options;
            command(&options.program, &self.socket, &options.bus, listener).spawn()
        });
        self.listener = Some(listener);
        let mut child = spawned.map_err(|source| SupervisorError::Spawn {
            program: self.options.program.clone(),
            source,
        })?;
        let opened = tokio::select! {
            link = tokio::time::timeout(OPEN_WITHIN, self.connect()) => link,
            status = child.wait() => {
                return Err(status.map_or(SupervisorError::Silent, SupervisorError::Ended));
            }
        };
        let Ok(link) = opened else {
            // It would open when another one has been started on the same listener.
            if let Err(error) = child.kill().await {
                tracing::error!(%error, "a gateway that does not open cannot be killed");
            }
            return Err(SupervisorError::Nobody(self.socket.clone()));
        };
        // Our child until it ends; nobody else would bury it.
        tokio::spawn(async move { child.wait().await });
        Ok(link)
    }

    /// Starts the process again; one that was replaced by what ended serves still, and starts it.
    async fn start_again(&mut self) -> Result<Link, SupervisorError> {
        match self.old.take() {
            Some(old) => self.adopt(old).await,
            None => self.start().await,
        }
    }

    /// Lets every process finish its requests.
    async fn end(mut self, link: Option<Link>) {
        // Nobody may come in by it any more.
        self.listener = None;
        self.close_old();
        if let Some(link) = link {
            link.close(false).await;
        }
        while self.closing.join_next().await.is_some() {}
    }

    async fn run(mut self, mut link: Link, mut stopped: watch::Receiver<bool>) {
        let mut pause = RESTART_PAUSE[0];
        loop {
            self.told.send_modify(|state| state.pid = link.pid());
            let lived = Instant::now();
            let is_gone = tokio::select! {
                is_gone = self.follow(&mut link) => is_gone,
                // An error would mean that the supervisor was dropped, and this task with it.
                _ = stopped.changed() => return self.end(Some(link)).await,
            };
            tracing::warn!(is_gone, "the gateway does not serve; starting it again");
            if !is_gone {
                link.kill().await;
            }
            if lived.elapsed() > HEALTHY_AFTER {
                pause = RESTART_PAUSE[0];
            }
            link = loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stopped.changed() => return self.end(None).await,
                }
                pause = (pause * 2).min(RESTART_PAUSE[1]);
                match self.start_again().await {
                    Ok(link) => break link,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "cannot start the gateway again");
                    }
                }
            };
            self.told.send_modify(|state| state.restarts += 1);
        }
    }

    /// Tells a process each table, and hears what it says, until it ends or cannot serve; whether it
    /// is gone.
    async fn follow(&mut self, link: &mut Link) -> bool {
        // Before the first table nothing is known of the services.
        let is_told = |table: &Arc<Table>| table.revision > 0;
        if self.tables.wait_for(is_told).await.is_err() {
            return std::future::pending().await;
        }
        self.tables.mark_changed();
        let mut silent_since = Instant::now();
        loop {
            tokio::select! {
                // What was said comes first: Serin itself may have been stopped for a while.
                biased;
                said = link.hear() => {
                    silent_since = Instant::now();
                    match said {
                        Some(Say::Taken { revision }) => self.taken(revision),
                        Some(Say::Stats(stats)) => self.told.send_modify(|state| state.stats = stats),
                        Some(Say::Failed { why }) => {
                            tracing::error!(why, "the gateway cannot serve");
                            return false;
                        }
                        Some(Say::Hello(_)) => {}
                        None => return true,
                    }
                }
                changed = self.tables.changed() => {
                    if changed.is_err() {
                        // Serin ends: it says what becomes of the gateway.
                        return std::future::pending().await;
                    }
                    let table = Table::clone(&self.tables.borrow_and_update());
                    if link.ask(&Ask::Table(table)).await.is_err() {
                        return false;
                    }
                }
                () = tokio::time::sleep_until(silent_since + HANGS_AFTER) => {
                    tracing::warn!("the gateway hangs");
                    return false;
                }
            }
        }
    }

    fn taken(&mut self, revision: u64) {
        self.told.send_modify(|state| state.taken = revision);
        self.close_old();
    }

    /// Ends the process that was replaced.
    fn close_old(&mut self) {
        if let Some(old) = self.old.take() {
            // Beside the rest: its requests may take their time.
            self.closing.spawn(old.close(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{UnixListener, UnixStream};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::process::protocol::{Hello, line};
    use crate::process::run::listen;
    use crate::process::run::tests::program;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Who keeps a gateway of the build "new", and what goes with it: its folder and its tables.
    fn keeper(program: PathBuf) -> (Keeper, (tempfile::TempDir, watch::Sender<Arc<Table>>)) {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let table = Table {
            revision: 1,
            ..Table::default()
        };
        let (told, tables) = watch::channel(Arc::new(table));
        let keeper = Keeper {
            socket: folder.path().join("gateway.sock"),
            address: listener.local_addr().expect("bound"),
            listener: Some(listener),
            options: SupervisorOptions {
                program,
                build: "new".into(),
                bus: String::new(),
            },
            tables,
            told: watch::Sender::default(),
            old: None,
            closing: JoinSet::new(),
        };
        (keeper, (folder, told))
    }

    /// What stands for a process, as far as Serin sees it.
    struct Stand {
        stream: BufReader<UnixStream>,
        _socket: AbortOnDropHandle<()>,
    }

    impl Stand {
        /// Opens the socket and says who it is to each one who connects; it hears the first.
        async fn open(socket: PathBuf, address: SocketAddr, build: &str) -> Stand {
            let listener = listen(&socket).expect("a socket");
            let hello = line(&Say::Hello(Hello {
                build: build.into(),
                address,
                bus: String::new(),
            }));
            let first = tokio::time::timeout(PATIENCE, greeted(&listener, &hello)).await;
            let greeting = async move {
                loop {
                    drop(greeted(&listener, &hello).await);
                }
            };
            Stand {
                stream: BufReader::new(first.expect("in time")),
                _socket: AbortOnDropHandle::new(tokio::spawn(greeting)),
            }
        }

        async fn say(&mut self, say: &Say) {
            let said = self.stream.write_all(&line(say)).await;
            said.expect("heard");
        }

        /// What it is asked next.
        async fn asked(&mut self) -> Ask {
            let mut text = String::new();
            let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut text)).await;
            read.expect("in time").expect("a line");
            serde_json::from_str(&text).expect("a question")
        }
    }

    /// The next one who connects, told who it is that listens.
    async fn greeted(listener: &UnixListener, hello: &[u8]) -> UnixStream {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(hello).await.expect("heard");
        stream
    }

    /// A process of an older build that has been asked for the one that follows, and that one.
    async fn replaced(keeper: &mut Keeper) -> (Stand, Stand, Link) {
        let (socket, address) = (keeper.socket.clone(), keeper.address);
        let opening = Stand::open(socket.clone(), address, "old");
        let finding = async {
            loop {
                match Link::connect(&socket).await {
                    Ok(link) => return link,
                    Err(_) => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        };
        let (mut old, left) = tokio::join!(opening, finding);
        let (link, next) = tokio::join!(keeper.adopt(left), async {
            assert!(matches!(old.asked().await, Ask::Replace { .. }));
            Stand::open(socket.clone(), address, "new").await
        });
        (old, next, link.expect("it answers"))
    }

    #[tokio::test]
    async fn a_process_that_does_not_open_is_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut keeper, _beside) = keeper(program(folder.path(), "exec sleep 60"));
        let failed = keeper.start().await.expect_err("it does not open");
        assert!(matches!(failed, SupervisorError::Nobody(_)), "{failed}");
        keeper.listener = None;
        TcpListener::bind(keeper.address).expect("nobody has the address");
    }

    #[tokio::test]
    async fn one_that_ends_before_it_serves_is_started_again_by_the_one_it_replaces() {
        let (mut keeper, _beside) = keeper(PathBuf::new());
        let (socket, address) = (keeper.socket.clone(), keeper.address);
        // The old one has the address, so that nobody else can be started there.
        let _listener = keeper.listener.take();
        let (mut old, mut next, link) = replaced(&mut keeper).await;
        let (mut state, (stop, stopped)) = (keeper.told.subscribe(), watch::channel(false));
        let running = tokio::spawn(keeper.run(link, stopped));
        assert!(matches!(next.asked().await, Ask::Table(_)));
        drop(next);
        assert!(matches!(old.asked().await, Ask::Replace { .. }));
        let mut next = Stand::open(socket, address, "new").await;
        assert!(matches!(next.asked().await, Ask::Table(_)));
        next.say(&Say::Taken { revision: 1 }).await;
        assert!(matches!(
            old.asked().await,
            Ask::Close { is_replaced: true }
        ));
        drop(old);
        let taken = state.wait_for(|state| (state.taken, state.restarts) == (1, 1));
        let taken = tokio::time::timeout(PATIENCE, taken).await;
        taken.expect("in time").expect("it goes on");
        stop.send_replace(true);
        assert!(matches!(
            next.asked().await,
            Ask::Close { is_replaced: false }
        ));
        drop(next);
        running.await.expect("no panic");
    }

    #[tokio::test]
    async fn the_end_in_the_midst_of_an_upgrade_is_that_of_both() {
        let (mut keeper, _beside) = keeper(PathBuf::new());
        let _listener = keeper.listener.take();
        let (mut old, mut next, link) = replaced(&mut keeper).await;
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(keeper.run(link, stopped));
        assert!(matches!(next.asked().await, Ask::Table(_)));
        stop.send_replace(true);
        assert!(matches!(
            next.asked().await,
            Ask::Close { is_replaced: false }
        ));
        assert!(matches!(
            old.asked().await,
            Ask::Close { is_replaced: true }
        ));
        drop((old, next));
        running.await.expect("no panic");
    }
}
