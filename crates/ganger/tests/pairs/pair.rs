//! Who talks to whom about what, and how it went.

use std::{env, ffi::OsString, fmt, path::PathBuf, sync::OnceLock, time::Duration};

use ganger::process::Command;
use libtest_mimic::{Failed, Trial};

use crate::{
    PART,
    known::{self, Verdict},
    support::{self, Directory, NODE},
};

/// A runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Rust,
    Node(&'static str),
    Bun,
    Deno,
}

/// In the order of the page.
pub(crate) const PEERS: [Peer; 8] = [
    Peer::Rust,
    Peer::Node("18"),
    Peer::Node("20"),
    Peer::Node("22"),
    Peer::Node("24"),
    Peer::Node("26"),
    Peer::Bun,
    Peer::Deno,
];

/// Beside each of the others with itself, to see what is Bun's or Deno's.
const OTHER_PAIRS: [(Peer, Peer); 4] = [
    (Peer::Node(NODE), Peer::Bun),
    (Peer::Bun, Peer::Node(NODE)),
    (Peer::Node(NODE), Peer::Deno),
    (Peer::Deno, Peer::Node(NODE)),
];

/// Each feature by its name in the programs, and by the one that a reader knows it by.
pub(crate) const FEATURES: [(&str, &str); 22] = [
    ("messages", "messages both ways"),
    ("large-integer", "the number 2⁵³"),
    ("lone-surrogate", "a string with a lone surrogate"),
    ("advanced", "`advanced` messages both ways: Map, BigInt, Buffer, undefined, Date, a cycle"),
    ("disconnect-by-parent", "disconnect by the parent"),
    ("disconnect-by-child", "disconnect by the child"),
    ("exit", "exit code and signal of the child"),
    ("server", "`net.Server` to the child, which serves on when the sender has closed its own"),
    ("server-shared", "`net.Server` to the child, and the sender serves on as well"),
    ("server-to-parent", "`net.Server` to the parent"),
    ("socket", "`net.Socket` to the child"),
    ("socket-to-parent", "`net.Socket` to the parent"),
    ("socket-close", "`net.Socket` is closed by the sender when it has arrived"),
    ("keep-open", "`net.Socket` with `keepOpen`: both ends write"),
    ("pause-on-connect", "`net.Socket` with `pauseOnConnect`: what the client wrote before arrives"),
    ("unix-server", "`net.Server` of a Unix domain"),
    ("unix-socket", "`net.Socket` of a Unix domain"),
    ("native", "`net.Native`"),
    ("dgram", "`dgram.Socket`"),
    ("dgram-native", "`dgram.Native`"),
    ("count", "`getConnections` and `close` of the parent's server count the child's sockets"),
    ("count-by-child", "`getConnections` and `close` of the child's server count the parent's sockets"),
];

/// How long a scenario may take.
const LIMIT: Duration = Duration::from_secs(15);
/// One that is known to hang: it would be done long before.
const HANG: Duration = Duration::from_secs(3);

/// A feature between two runtimes.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) parent: Peer,
    pub(crate) child: Peer,
    pub(crate) feature: &'static str,
    seen: OnceLock<Result<(), String>>,
}

impl Cell {
    /// All that there are.
    pub(crate) fn all() -> Vec<Self> {
        let others = || PEERS.into_iter().filter(|peer| *peer != Peer::Rust);
        let pairs = PEERS
            .map(|child| (Peer::Rust, child))
            .into_iter()
            .chain(others().map(|parent| (parent, Peer::Rust)))
            .chain(others().map(|peer| (peer, peer)))
            .chain(OTHER_PAIRS);
        let cells = pairs.flat_map(|(parent, child)| {
            FEATURES.map(|(feature, _)| Self { parent, child, feature, seen: OnceLock::new() })
        });
        cells.collect()
    }

    /// What was seen; it is looked at once.
    pub(crate) fn seen(&self) -> &Result<(), String> {
        self.seen.get_or_init(|| self.run())
    }

    pub(crate) fn verdict(&self) -> Verdict {
        known::verdict(self)
    }

    pub(crate) fn trial(&'static self) -> Trial {
        Trial::test(self.to_string(), || self.check())
    }

    /// Whether it is as [`known`] says.
    pub(crate) fn is_as_expected(&self) -> bool {
        self.check().is_ok()
    }

    fn check(&self) -> Result<(), Failed> {
        match (self.seen(), self.verdict()) {
            (Ok(()), Verdict::Works) => {
                for peer in [self.parent, self.child] {
                    if let Peer::Node(major) = peer {
                        support::passed(&format!("pairs: {}", self.feature), major);
                    }
                }
                Ok(())
            }
            (Err(_), Verdict::Fails(_)) => Ok(()),
            (Ok(()), Verdict::Fails(reason)) => {
                Err(format!("this works now: strike out of known.rs that {reason}").into())
            }
            (Err(output), Verdict::Works) => Err(output.into()),
        }
    }

    /// Lets the parent start the child, and says what went wrong.
    fn run(&self) -> Result<(), String> {
        let limit = match self.verdict() {
            Verdict::Fails(_) => HANG,
            Verdict::Works => LIMIT,
        };
        let directory = Directory::new();
        let script = directory.write("program.cjs", include_str!("program.cjs"));
        let child: Vec<String> =
            self.child.words(&script).into_iter().map(|word| word.into_string().unwrap()).collect();
        let mut words = self.parent.words(&script).into_iter();
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .env(PART, format!("parent {}", self.feature))
            .env("GANGER_TEST_CHILD", serde_json::to_string(&child).unwrap())
            .env("GANGER_TEST_SOCKET", directory.path("socket"));
        // With all that it starts, it ends with this process at the latest.
        command.guarded(true).timeout(limit).kill_signal(9).kill_on_drop(true);
        match support::run(async { command.exec().await }) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}\n{}", error.stdout)),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}: {}", self.parent, self.child, self.feature)
    }
}

impl Peer {
    /// What it is started with.
    fn words(self, script: &std::path::Path) -> Vec<OsString> {
        match self {
            Self::Rust => vec![env::current_exe().unwrap().into()],
            Self::Node(major) => vec![support::node(major).into(), script.into()],
            Self::Bun => vec![program("GANGER_TEST_BUN").into(), script.into()],
            Self::Deno => {
                vec![program("GANGER_TEST_DENO").into(), "run".into(), "-A".into(), script.into()]
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rust => f.write_str("Rust"),
            Self::Node(major) => write!(f, "Node {major}"),
            Self::Bun => f.write_str("Bun"),
            Self::Deno => f.write_str("Deno"),
        }
    }
}

/// Another runtime, as the test command has fetched it.
fn program(variable: &str) -> PathBuf {
    match env::var_os(variable) {
        Some(program) => program.into(),
        None => panic!("{variable} does not say where it is: run `cargo xtask test`"),
    }
}
