//! Rust workers under the guard.

use std::{env, net::SocketAddr, time::Duration};

use ganger::{
    Guard, WorkerId,
    cluster::{Policy, Primary, Settings},
    guard::{Cause, Config, Notice, Report, Then, Verdict},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::mpsc};

use crate::{boss::Under, support::exchange, trial};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    for under in Under::ganger() {
        trial(trials, "replaced while it finishes", under, it_is_replaced_while_it_finishes);
        trial(trials, "blocked", under, one_whose_runtime_is_blocked_is_replaced);
        trial(trials, "a socket of its own", under, one_that_has_only_its_own_socket_is_ready);
    }
    let by_hand = Under::Ganger(&Policy::RoundRobin);
    trial(trials, "silent", by_hand, one_that_does_not_answer_for_a_connection_is_replaced);
}

/// A guard at work, whose worker says where it listens.
struct Guarded {
    orders: mpsc::UnboundedSender<(WorkerId, Value)>,
    stop: mpsc::UnboundedSender<()>,
    reports: mpsc::UnboundedReceiver<Report>,
}

impl Guarded {
    fn new(policy: Policy, part: &[&str], config: Config) -> Self {
        let mut settings = Settings::new(env::current_exe().unwrap());
        settings.args = part.iter().map(Into::into).collect();
        settings.policy = policy;
        let mut guard = Guard::new(Primary::new(settings).unwrap(), config, None);
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let (stop, mut stopped) = mpsc::unbounded_channel();
        let (sender, reports) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    report = guard.next() => match report {
                        Some(report) => drop(sender.send(report)),
                        None => return,
                    },
                    Some((worker, order)) = ordered.recv() => drop(guard.primary().send(worker, &order).unwrap()),
                    Some(()) = stopped.recv() => guard.stop(),
                }
            }
        });
        Self { orders, stop, reports }
    }

    async fn find<T>(&mut self, mut wanted: impl FnMut(Report) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.reports.recv().await.expect("the gang has ended")) {
                return found;
            }
        }
    }

    /// What the worker says to an order.
    async fn ask(&mut self, worker: u32, order: Value) -> Value {
        self.orders.send((WorkerId(worker), order)).unwrap();
        self.find(|report| match report {
            Report::Message { worker: info, message } if info.id.0 == worker => {
                Some(message.parse().unwrap())
            }
            _ => None,
        })
        .await
    }

    /// Who is started next, without a death that it belongs to.
    async fn started(&mut self) -> WorkerId {
        self.find(|report| match report {
            Report::Notice { notice: Notice::Started { worker, .. }, .. } => Some(worker),
            _ => None,
        })
        .await
    }

    /// The next death: whose, of what, and what then.
    async fn death(&mut self) -> (WorkerId, Cause, Then) {
        self.find(|report| match report {
            Report::Notice { notice: Notice::Died { worker, cause, then, .. }, .. } => {
                Some((worker, cause, then))
            }
            _ => None,
        })
        .await
    }

    /// The worker listens and serves; at the real address.
    async fn serve(&mut self, worker: u32) -> SocketAddr {
        let listening = self.ask(worker, json!(["listen", "127.0.0.1:0"])).await;
        assert_eq!(self.ask(worker, json!(["serve", 0])).await, json!(["serving"]));
        listening[1].as_str().unwrap().parse().unwrap()
    }
}

async fn it_is_replaced_while_it_finishes(under: Under) {
    let mut guarded = Guarded::new(under.policy().clone(), &["remote"], Config::default());
    guarded.started().await;
    let address = guarded.serve(1).await;
    let mut connection = TcpStream::connect(address).await.unwrap();
    assert_eq!(exchange(&mut connection, "before").await, "1 before");

    guarded.orders.send((WorkerId(1), json!(["disconnect"]))).unwrap();
    assert_eq!(guarded.started().await, WorkerId(2));
    assert_eq!(guarded.serve(2).await, address);
    assert_eq!(exchange(&mut TcpStream::connect(address).await.unwrap(), "new").await, "2 new");
    assert_eq!(exchange(&mut connection, "after").await, "1 after");

    drop(connection);
    assert_eq!(guarded.death().await, (WorkerId(1), Cause::Left, Then::ReplacedBy(WorkerId(2))));
    guarded.stop.send(()).unwrap();
    let end = |report| match report {
        Report::End(verdict) => Some(verdict),
        _ => None,
    };
    assert_eq!(guarded.find(end).await, Verdict::Stopped);
}

/// Its channel says nothing of it.
async fn one_that_has_only_its_own_socket_is_ready(under: Under) {
    let mut config = Config::default();
    config.start_timeout = Duration::from_secs(3600);
    let mut guarded = Guarded::new(under.policy().clone(), &["remote"], config);
    guarded.started().await;
    let listen = json!(["listen", "127.0.0.1:0", { "exclusive": true }]);
    guarded.orders.send((WorkerId(1), listen)).unwrap();
    let ready = |report| match report {
        Report::Notice { notice: Notice::GangReady { .. }, .. } => Some(()),
        _ => None,
    };
    guarded.find(ready).await;
}

fn watched() -> Config {
    let mut config = Config::default();
    config.watchdog = Some(Duration::from_millis(500));
    config
}

/// It need not serve anybody: that its runtime answers is what counts.
async fn one_whose_runtime_is_blocked_is_replaced(under: Under) {
    let mut guarded = Guarded::new(under.policy().clone(), &["remote"], watched());
    guarded.started().await;
    guarded.serve(1).await;
    guarded.orders.send((WorkerId(1), json!(["block"]))).unwrap();
    let (worker, cause, then) = guarded.death().await;
    assert_eq!(worker, WorkerId(1));
    assert!(matches!(cause, Cause::Unresponsive { .. }), "{cause:?}");
    // It may have died young.
    if then != Then::ReplacedBy(WorkerId(2)) {
        guarded.started().await;
    }
    guarded.serve(2).await;
}

/// It is neither a Node nor one of this library's: nobody knows what it would answer to another question.
async fn one_that_does_not_answer_for_a_connection_is_replaced(under: Under) {
    let mut guarded = Guarded::new(under.policy().clone(), &["by-hand", "untouched"], watched());
    let address = |report| match report {
        Report::Listening { address } => Some(address),
        _ => None,
    };
    let _client = TcpStream::connect(guarded.find(address).await).await.unwrap();
    let (worker, cause, _) = guarded.death().await;
    assert_eq!(worker, WorkerId(1));
    assert!(matches!(cause, Cause::Unresponsive { .. }), "{cause:?}");
}
