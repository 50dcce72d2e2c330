//! What can go wrong with the bus, in the words a user reads.

use std::path::PathBuf;

use serin_connect::ack::Refusal;
use thiserror::Error;

/// Where a cause comes from a library, it is kept as it is.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the bus cannot be started, joined or read.
#[derive(Debug, Error)]
pub enum BusError {
    /// No usable `nats-server` was found.
    #[error("no nats-server of version 2.10 or later was found{notes}; {again}{how}")]
    NoServer {
        /// What was looked at and why it would not do; empty, or starting with " (".
        notes: String,
        /// How to get the one back that came with Serin; empty, or ending with "; or ".
        again: &'static str,
        /// How to get one on this operating system.
        how: &'static str,
    },
    /// Another Serin runs on the same folder.
    #[error("the bus in {0} belongs to a Serin that is running; stop it first with `serin down`")]
    InUse(PathBuf),
    /// A process holds the folder that is not to be seen from here.
    #[error(
        "another nats-server works on this folder: it holds {0} and is not to be seen from here; end \
         it where it runs (another container, another user), for instance with `fuser -k {0}`"
    )]
    Held(PathBuf),
    /// The process does not even end by force.
    #[error("nats-server cannot be ended: process {0} survives `kill -9`; end it as its owner")]
    Undying(i32),
    /// A file of ours cannot be written or read.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried: "write", "lock".
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of ours does not say what we wrote.
    #[error(
        "{path} is damaged; restore it from a backup, or end what runs with `serin down` and remove the \
         file: the next start makes it anew"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Source,
    },
    /// The system gave no random bytes.
    #[error("cannot read random bytes from /dev/urandom")]
    Random(#[source] std::io::Error),
    /// No free port on 127.0.0.1.
    #[error("cannot find a free port on 127.0.0.1")]
    NoPort(#[source] std::io::Error),
    /// The wanted port is taken by another program.
    #[error("port {0} is taken by another program; choose another with --bus PORT")]
    PortTaken(u16),
    /// The process could not be started.
    #[error("cannot start {path}")]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server ended before it was ready.
    #[error("nats-server ended while starting; its last words: {0}")]
    Ended(String),
    /// The server is not ready in time.
    #[error("nats-server at 127.0.0.1:{port} is not ready after {waited_s} s; see {log}")]
    NotReady {
        /// Its port.
        port: u16,
        /// How long we waited.
        waited_s: u64,
        /// Its log.
        log: PathBuf,
    },
    /// The address of the bus to join is none.
    #[error("cannot read the address of the bus; it must look like nats://USER:PASSWORD@HOST:4222")]
    Address(#[source] std::io::Error),
    /// The bus to join does not answer.
    #[error("cannot join the bus at {host}: is a nats-server running there")]
    Join {
        /// Its address, without credentials.
        host: String,
        /// Why.
        source: Source,
    },
    /// The bus to join wants other credentials.
    #[error(
        "the bus at {host} does not let {who} in; put the URL with the right ones, \
         nats://USER:PASSWORD@{host}, into SERIN_BUS"
    )]
    NotLetIn {
        /// Its address, without credentials.
        host: String,
        /// Whom we said we are.
        who: String,
    },
    /// The bus to join keeps nothing.
    #[error(
        "the bus at {host} has no JetStream for us ({said}), which keeps events until they are stored; \
         start it with `nats-server -js -sd FOLDER` or `jetstream {{ store_dir: FOLDER }}` in its \
         configuration, and where it has accounts, enable JetStream for ours"
    )]
    NoJetStream {
        /// Its address, without credentials.
        host: String,
        /// In its words.
        said: String,
    },
    /// The bus to join has not enough room for a stream of ours.
    #[error(
        "the bus has no room for the stream {stream} of {mib} MiB; give its JetStream more \
         (`max_file_store`, `max_memory_store`, the limits of the account), or let events take less with \
         `bus: {{events_mib_max: …}}` in serin.yaml"
    )]
    NoRoom {
        /// Which one.
        stream: &'static str,
        /// What it may hold.
        mib: i64,
    },
    /// Users and mappings belong to whoever runs the bus.
    #[error(
        "a joined bus keeps its own users and mappings: give the services their credentials there; \
         Serin forwards calls that name no version"
    )]
    Joined,
    /// A stream of our name that somebody else made.
    #[error(
        "the bus has a stream {0} that is not Serin's; rename it or let its owner remove it, or join \
         another bus or account"
    )]
    ForeignStream(&'static str),
    /// A stream that another Serin reads and purges.
    #[error(
        "the stream {stream} belongs to the Serin in {place}, and two would purge each other's \
         messages; join another bus or account, or, if that folder is gone for good, write {id} into \
         {file}"
    )]
    OwnedStream {
        /// The stream.
        stream: &'static str,
        /// The folder that has it, as it said itself.
        place: String,
        /// Its name.
        id: String,
        /// Where ours is kept.
        file: String,
    },
    /// A user of the bus that cannot be.
    #[error(
        "{0:?} cannot be a user of the bus: names and passwords have 1 to 128 of A-Z a-z 0-9 _ - . \
         and each name is there once"
    )]
    User(String),
    /// The server did not take users or mappings over; it goes on with those before.
    #[error("nats-server did not take new users or mappings over; its last words: {0}")]
    Reload(String),
    /// A request to JetStream failed.
    #[error("the bus cannot {what}")]
    JetStream {
        /// What was asked: "create the stream EVENTS".
        what: String,
        /// Why.
        source: Source,
    },
    /// The stream is not the one we read: wiped, replaced, or it lost its tail.
    #[error(
        "the stream {stream} changed its life: read up to {read_to} of {was}, it is now {now} and \
         ends at {last}"
    )]
    StreamChanged {
        /// Which stream.
        stream: &'static str,
        /// The incarnation we read.
        was: String,
        /// The one it has; "none" where the stream is gone.
        now: String,
        /// The last message we read.
        read_to: u64,
        /// Its last message.
        last: u64,
    },
}

/// Why a message was not taken. In each case it may be sent again under the same `Nats-Msg-Id`.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The stream is full and refuses new messages; nothing old is dropped.
    #[error("the stream of events is full; try again once what it holds is committed")]
    Full,
    /// The message is larger than the bus takes.
    #[error("the message has {bytes} bytes and the bus takes {bytes_max}")]
    TooLarge {
        /// Size of the message.
        bytes: usize,
        /// What is taken.
        bytes_max: usize,
    },
    /// The bus does not answer, or did not in time.
    #[error("the bus does not answer ({0})")]
    Unavailable(&'static str),
    /// JetStream said no for another reason.
    #[error(transparent)]
    Refused(Refusal),
}

impl From<Refusal> for PublishError {
    fn from(refusal: Refusal) -> PublishError {
        match refusal {
            Refusal::Full => PublishError::Full,
            Refusal::NoStream => PublishError::Unavailable("no stream takes the subject"),
            Refusal::Unreadable => {
                PublishError::Unavailable("the answer is not an acknowledgement")
            }
            said @ Refusal::Said { .. } => PublishError::Refused(said),
        }
    }
}

impl PublishError {
    /// Whether the same message would be refused whenever it is sent again.
    pub fn is_final(&self) -> bool {
        match self {
            PublishError::TooLarge { .. } => true,
            PublishError::Refused(refusal) => refusal.is_final(),
            PublishError::Full | PublishError::Unavailable(_) => false,
        }
    }
}
