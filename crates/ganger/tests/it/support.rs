//! What the tests share: the real Nodes, a primary in a task of its own, clients, and a net around it all.

use std::{
    borrow::Borrow,
    env, fs,
    future::Future,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::Duration,
};

use ganger::{
    WorkerId,
    cluster::{Event, Policy, Primary, Settings, WorkerInfo},
    process::{Child, ChildOutput, Command, Exit, Stdio},
    sys::pidfd::PidFd,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    runtime::Builder,
    sync::{mpsc, oneshot},
};

/// A test that takes longer than this hangs.
const NET: Duration = Duration::from_secs(30);

/// The newest long-term release, for what is the same with every Node.
pub(crate) const NODE: &str = "24";

/// Both policies that Node has too.
pub(crate) static POLICIES: [Policy; 2] = [Policy::RoundRobin, Policy::Shared];

/// The real Node of a release line.
pub(crate) fn node(major: &str) -> PathBuf {
    let node = env::var_os("GANGER_TEST_NODES").map(|nodes| Path::new(&nodes).join(major).join("bin/node"));
    match node {
        Some(node) if node.exists() => node,
        _ => panic!("there is no Node {major} to test with: run `cargo xtask test`"),
    }
}

/// An example of this crate, as built by the test command.
pub(crate) fn example(name: &str) -> PathBuf {
    let this = env::current_exe().unwrap();
    let example = this.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(example.exists(), "{} is not built: run `cargo xtask test`", example.display());
    example
}

/// Notes for the closing matrix that a feature works with a Node.
pub(crate) fn passed(feature: &str, major: &str) {
    if let Some(matrix) = env::var_os("GANGER_TEST_MATRIX") {
        let mut matrix = fs::OpenOptions::new().create(true).append(true).open(matrix).unwrap();
        matrix.write_all(format!("{feature}\t{major}\tok\n").as_bytes()).unwrap();
    }
}

/// A process that is started has all descriptors of this one until it executes its program, those of other tests too. Where a socket
/// has to be closed at a certain moment, nobody else starts any.
pub(crate) static STARTING: RwLock<()> = RwLock::new(());

/// Runs a test to its end, which comes in time.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let _one_of_many = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    run_here(test)
}

/// The same, with [`STARTING`] held or not.
pub(crate) fn run_here<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match tokio::time::timeout(NET, test).await {
            Ok(result) => result,
            Err(_) => panic!("the test hangs: it is not done after {} s", NET.as_secs()),
        }
    })
}

/// Lets everything else run until something is so.
pub(crate) async fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        tokio::task::yield_now().await;
    }
}

/// Waits until a process that is not our child is gone.
pub(crate) async fn gone(pid: i32) {
    let wait = move || {
        // Without one it is gone already.
        let Ok(process) = PidFd::open(pid) else { return true };
        let limit = Timespec { tv_sec: NET.as_secs() as i64, tv_nsec: 0 };
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) == Ok(1)
    };
    assert!(tokio::task::spawn_blocking(wait).await.unwrap(), "process {pid} lives on");
}

/// A temporary directory with programs in it.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Workers that run a script of Node's.
    pub(crate) fn workers(&self, major: &str, policy: impl Borrow<Policy>, script: &str) -> Settings {
        let script = self.write("worker.js", script);
        let mut settings = Settings::new(node(major));
        settings.args = vec![script.into()];
        settings.policy = policy.borrow().clone();
        settings
    }
}

/// A primary at work in a task; at the end of the test its workers are killed with it.
pub(crate) struct Gang {
    calls: mpsc::UnboundedSender<Call>,
    events: mpsc::UnboundedReceiver<Event>,
    /// What happened so far, for whoever wonders why a test failed.
    log: Vec<String>,
}

impl Drop for Gang {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("so far:\n{}", self.log.join("\n"));
        }
    }
}

type Call = Box<dyn FnOnce(&mut Primary) + Send>;

impl Gang {
    pub(crate) fn new(settings: Settings) -> Self {
        let (calls, mut called) = mpsc::unbounded_channel::<Call>();
        let (sender, events) = mpsc::unbounded_channel();
        let mut primary = Primary::new(settings).unwrap();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = primary.event() => {
                        if sender.send(event).is_err() {
                            return;
                        }
                    }
                    call = called.recv() => match call {
                        Some(call) => call(&mut primary),
                        None => return,
                    }
                }
            }
        });
        Self { calls, events, log: Vec::new() }
    }

    /// Does something with the primary.
    pub(crate) async fn with<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Primary) -> R + Send + 'static,
    ) -> R {
        let (sender, result) = oneshot::channel();
        let call = Box::new(move |primary: &mut Primary| drop(sender.send(act(primary))));
        assert!(self.calls.send(call).is_ok(), "the primary has panicked");
        result.await.unwrap()
    }

    /// Lets the primary work until something is so of it.
    pub(crate) async fn until(&self, so: impl Fn(&Primary) -> bool + Send + Sync + Copy + 'static) {
        while !self.with(move |primary| so(primary)).await {}
    }

    pub(crate) async fn fork(&self) -> WorkerInfo {
        self.with(|primary| primary.fork().unwrap()).await
    }

    pub(crate) async fn disconnect(&self, worker: WorkerId) {
        self.with(move |primary| primary.disconnect(worker)).await;
    }

    pub(crate) async fn kill(&self, worker: WorkerId) {
        assert!(self.with(move |primary| primary.kill(worker, 9)).await);
    }

    pub(crate) async fn send(&self, worker: WorkerId, message: impl Into<Value>) {
        let message = message.into();
        self.with(move |primary| primary.send(worker, &message).map(drop).unwrap()).await;
    }

    /// The next event, but for the hints, which come when they come.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            let event = self.events.recv().await.expect("the primary has ended");
            self.log.push(format!("{:.300}", format!("{event:?}")));
            if !matches!(event, Event::TakesHints { .. }) {
                return event;
            }
        }
    }

    /// The first event that is wanted; those before it are not.
    pub(crate) async fn find<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.event().await) {
                return found;
            }
        }
    }

    /// The next worker that listens, and where.
    pub(crate) async fn listening(&mut self) -> (WorkerId, String) {
        self.find(|event| match event {
            Event::Listening { worker, address } => Some((worker.id, address.to_string())),
            _ => None,
        })
        .await
    }

    /// The next message of a worker.
    pub(crate) async fn message(&mut self) -> (WorkerId, Value) {
        self.find(|event| match event {
            Event::Message { worker, message } => Some((worker.id, message.parse().unwrap())),
            _ => None,
        })
        .await
    }

    /// The next worker that has ended, how, and whether it was meant to.
    pub(crate) async fn exit(&mut self) -> (WorkerId, Exit, bool) {
        self.find(|event| match event {
            Event::Exit { worker, exit, exited_after_disconnect, .. } => {
                Some((worker.id, exit, exited_after_disconnect))
            }
            _ => None,
        })
        .await
    }

    /// Forks one worker and waits until it listens.
    pub(crate) async fn fork_listening(&mut self) -> (WorkerInfo, SocketAddr) {
        let worker = self.fork().await;
        let (listening, address) = self.listening().await;
        assert_eq!(listening, worker.id);
        (worker, address.parse().unwrap())
    }
}

/// Connects, and returns all that the server has to say.
pub(crate) async fn ask(server: SocketAddr) -> String {
    read(TcpStream::connect(server).await.unwrap()).await
}

/// All that comes before the end.
pub(crate) async fn read(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Writes, and returns what comes back at once.
pub(crate) async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).await.unwrap();
    String::from_utf8(answer[..count].to_vec()).unwrap()
}

/// A test again, in a process of its own, where it finds that it [`is_fixture`].
pub(crate) struct Fixture {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildOutput>>,
}

const FIXTURE: &str = "GANGER_TEST_FIXTURE";

/// Whether this process was started for one test's sake.
pub(crate) fn is_fixture() -> bool {
    env::var_os(FIXTURE).is_some()
}

impl Fixture {
    /// `test` is the test's path in this binary.
    pub(crate) fn start(test: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(FIXTURE, "1").guarded(true).stderr(Stdio::Inherit);
        for (name, value) in env {
            command.env(*name, *value);
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What comes behind `mark` in the next line that has it.
    pub(crate) async fn said(&mut self, mark: &str) -> String {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.to_owned();
            }
        }
        panic!("the fixture ended without saying {mark:?}");
    }

    /// All that is still to be said, by the fixture and by those who have its stdout.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            rest.push(line);
        }
        rest
    }
}
