//! The load: clients that ask one request after the other as long as a trial lasts, and count every one that fails.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{After, Answer, Connection, Lasting, Trouble};

/// Clients of a gang.
const CLIENTS: u8 = 8;
/// What clients do between two requests: some hardly wait, others leave their connection idle for a while.
const PAUSES: [u64; 4] = [1, 5, 20, 60];
/// What they ask for, in turn.
const PATHS: [&str; 4] = ["/", "/slow", "/", "/large"];
/// What a worker fails at.
const FAILING: &str = "/fail";
/// After a failure a client waits, so that it does not count one trouble a thousand times.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What the clients are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Clients {
    /// All with connections that last so long.
    All(Lasting),
    /// Half of them of each kind.
    Mixed,
}

/// Clients at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Tally>>,
}

struct Shared {
    port: u16,
    over: AtomicBool,
    /// Requests so far.
    requests: AtomicU64,
    /// Every so many requests one is for something that a worker fails at.
    fail_every: Option<u64>,
    /// How many of those there were.
    failing: AtomicU64,
}

/// What clients have counted.
#[derive(Default)]
pub(super) struct Tally {
    /// All of them, but for those that were meant to fail.
    pub(super) requests: u64,
    /// Requests that were repeated on a new connection, since a reused one was closed before the answer began.
    pub(super) repeats: u64,
    /// Requests that did not end well.
    pub(super) failures: Vec<Failure>,
    /// Requests that were meant to fail.
    pub(super) asked_to_fail: u64,
}

/// A request that did not end well.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) path: &'static str,
    /// The client's end of the connection and when it was established; none if it was not.
    pub(super) connection: Option<(SocketAddr, Instant)>,
    pub(super) at: Instant,
    pub(super) error: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, connection, at, error } = self;
        write!(f, "{path} failed: {error}")?;
        match connection {
            Some((local, since)) => {
                write!(f, " (from {local}, connected {:.3} s before)", (*at - *since).as_secs_f64())
            }
            None => Ok(()),
        }
    }
}

impl Load {
    /// Begins to ask what listens on this port of 127.0.0.1.
    pub(super) fn start(port: u16, clients: Clients, fail_every: Option<u64>) -> Self {
        let shared = Arc::new(Shared {
            port,
            over: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            fail_every,
            failing: AtomicU64::new(0),
        });
        let start = |number| {
            let lasting = match clients {
                Clients::All(lasting) => lasting,
                Clients::Mixed if number <= CLIENTS / 2 => Lasting::Once,
                Clients::Mixed => Lasting::Kept,
            };
            let pause = Duration::from_millis(PAUSES[usize::from(number) % PAUSES.len()]);
            let tally = Tally::default();
            let client = Client { number, lasting, pause, shared: shared.clone(), connection: None, tally };
            thread::spawn(move || client.run())
        };
        let clients = (1..=CLIENTS).map(start).collect();
        Self { shared, clients }
    }

    /// How many requests were meant to fail so far.
    pub(super) fn asked_to_fail(&self) -> u64 {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Waits for the requests that are under way; what came of all of them.
    pub(super) fn finish(self) -> Tally {
        self.shared.over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients {
            let Tally { requests, repeats, failures, asked_to_fail } =
                client.join().expect("a client does not panic");
            all.requests += requests;
            all.repeats += repeats;
            all.failures.extend(failures);
            all.asked_to_fail += asked_to_fail;
        }
        all.failures.sort_by_key(|failure| failure.at);
        all
    }
}

impl Shared {
    /// What the next request is for.
    fn next_path(&self) -> &'static str {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if self.fail_every.is_some_and(|every| number.is_multiple_of(every)) {
            self.failing.fetch_add(1, Ordering::Relaxed);
            return FAILING;
        }
        PATHS[number as usize % PATHS.len()]
    }
}

struct Client {
    number: u8,
    lasting: Lasting,
    pause: Duration,
    shared: Arc<Shared>,
    connection: Option<Connection>,
    tally: Tally,
}

impl Client {
    fn run(mut self) -> Tally {
        while !self.shared.over.load(Ordering::Relaxed) {
            let path = self.shared.next_path();
            let good = self.ask(path);
            thread::sleep(if good { self.pause } else { AFTER_FAILURE });
        }
        self.tally
    }

    /// One request, with what a client does about a connection that was closed while it was idle. Whether it went well.
    fn ask(&mut self, path: &'static str) -> bool {
        let mut attempt = self.attempt(path);
        // Not what fails: it would fail in another worker too.
        if path != FAILING && attempt.as_ref().is_err_and(Attempt::may_be_repeated) {
            self.tally.repeats += 1;
            attempt = self.attempt(path);
        }
        if path == FAILING {
            self.tally.asked_to_fail += 1;
            return true;
        }
        self.tally.requests += 1;
        let Err(Attempt { connection, trouble, .. }) = attempt else { return true };
        let at = Instant::now();
        self.tally.failures.push(Failure { path, connection, at, error: trouble.error });
        false
    }

    fn attempt(&mut self, path: &str) -> Result<(), Attempt> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.number, self.shared.port).map_err(Attempt::unconnected)?,
        };
        let reused = connection.reused;
        match connection.get(self.number, path, self.lasting) {
            Ok(Answer { after: After::Keep, .. }) => self.connection = Some(connection),
            Ok(Answer { after: After::Close, .. }) => {}
            Err(trouble) => {
                let connection = Some((connection.local, connection.since));
                return Err(Attempt { reused, connection, trouble });
            }
        }
        Ok(())
    }
}

/// An attempt that went wrong.
struct Attempt {
    reused: bool,
    connection: Option<(SocketAddr, Instant)>,
    trouble: Trouble,
}

impl Attempt {
    fn unconnected(error: std::io::Error) -> Self {
        let trouble = Trouble { error: format!("cannot connect: {error}"), closed_unanswered: false };
        Self { reused: false, connection: None, trouble }
    }

    /// The server may have closed the connection before it had the request.
    fn may_be_repeated(&self) -> bool {
        self.reused && self.trouble.closed_unanswered
    }
}
