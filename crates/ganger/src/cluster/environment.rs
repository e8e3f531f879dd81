//! What a worker finds in its environment.

use std::{env::VarError, ffi::OsString};

use ganger_proto::{AgentId, Slot, WorkerId, cluster::Policy, node};

use super::{AgentSettings, Settings, group::Launch};
use crate::ipc::LANE_FD;

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
/// What it says of a worker.
pub(super) const WORKER: &str = "worker";
/// What it says of an agent.
pub(super) const AGENT: &str = "agent";

/// The policy that the environment sets, in Node's way (`lib/internal/cluster/primary.js`): `rr`, which is the
/// default, or `none`.
///
/// # Errors
/// The name of the variable, if it says something else; Node takes its default then.
pub fn inherited_policy() -> Result<Policy, &'static str> {
    let name = node::CLUSTER_SCHED_POLICY;
    match std::env::var(name).as_deref() {
        Ok("none") => Ok(Policy::Shared),
        Ok("rr" | "") | Err(VarError::NotPresent) => Ok(Policy::RoundRobin),
        Ok(_) | Err(VarError::NotUnicode(_)) => Err(name),
    }
}

/// What belongs to one worker and not to what it starts: the channel's variables, the slot, and the rest.
pub(crate) const OWN: [&str; 10] = [
    node::CHANNEL_FD,
    node::CHANNEL_SERIALIZATION_MODE,
    node::UNIQUE_ID,
    SLOT,
    LANE_FD,
    NAME,
    WORKERS,
    ID,
    ROLE,
    node::APP_INSTANCE,
];

/// The variables of an agent. It is no cluster worker: it has neither a slot nor a worker's number.
pub(super) fn of_agent(settings: &Settings, agent: &AgentSettings, id: AgentId) -> Vec<(OsString, OsString)> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = &settings.name;
    let env = [
        (NAME, name.clone()),
        (WORKERS, settings.slots().to_string()),
        (ID, format!("{host}/{name}/{AGENT}/{id}")),
        (ROLE, AGENT.into()),
    ];
    let env = env.into_iter().map(|(name, value)| (name.into(), value.into()));
    env.chain(settings.env.iter().chain(&agent.env).cloned()).collect()
}

/// The variables of one worker, of which it may have some of its `own`.
pub(super) fn of_worker(
    settings: &Settings,
    launch: &Launch<'_>,
    worker: WorkerId,
    slot: Slot,
    own: &[(OsString, OsString)],
) -> Vec<(OsString, OsString)> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = &settings.name;
    let set = [
        (NAME, name.clone()),
        (SLOT, slot.to_string()),
        (WORKERS, settings.slots().to_string()),
        (ID, format!("{host}/{name}/{slot}/{worker}")),
        (ROLE, WORKER.into()),
        (node::APP_INSTANCE, slot.to_string()),
    ];
    let set = set.into_iter().map(|(name, value)| (name.into(), value.into()));
    // What the user sets stands above what we set, except for the number by which the worker is known, as in Node.
    let said = settings.env.iter().chain(launch.env).chain(own).cloned();
    let number = launch.channel.then(|| (node::UNIQUE_ID.into(), worker.to_string().into()));
    set.chain(said).chain(number).collect()
}

/// What a process finds in a variable that is started with these, of which the last one counts, above our own.
pub(super) fn value(variables: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    let set = variables.iter().rev().find(|(variable, _)| variable == name);
    set.map(|(_, value)| value.clone()).or_else(|| std::env::var_os(name))
}
