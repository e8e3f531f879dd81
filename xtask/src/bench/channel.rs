//! The measures of channels: messages one way and there and back, large ones, listeners. The contenders are programs
//! of their own, in `xtask/contenders`; each is both ends, started in two parts.

use std::process::Command;

use anyhow::{Context, Result};

use super::child_process::measured;
use super::machine::Cpus;
use super::server::NODE_MAJOR;
use super::{Measure, Sample, Target, one_by_one};
use crate::{fetch, workspace};

/// How long each contender is measured in a round, after it has got warm.
const SECONDS: &str = "0.6";

/// One of the measures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// JSON of 100 bytes, one way.
    Messages(On),
    /// JSON of 100 bytes, there and back.
    PingPong(On),
    /// JSON of 1 MiB, one way.
    LargeJson,
    /// V8's format, 1 MiB, one way.
    LargeAdvanced,
    /// Sockets that listen, one way.
    Handles,
}

/// How many CPUs the two ends share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// One: wake-ups between CPUs do not drown the figure.
    One,
    /// All that there are.
    All,
}

/// Who plays the two parts.
enum Ends {
    Node,
    Ganger,
    /// A parent that is ganger's, a child that is Node's.
    Mixed,
    Bare,
}

impl Channel {
    pub(super) const ALL: [Self; 7] = [
        Self::Messages(On::One),
        Self::Messages(On::All),
        Self::PingPong(On::One),
        Self::PingPong(On::All),
        Self::LargeJson,
        Self::LargeAdvanced,
        Self::Handles,
    ];

    fn on(self) -> On {
        match self {
            Self::Messages(on) | Self::PingPong(on) => on,
            Self::LargeJson | Self::LargeAdvanced | Self::Handles => On::One,
        }
    }

    /// Who plays, the parent's part, the child's, and what is sent.
    fn cast(self, contender: &str) -> Option<(Ends, [&'static str; 3])> {
        let ends = match contender {
            "bare" => Ends::Bare,
            "node" | "node-buffer" => Ends::Node,
            "ganger" | "ganger-parsed" | "ganger-buffer" => Ends::Ganger,
            "ganger-node" | "node-ganger" => Ends::Mixed,
            _ => return None,
        };
        let parts = match (self, contender) {
            (Self::Messages(_), "ganger-parsed") => ["send", "parse", "small"],
            (Self::Messages(_), "node-ganger") => ["count", "send", "small"],
            (Self::Messages(_), _) => ["send", "count", "small"],
            (Self::PingPong(_), "ganger-parsed") => ["ping-parsed", "echo-parsed", "small"],
            (Self::PingPong(_), "ganger-node") => ["ping-parsed", "echo", "small"],
            (Self::PingPong(_), _) => ["ping", "echo", "small"],
            (Self::LargeAdvanced, "ganger-buffer" | "node-buffer") => ["send", "count", "buffer"],
            (Self::LargeJson | Self::LargeAdvanced, _) => ["send", "count", "text"],
            (Self::Handles, _) => ["send-listeners", "take-listeners", "small"],
        };
        Some((ends, parts))
    }
}

impl Measure for Channel {
    fn name(&self) -> &'static str {
        match self {
            Self::Messages(On::One) => "messages",
            Self::Messages(On::All) => "messages-all-cpus",
            Self::PingPong(On::One) => "ping-pong",
            Self::PingPong(On::All) => "ping-pong-all-cpus",
            Self::LargeJson => "large-json",
            Self::LargeAdvanced => "large-advanced",
            Self::Handles => "handles",
        }
    }

    fn about(&self) -> String {
        match self {
            Self::Messages(_) => {
                "JSON messages of 100 bytes, one way, as fast as the channel takes them; ganger does not parse them, \
                 ganger-node and node-ganger are from a Rust parent to a Node child and back"
            }
            Self::PingPong(_) => {
                "JSON messages of 100 bytes, there and back; node, ganger-parsed and ganger-node (a Rust parent) parse \
                 them at both ends, bare and ganger nowhere"
            }
            Self::LargeJson => "JSON strings of 1 MiB, one way",
            Self::LargeAdvanced => "V8's format: strings and Buffers of 1 MiB, one way",
            Self::Handles => {
                "listeners sent and restored, one after the other, with Node's messages; bare is sendmsg and one \
                 byte back"
            }
        }
        .into()
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Messages(_) | Self::LargeJson | Self::LargeAdvanced => "messages/s",
            Self::PingPong(_) => "round trips/s",
            Self::Handles => "listeners/s",
        }
    }

    fn contenders(&self) -> Vec<&'static str> {
        match self {
            Self::Messages(_) => {
                vec!["node", "bare", "ganger", "ganger-parsed", "ganger-node", "node-ganger"]
            }
            Self::PingPong(_) => vec!["node", "bare", "ganger", "ganger-parsed", "ganger-node"],
            Self::LargeJson | Self::Handles => vec!["node", "bare", "ganger"],
            Self::LargeAdvanced => vec!["node", "node-buffer", "bare", "ganger", "ganger-buffer"],
        }
    }

    fn baseline(&self) -> &'static str {
        "node"
    }

    fn targets(&self) -> Vec<Target> {
        let target = Target::at_least;
        match self {
            Self::Messages(On::One) => vec![
                target("ganger", 8.0, "node"),
                target("ganger-node", 1.3, "node"),
                target("node-ganger", 1.3, "node"),
            ],
            Self::PingPong(On::One) => vec![
                target("ganger", 0.8, "bare"),
                target("ganger-parsed", 2.0, "node"),
                target("ganger-node", 1.3, "node"),
            ],
            Self::Messages(On::All) => vec![target("ganger", 8.0, "node")],
            Self::PingPong(On::All) => Vec::new(),
            Self::LargeJson => vec![target("ganger", 0.5, "bare")],
            Self::LargeAdvanced => vec![target("ganger", 0.5, "bare"), target("ganger-buffer", 0.5, "bare")],
            Self::Handles => vec![target("ganger", 8.0, "node"), target("ganger", 0.6, "bare")],
        }
    }

    fn pinning(&self, cpus: &Cpus) -> String {
        match self.on() {
            On::One => cpus.server_alone(),
            On::All => cpus.all_together(),
        }
    }

    fn prepare(&self, contenders: &[&'static str]) -> Result<()> {
        if contenders.iter().any(|name| name.contains("node")) {
            fetch::fetch()?;
        }
        let mut build = workspace::cargo(["build", "--quiet", "--release", "-p", "ganger"]);
        workspace::run(build.args(["--example", "contender_channel", "--example", "contender_channel_bare"]))
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        one_by_one(contenders, |contender| self.sample(contender, cpus))
    }
}

impl Channel {
    fn sample(&self, contender: &str, cpus: &Cpus) -> Result<Sample> {
        let (ends, [ours, theirs, message]) =
            self.cast(contender).with_context(|| format!("nobody plays {contender}"))?;
        let serialization = if *self == Self::LargeAdvanced { "advanced" } else { "json" };
        let node = fetch::node(NODE_MAJOR);
        let example = |name| Command::new(workspace::target().join("release/examples").join(name));
        let mut command = match ends {
            Ends::Node => Command::new(&node),
            Ends::Ganger | Ends::Mixed => example("contender_channel"),
            Ends::Bare => example("contender_channel_bare"),
        };
        match ends {
            Ends::Node => command.arg("xtask/contenders/channel.js"),
            _ => &mut command,
        }
        .args([ours, theirs, message]);
        match ends {
            Ends::Bare => command.arg(SECONDS),
            Ends::Mixed => command.args([serialization, SECONDS]).arg(node),
            Ends::Node | Ends::Ganger => command.args([serialization, SECONDS]),
        };
        match self.on() {
            On::One => cpus.enter_server()?,
            On::All => cpus.enter_all()?,
        }
        measured(&mut command, cpus)
    }
}
