//! The agent's process and channel, in the same loop as the workers'.

use std::{os::fd::OwnedFd, sync::Arc};

use ganger_proto::{
    AgentId, Payload, Seq,
    messenger::Party,
    node::{Act, ClusterMessage},
    session::{self, Limits},
};

use super::{
    Primary, QUEUE, Token,
    notify::{self, NotifySocket},
    start::CHANNEL,
    worker::{Cargo, KILL},
};
use crate::{
    channel::{Flushed, Link, Message, SendError},
    cluster::{AgentError, AgentEvent, AgentInfo, Event, WorkerFault, environment},
    process::{Command, Process, Started, Stdio},
    sys::poll::Interest,
};

/// The agent's process and our end of its channel.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) info: AgentInfo,
    pub(super) process: Arc<Process>,
    /// The reading ends of its stdout and stderr, until somebody takes them.
    output: [Option<OwnedFd>; 2],
    pub(super) link: Option<Link<Cargo>>,
    pub(super) notify: Option<NotifySocket>,
    /// Whether it has said something.
    online: bool,
    /// Whether something is to be written.
    pub(super) dirty: bool,
    /// Whether the poller reports when its channel can be written.
    blocked: bool,
    next_seq: u64,
}

impl Primary {
    /// Starts the agent of [`Settings::agent`](crate::cluster::Settings::agent). It is told of as [`Event::Agent`].
    ///
    /// # Errors
    /// [`AgentError`]; then there is no new one.
    pub fn start_agent(&mut self) -> Result<AgentInfo, AgentError> {
        if let Some(agent) = &self.agent {
            return Err(AgentError::Running(agent.info));
        }
        let settings = self.settings.clone();
        let wanted = settings.agent.as_ref().ok_or(AgentError::NotSet)?;
        let id = AgentId(self.agents + 1);
        let mut command = Command::new(wanted.program.clone());
        command.args(wanted.args.iter().cloned());
        command.guarded(true).stdin(Stdio::Inherit);
        command.stdout(settings.output.clone()).stderr(settings.output.clone());
        if wanted.channel {
            command.descriptor(CHANNEL, Stdio::Ipc).serialization(settings.serialization);
        }
        // Nobody asks whether it is there.
        let uid = wanted.uid.or(settings.uid);
        let notify = self.notify_socket(format_args!("agent-{id}"), uid);
        notify::tell(&mut command, notify.as_ref(), None);
        command.envs(environment::of_agent(&settings, wanted, id));
        if let Some(cwd) = wanted.cwd.as_ref().or(settings.cwd.as_ref()) {
            command.cwd(cwd);
        }
        if let Some(uid) = uid {
            command.uid(uid);
        }
        if let Some(gid) = wanted.gid.or(settings.gid) {
            command.gid(gid);
        }
        let Started { process, mut ends, channel, .. } = command.start()?;
        let info = AgentInfo { id, pid: process.pid(), channel: wanted.channel };
        let limits = Limits { validate: true, queue: QUEUE, ..Limits::default() };
        let link = channel.map(|socket| Link::new(socket, settings.serialization, limits)).transpose();
        let watched = link.and_then(|link| {
            let poller = self.poller.get_ref();
            poller.add(&**process.pidfd(), Token::AgentProcess(id).into(), Interest::Read)?;
            if let Some(link) = &link {
                poller.add(link, Token::AgentChannel(id).into(), Interest::Read)?;
            }
            self.watch_notify(notify.as_ref(), Token::AgentNotify(id))?;
            Ok(link)
        });
        // Nobody would see what it says or that it ends.
        let link = match watched {
            Ok(link) => link,
            Err(error) => {
                process.end();
                return Err(command.failed(error).into());
            }
        };
        self.agents = id.0;
        if link.is_some() {
            self.messenger.agent_joined(info.pid);
        }
        let output = [1, 2].map(|number| ends.get_mut(number).and_then(Option::take));
        let (online, dirty, blocked) = (false, false, false);
        self.agent = Some(Agent { info, process, output, link, notify, online, dirty, blocked, next_seq: 0 });
        self.tell_of_agent(info, AgentEvent::Started);
        Ok(info)
    }

    /// Whether the settings name one.
    pub(crate) fn has_agent(&self) -> bool {
        self.settings.agent.is_some()
    }

    /// The agent, until it is reaped.
    pub fn agent(&self) -> Option<AgentInfo> {
        self.agent.as_ref().map(|agent| agent.info)
    }

    /// The reading ends of the agent's stdout and stderr, once.
    pub(crate) fn take_agent_output(&mut self) -> [Option<OwnedFd>; 2] {
        self.agent.as_mut().map(|agent| std::mem::take(&mut agent.output)).unwrap_or_default()
    }

    /// Sends the agent a message that is no letter. `Ok(false)` means that it is slow to read: 128 KiB or more wait for it.
    ///
    /// # Errors
    /// [`SendError`], with the reason; of what it does not read at most 8 MiB are kept.
    pub fn send_to_agent<T: serde::Serialize + ?Sized>(&mut self, message: &T) -> Result<bool, SendError> {
        let agent = self.agent.as_mut().ok_or(SendError::closed(None))?;
        let link = agent.link.as_mut().ok_or(SendError::closed(None))?;
        let (payload, _) = SendError::check(Payload::of(link.session.serialization(), message), None)?;
        let flow = link.session.send(&payload, None);
        let flow = flow.map_err(|error| SendError::Refused { reason: error.reason, handle: None })?;
        agent.dirty = true;
        Ok(flow == session::Flow::Ready)
    }

    /// Asks the agent to finish and leave, if it is one of this library's. Others know no such request: they are
    /// [signalled](Primary::kill_agent).
    pub fn disconnect_agent(&mut self) {
        self.tell_agent(Act::Disconnect);
    }

    /// Sends the agent's process a signal. `false` if there is no such process.
    pub fn kill_agent(&self, signal: i32) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.process.kill(signal).is_ok())
    }

    /// Kills the agent with its process group, at once.
    pub fn kill_agent_group(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.process.kill_all(KILL).is_ok())
    }

    /// Reads the agent's channel.
    pub(super) fn receive_agent(&mut self) {
        let Some(link) = self.agent.as_mut().and_then(|agent| agent.link.as_mut()) else { return };
        link.receive(&mut self.buffer);
        self.hear_agent();
    }

    fn hear_agent(&mut self) {
        while let Some(agent) = &mut self.agent {
            let info = agent.info;
            let Some(event) = agent.link.as_mut().and_then(|link| link.session.poll_event()) else { break };
            match event {
                session::Event::Cluster { message, .. } => match message.act {
                    Act::Online { ganger } => self.agent_is_online(info, ganger.is_some()),
                    Act::ExitedAfterDisconnect => {
                        if let Some(ack) = message.seq {
                            self.tell_agent(Act::Ack { ack });
                        }
                    }
                    // It is no worker: it has no sockets here, and nobody answers for any.
                    _ => {}
                },
                session::Event::Message { payload, handle } => {
                    self.agent_is_online(info, false);
                    if !self.take_letter(Party::Agent, &payload, handle.is_some()) {
                        let handle = handle.and_then(|(_, cargo)| cargo.into_users());
                        self.tell_of_agent(info, AgentEvent::Message(Message::new(payload, handle)));
                    }
                }
                session::Event::Panic(panic) => self.tell_of_agent(info, AgentEvent::Panicked(panic)),
                session::Event::Fault(fault) => {
                    self.tell_of_agent(info, AgentEvent::Fault(WorkerFault::Wire(fault)));
                }
                session::Event::Disconnected => {
                    if let Some(link) = agent.link.take() {
                        let _ = self.poller.get_ref().remove(&link);
                    }
                    self.messenger.gone(Party::Agent);
                    self.tell_of_agent(info, AgentEvent::Disconnect);
                }
                // What is lent is the workers' business, and no socket is sent to it.
                _ => {}
            }
        }
        // ACKs wait to be written.
        if let Some(agent) = &mut self.agent {
            agent.dirty = true;
        }
    }

    fn agent_is_online(&mut self, info: AgentInfo, obeys: bool) {
        let Some(agent) = &mut self.agent else { return };
        if !std::mem::replace(&mut agent.online, true) || obeys {
            self.tell_of_agent(info, AgentEvent::Online { obeys });
        }
    }

    /// The agent's process has ended. What it wrote before is still in its channel: that comes first.
    pub(super) fn reap_agent(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let info = agent.info;
        let Ok(Some(exit)) = agent.process.bury() else { return };
        let _ = self.poller.get_ref().remove(&**agent.process.pidfd());
        let mut left = agent.link.as_ref().map_or(0, Link::unread);
        while let Some(link) = self.agent.as_mut().and_then(|agent| agent.link.as_mut()) {
            match link.receive(&mut self.buffer) {
                read if read > 0 && read < left => left -= read,
                _ => link.session.handle_eof(),
            }
            self.hear_agent();
        }
        self.end_agents_notify();
        self.agent = None;
        self.tell_of_agent(info, AgentEvent::Exit(exit));
    }

    /// Writes what waits for the agent.
    pub(super) fn flush_agent(&mut self) {
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.dirty) else { return };
        agent.dirty = false;
        let Some(link) = &mut agent.link else { return };
        let blocked = link.flush() == Flushed::Blocked;
        if std::mem::replace(&mut agent.blocked, blocked) != blocked {
            let interest = if blocked { Interest::ReadWrite } else { Interest::Read };
            let _ = self.poller.get_ref().modify(&*link, Token::AgentChannel(agent.info.id).into(), interest);
        }
    }

    /// Says something in the cluster's words, as far as there is somebody to hear it.
    fn tell_agent(&mut self, act: Act) {
        let Some(agent) = &mut self.agent else { return };
        let Some(link) = &mut agent.link else { return };
        let message = ClusterMessage { seq: Some(Seq(agent.next_seq)), act };
        agent.next_seq += 1;
        self.json.clear();
        message.write(&mut self.json);
        // Who does not read is signalled in the end.
        let _ = link.session.send_json(std::str::from_utf8(&self.json).unwrap_or_default(), None);
        agent.dirty = true;
    }

    pub(super) fn tell_of_agent(&mut self, agent: AgentInfo, event: AgentEvent) {
        // What workers said before comes before.
        self.perform_effects();
        self.events.push_back(Event::Agent { agent, event });
    }
}
