//! What a query brings in `data`, a TLS server's ticket keys, comes back in its reply.

use ganger_proto::node::Sockname;

use super::*;

/// A primary, and what becomes of the next socket that it binds.
struct Port {
    primary: Primary<u32>,
    outcome: Result<Option<Sockname>, i32>,
    replies: Vec<(Option<i32>, Option<Box<str>>)>,
}

impl Port {
    fn new(policy: &Policy, outcome: Result<Option<Sockname>, i32>) -> Self {
        Self { primary: Primary::new(policy.clone()), outcome, replies: Vec::new() }
    }

    /// Says a query with this `data`, and does nothing of what follows.
    fn say(&mut self, worker: WorkerId, address: &str, data: Option<&str>) {
        let mut query = query(80);
        query.address = Some(address.into());
        query.data = data.map(Into::into);
        let message = ClusterMessage { seq: Some(Seq(1)), act: Act::QueryServer(query) };
        self.primary.handle(Time::default(), Input::Message { worker, message });
    }

    fn fork(&mut self, slot: u32) -> WorkerId {
        self.primary.fork(Slot(slot), Generation(0), true)
    }

    /// The errno and the `data` of each reply, in the order of the queries.
    fn replies(&mut self) -> Vec<(Option<i32>, Option<Box<str>>)> {
        while let Some(effect) = self.primary.poll_effect() {
            match effect {
                Effect::Bind { socket, .. } => {
                    let bound = Input::Bound { socket, outcome: self.outcome.clone() };
                    self.primary.handle(Time::default(), bound);
                }
                Effect::Send { message, .. } | Effect::SendSocket { message, .. } => {
                    if let Act::QueryReply { errno, data, .. } = message.act {
                        self.replies.push((errno.filter(|errno| *errno != 0), data));
                    }
                }
                _ => {}
            }
        }
        std::mem::take(&mut self.replies)
    }

    /// The reply to the query of a new worker.
    fn ask(&mut self, slot: u32, data: Option<&str>) -> (Option<i32>, Option<Box<str>>) {
        let worker = self.fork(slot);
        self.say(worker, "::1", data);
        let [reply] = <[_; 1]>::try_from(self.replies()).unwrap();
        reply
    }
}

fn policies() -> [Policy; 3] {
    [Policy::RoundRobin, Policy::Shared, Policy::ReusePort]
}

#[test]
fn pitfall_27_the_first_keys_are_everybodys() {
    for policy in policies() {
        let mut port = Port::new(&policy, Ok(None));
        assert_eq!(port.ask(0, None), (None, None), "{policy:?}");
        assert_eq!(port.ask(1, Some("first")), (None, Some("first".into())), "{policy:?}");
        assert_eq!(port.ask(2, Some("second")), (None, Some("first".into())), "{policy:?}");
        assert_eq!(port.ask(3, None), (None, Some("first".into())), "{policy:?}");
    }
}

#[test]
fn keys_count_that_come_while_the_socket_is_bound() {
    for outcome in [Ok(None), Err(98)] {
        for policy in policies() {
            let mut port = Port::new(&policy, outcome.clone());
            for data in [None, Some("first"), Some("second")] {
                let worker = port.fork(0);
                port.say(worker, "::1", data);
            }
            let reply = (outcome.clone().err().map(|errno| -errno), Some("first".into()));
            assert_eq!(port.replies(), vec![reply; 3], "{policy:?}");
        }
    }
}

#[test]
fn an_error_brings_the_keys_back() {
    for policy in policies() {
        let mut port = Port::new(&policy, Err(98));
        assert_eq!(port.ask(0, Some("keys")), (Some(-98), Some("keys".into())), "{policy:?}");
        // It is nobody's, so nothing of it is left for the next.
        assert_eq!(port.ask(1, None), (Some(-98), None), "{policy:?}");
    }
}

#[test]
fn what_the_primary_refuses_by_itself_brings_the_keys_back() {
    let mut port = Port::new(&Policy::RoundRobin, Ok(None));
    let worker = port.fork(0);
    port.say(worker, &"x".repeat(513), Some("keys"));
    assert_eq!(port.replies(), [(Some(-22), Some("keys".into()))]);
    // Nobody's keys are that long.
    port.say(worker, "::1", Some(&"x".repeat((64 << 10) + 1)));
    assert_eq!(port.replies(), [(Some(-22), None)]);
    // A second time for what it has.
    port.say(worker, "::1", Some("first"));
    assert_eq!(port.replies(), [(None, Some("first".into()))]);
    port.say(worker, "::1", Some("second"));
    assert_eq!(port.replies(), [(Some(-98), Some("first".into()))]);
    let more = (2..=257).map(|number| format!("::{number:x}")).collect::<Vec<_>>();
    more.iter().for_each(|address| port.say(worker, address, Some("more")));
    // Refused at once, before the others are bound.
    assert_eq!(port.replies()[0], (Some(-24), Some("more".into())));
}
