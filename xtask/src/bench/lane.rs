//! The measure of the native lane: listeners, many in a packet.

use std::process::Command;

use anyhow::Result;

use super::child_process::measured;
use super::machine::Cpus;
use super::{Measure, Sample, Target, one_by_one};
use crate::workspace;

/// How long each contender is measured in a round, after it has got warm.
const SECONDS: &str = "0.6";

/// Listeners, 64 in a packet.
pub(super) struct Lane;

impl Measure for Lane {
    fn name(&self) -> &'static str {
        "lane"
    }

    fn about(&self) -> String {
        "listeners sent and restored, 64 in a packet; bare is sendmsg and recvmsg".into()
    }

    fn unit(&self) -> &'static str {
        "listeners/s"
    }

    fn contenders(&self) -> Vec<&'static str> {
        vec!["bare", "ganger"]
    }

    fn baseline(&self) -> &'static str {
        "bare"
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::at_least("ganger", 0.7, "bare")]
    }

    fn pinning(&self, cpus: &Cpus) -> String {
        cpus.server_alone()
    }

    fn prepare(&self, _: &[&'static str]) -> Result<()> {
        let build = ["build", "--quiet", "--release", "-p", "ganger", "--example", "contender_lane"];
        workspace::run(&mut workspace::cargo(build))
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        one_by_one(contenders, |contender| self.sample(contender, cpus))
    }
}

impl Lane {
    fn sample(&self, contender: &str, cpus: &Cpus) -> Result<Sample> {
        let mut command = Command::new(workspace::target().join("release/examples/contender_lane"));
        cpus.enter_server()?;
        measured(command.args([contender, SECONDS]), cpus)
    }
}
