//! What a worker finds in its environment.

use std::ffi::OsString;

use ganger_proto::{Slot, WorkerId, cluster::Policy, node};

use super::Settings;

/// The gang's name.
const NAME: &str = "GANGER_NAME";
/// The worker's slot.
const SLOT: &str = "GANGER_SLOT";
/// How many slots there are.
const WORKERS: &str = "GANGER_WORKERS";
/// host/name/slot/id.
const ID: &str = "GANGER_ID";
/// `worker` or `agent`.
const ROLE: &str = "GANGER_ROLE";

/// Node's default policy, as its environment sets it (`lib/internal/cluster/primary.js`).
pub(super) fn policy() -> Policy {
    match std::env::var(node::CLUSTER_SCHED_POLICY).as_deref() {
        Ok("none") => Policy::Shared,
        _ => Policy::RoundRobin,
    }
}

/// The variables of one worker.
pub(super) fn of_worker(settings: &Settings, worker: WorkerId, slot: Slot) -> Vec<(OsString, OsString)> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = &settings.name;
    let mut env: Vec<(&str, String)> = vec![
        (NAME, name.clone()),
        (SLOT, slot.to_string()),
        (WORKERS, settings.workers.to_string()),
        (ID, format!("{host}/{name}/{slot}/{worker}")),
        (ROLE, "worker".into()),
        (node::APP_INSTANCE, slot.to_string()),
    ];
    if settings.channel {
        env.push((node::UNIQUE_ID, worker.to_string()));
    }
    let env = env.into_iter().map(|(name, value)| (name.into(), value.into()));
    // What the user sets stands above what we set.
    env.chain(settings.env.iter().cloned()).collect()
}
