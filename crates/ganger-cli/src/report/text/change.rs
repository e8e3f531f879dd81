//! Why workers change, and why they do not.

use super::{gist, plain, the_agent, time, who};
use ganger::guard::{Illness, Newcomer, NoRestart, Restart, Unfit, Why, describe, unproven_in_words};

/// What is wrong with a worker that was good.
pub(in crate::report) fn why(why: &Why) -> String {
    match why {
        Why::Memory { used, limit } => {
            format!("uses {} MB of memory, more than {} MB (--max-memory)", used >> 20, limit >> 20)
        }
        Why::Lifetime => "has served for its time (--max-lifetime)".into(),
        _ => "is reloaded".into(),
    }
}

/// Why nobody takes a worker's place: by which option.
pub(in crate::report) fn no_restart(why: NoRestart) -> &'static str {
    match why {
        NoRestart::Code => "--no-restart-codes",
        NoRestart::Policy(Restart::OnFailure) => "--restart on-failure",
        NoRestart::Policy(_) => "--restart no",
    }
}

/// Why a new worker, or agent, cannot take over.
pub(in crate::report) fn unfit(
    newcomer: Newcomer,
    unfit: &Unfit,
    pid: Option<i32>,
    group: Option<&str>,
    last_words: &[String],
) -> String {
    let who = match newcomer {
        Newcomer::Worker { worker: Some(worker), .. } => who(worker, pid, group),
        Newcomer::Worker { slot, worker: None } => format!("slot {slot}"),
        Newcomer::Agent(_) => the_agent(pid),
    };
    match unfit {
        Unfit::Died { cause, .. } => {
            let gist = gist(last_words).map(|gist| format!(" ({})", plain(&gist))).unwrap_or_default();
            format!("{who} died before it was ready: {}{gist}", describe(cause))
        }
        Unfit::Ill(Illness::ChannelClosed) => format!("{who} closed its channel before it was ready"),
        Unfit::Ill(_) => format!("{who} left before it was ready"),
        Unfit::NoSign { sign, after } => {
            format!(
                "{who} did not show within {} that it is ready, as its predecessor did: {sign}",
                time(*after)
            )
        }
        Unfit::NotOpened { address, had_by, after } => {
            let had_by = had_by.map(|worker| format!(", which worker {worker} had")).unwrap_or_default();
            format!("{who} did not open {} within {}{had_by}", plain(address), time(*after))
        }
        Unfit::Unproven(unproven) => format!("{who} is not ready: {}", unproven_in_words(unproven)),
        Unfit::NotStarted(error) => error.clone(),
        _ => format!("{who} is not fit"),
    }
}
