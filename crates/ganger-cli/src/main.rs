//! `ganger`: runs any program as a guarded gang of workers on shared ports.
//!
//! Parses what was typed, runs it, and turns the outcome into an exit status. Errors end here.
#![forbid(unsafe_code)]

mod args;
mod config;
mod plan;
mod program;
mod report;
mod run;
mod signals;
mod workers;

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::Command;

/// The gang failed.
const FAILED: u8 = 1;
/// What was typed makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let typed: Vec<_> = std::env::args_os().collect();
    match args::parse(&typed) {
        Ok(Command::Run(options)) => run::run(&options, &typed),
        Err(error) => refuse(&error),
    }
}

/// Help and version go to stdout; an error is one line.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that is gone wants no help.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(USAGE)
        }
        _ => {
            report::say(&format!("ganger: {}\n", args::brief(error)));
            ExitCode::from(USAGE)
        }
    }
}
