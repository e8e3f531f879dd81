//! A worker in which something failed that nobody caught: it says so, leaves, and finishes what it has.

use std::{backtrace::Backtrace, future::Future, panic::PanicHookInfo, sync::Weak, thread, time::Duration};

use ganger_proto::node::Panic;

use super::{Member, Worker};

/// What a panic has to say is waited for so long: the backtrace of a program with much debug information takes its time, and
/// somebody else serves already.
const TELLING: Duration = Duration::from_secs(5);

/// A worker, as long as anybody else has it.
#[derive(Debug)]
pub(crate) struct WeakWorker(Weak<Member>);

impl WeakWorker {
    pub(crate) fn upgrade(&self) -> Option<Worker> {
        Some(Worker { member: self.0.upgrade()? })
    }
}

impl Worker {
    pub(crate) fn downgrade(&self) -> WeakWorker {
        WeakWorker(std::sync::Arc::downgrade(&self.member))
    }

    /// Whether failures are heeded from now on, and were not before. Who is alone has nobody to tell.
    pub(crate) fn heed_failures(&self) -> bool {
        !self.is_alone() && self.member.life.heed_failures()
    }

    /// Resolves when something has failed.
    pub(crate) fn failed(&self) -> impl Future<Output = ()> + Send + 'static {
        let failed = self.member.life.failed().clone();
        async move { failed.cancelled().await }
    }

    /// Something failed: the primary is told, and the worker leaves. Only the first failure counts.
    pub(crate) fn fail(&self, panic: &Panic) {
        if let Some(shared) = &self.member.primary
            && self.member.life.fail(&panic.message)
        {
            shared.fail(panic);
            self.member.life.told().cancel();
        }
    }

    /// The same from a panic's hook, which may run anywhere and must not wait: how it came to it is told by a thread, since
    /// that may take a while to find out.
    pub(crate) fn panicked(&self, info: &PanicHookInfo<'_>) {
        let Some(shared) = self.member.primary.clone() else { return };
        let text = info.payload().downcast_ref::<&str>().copied();
        let text = text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("(it said nothing)");
        let place = info.location().map(ToString::to_string);
        if !self.member.life.fail(message) {
            return;
        }
        let panic = Panic::new(message, place.as_deref(), None);
        shared.try_fail(&panic);
        let (backtrace, told) = (Backtrace::force_capture(), self.member.life.told().clone());
        let tell = move || {
            let backtrace = from_the_panic(&backtrace.to_string());
            shared.fail(&Panic::new(&panic.message, panic.place.as_deref(), Some(&backtrace)));
            told.cancel();
        };
        if thread::Builder::new().name("panic".into()).spawn(tell).is_err() {
            // The channel stays open until the process ends, then.
            self.member.life.told().cancel();
        }
    }

    /// Once something has failed: waits until it is told and all connections are closed. Whoever heeds failures ends the
    /// process when that takes too long.
    pub(crate) async fn finish(&self) -> Option<String> {
        let life = &self.member.life;
        let failure = life.failure()?;
        let _ = tokio::time::timeout(TELLING, life.told().cancelled()).await;
        life.open().none().await;
        Some(failure)
    }
}

/// The frames between the panic's machinery and where it is caught: by the runtime, as a rule, for its task.
fn from_the_panic(backtrace: &str) -> String {
    let lines: Vec<&str> = backtrace.lines().collect();
    let has = |line: &str, words: &[&str]| words.iter().any(|word| line.contains(word));
    let machinery = ["core::panicking::", "std::panicking::begin_panic"];
    let begin = lines.iter().rposition(|line| has(line, &machinery)).map_or(0, |at| {
        // Below a frame stands where it is.
        at + 1 + lines[at + 1..].iter().take_while(|line| line.trim_start().starts_with("at ")).count()
    });
    let caught = ["__rust_begin_short_backtrace", "__rust_try", "std::panicking::catch_unwind"];
    let frames = lines[begin..].iter().take_while(|line| !has(line, &caught));
    frames.copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_begins_where_the_panic_was() {
        let backtrace = "   0: std::backtrace::Backtrace::force_capture\n   1: ganger::hook\n             at ./a.rs:1\n   \
                         2: core::panicking::panic_fmt\n             at /rustc/x.rs:2\n   3: hello::serve\n             \
                         at ./b.rs:3\n   4: __rust_try\n   5: core::ops::function::FnOnce::call_once\n   6: main";
        assert_eq!(from_the_panic(backtrace), "   3: hello::serve\n             at ./b.rs:3");
        assert_eq!(from_the_panic("   0: a\n   1: b"), "   0: a\n   1: b");
        assert_eq!(from_the_panic(""), "");
    }
}
