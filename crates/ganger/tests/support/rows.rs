//! Who is at the other end: each release of Node, or Rust.

use std::{env, fmt, future::Future};

use ganger::process::Command;
use libtest_mimic::Trial;

use crate::support::{self, Directory, node};

/// Who the other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kid {
    Rust,
    Node(&'static str),
}

/// The releases of Node.
pub(crate) const NODES: [&str; 5] = ["18", "20", "22", "24", "26"];

impl Kid {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        NODES.into_iter().map(Self::Node).chain([Self::Rust])
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rust => f.write_str("Rust"),
            Self::Node(major) => write!(f, "Node {major}"),
        }
    }
}

/// The test of a row with Rust above and everybody below.
pub(crate) fn rows<F: Future<Output = ()> + 'static>(name: &str, test: fn(Kid) -> F) -> Vec<Trial> {
    rows_of(Kid::all(), name, test)
}

/// The same, with only these below.
pub(crate) fn rows_of<F: Future<Output = ()> + 'static>(
    kids: impl Iterator<Item = Kid>,
    name: &str,
    test: fn(Kid) -> F,
) -> Vec<Trial> {
    let trial = |kid: Kid| {
        let feature = name.to_owned();
        Trial::test(format!("{name} with {kid}"), move || {
            support::run(test(kid));
            if let Kid::Node(major) = kid {
                support::passed(&feature, major);
            }
            Ok(())
        })
    };
    kids.map(trial).collect()
}

/// The test of a row with Node above and Rust below. The script finds what `prelude` has, the path of this program
/// in `process.env.RUST`, and [`MUST_CALL`]; it ends with exit code 0 if all is as it should be.
pub(crate) fn rows_under_node(
    name: &str,
    prelude: &'static str,
    env: &'static [(&str, &str)],
    script: &'static str,
) -> Vec<Trial> {
    let trial = |major: &'static str| {
        let feature = format!("{name} (Rust below)");
        Trial::test(format!("{name} with Rust under Node {major}"), move || {
            support::run(async {
                let directory = Directory::new();
                let script = directory.write("above.js", &format!("{MUST_CALL}\n{prelude}\n{script}"));
                let mut command = Command::new(node(major));
                command.arg(script).env("RUST", env::current_exe().unwrap()).envs(env.iter().copied());
                command.kill_group(true).kill_on_drop(true);
                if let Err(error) = command.exec().await {
                    panic!("{error}\n{}", error.stdout);
                }
            });
            support::passed(&feature, major);
            Ok(())
        })
    };
    NODES.into_iter().map(trial).collect()
}

/// `mustCall` counts as Node's own tests do: what was not called is a failure.
const MUST_CALL: &str = r"
const assert = require('assert');
const pending = new Set();
const mustCall = (f = () => {}, times = 1) => {
  const call = { times, where: new Error('must have been called') };
  pending.add(call);
  return (...args) => {
    if (--call.times === 0) pending.delete(call);
    assert(call.times >= 0, 'called too often');
    return f(...args);
  };
};
const mustNotCall = (what) => (...args) => assert.fail(`${what}: ${JSON.stringify(args)}`);
process.on('exit', (code) => { for (const call of code ? [] : pending) { console.error(call.where); process.exitCode = 1; } });
";
