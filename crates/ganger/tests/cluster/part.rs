//! What a worker does, once in Node's JavaScript and once in Rust.

use std::{env, future::Future, pin::Pin, process};

use ganger::cluster::{Policy, Primary, Settings, Worker};

use crate::{
    rows::Kid,
    support::{Directory, Gang},
};

/// What a worker does. Its arguments are behind the part's name: `process.argv.slice(2)`, `env::args().skip(2)`.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// As a script.
    pub(crate) node: &'static str,
    /// The same.
    pub(crate) rust: fn(Worker) -> Pin<Box<dyn Future<Output = ganger::Result>>>,
}

/// Parts that several groups of rows have.
pub(crate) const PARTS: &[Part] = &[IDLE];

/// It is there, and leaves when it is told to.
pub(crate) const IDLE: Part = Part {
    name: "idle",
    node: "",
    rust: |worker| {
        Box::pin(async move {
            worker.stopping().await;
            Ok(())
        })
    },
};

impl Kid {
    /// Workers of this kind that play a part.
    pub(crate) fn settings(self, directory: &Directory, policy: Policy, part: &Part) -> Settings {
        match self {
            Self::Node(major) => directory.workers(major, policy, part.node),
            Self::Rust => {
                let mut settings = Settings::new(env::current_exe().unwrap());
                settings.args = vec![part.name.into()];
                settings.policy = policy;
                settings
            }
        }
    }

    /// A primary at work whose workers are of this kind and play a part, with Node's default policy.
    pub(crate) fn gang(self, directory: &Directory, part: &Part) -> Gang {
        Gang::new(self.settings(directory, Policy::RoundRobin, part))
    }
}

/// This program as a worker.
pub(crate) fn play(parts: &[&Part]) -> ! {
    let name = env::args().nth(1).unwrap_or_default();
    let part =
        parts.iter().find(|part| part.name == name).unwrap_or_else(|| panic!("no such part: {name:?}"));
    let no_primary = async |_: Primary| Err("this process was started as a worker".into());
    match ganger::main(no_primary, part.rust) {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("{name}: {error}");
            process::exit(1)
        }
    }
}
