//! Everything together: a broker that lies, hosts, clients, and the time that passes for all.

mod stories;

use super::client::{Client, EPOCH, Start, envelope};
use super::dice::Dice;
use super::host::{Host, Memory};
use super::step::{self, Act, Answer, Lie, Step};
use super::trace::Trace;
use super::truth::{PARTITIONS, Truth};
use super::{ALL, NARROW, TOPICS};
use crate::log::memory::{Lies, MemoryLog, Options, Publishing};
use crate::log::{Log, MessageKey, NewRecord};
use crate::outside::own::Own;
use crate::shard::by_hand;
use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::cursor::{Offset, Position};
use anabranch_protocol::topic::Topic;
use anabranch_sdk_core::Wish;
use anabranch_sdk_core::outbox::Terms;
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long everything may take to come to its end in peace: rounds of the network.
const ROUNDS: usize = 20_000;
/// So much time passes between two rounds in which nothing happened, at most.
const ROUND_MS: u64 = 250;
/// So many of those in a row with everybody at the end: long enough for a tail to doubt what it was told.
const QUIET: usize = 12;

pub struct World<'r> {
    runtime: &'r Runtime,
    own: Own,
    dice: Dice,
    trace: Trace,
    /// Whether the broker lies, and tokens narrow.
    harm: bool,
    /// Nothing lies or fails any more.
    peace: bool,
    broker: Arc<MemoryLog>,
    lies: Lies,
    truth: Truth,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    /// Since the beginning, and by how much the gateways' wall clock is ahead of that.
    now: u64,
    ahead: i64,
    numbers: u64,
}

impl<'r> World<'r> {
    /// One or two hosts, and as many clients.
    pub fn new(runtime: &'r Runtime, seed: u64, trace: Trace) -> World<'r> {
        let mut dice = Dice::new(seed);
        let (hosts, clients) = (1 + dice.index(2), 1 + dice.index(2));
        World::of(runtime, dice, !seed.is_multiple_of(3), trace, hosts, clients)
    }

    fn of(
        runtime: &'r Runtime,
        mut dice: Dice,
        harm: bool,
        trace: Trace,
        hosts: usize,
        clients: usize,
    ) -> World<'r> {
        let own = Own::new(EPOCH, dice.seed());
        let broker = MemoryLog::new(Options { partitions: PARTITIONS, ..Options::default() });
        let lies = broker.lies();
        let memory = Memory { ring: dice.pick(&[300, 3_000, 1_000_000]), newest: 1_000_000 };
        trace.line(|| format!("harm: {harm}, {memory:?}"));
        let mut client = |number| Client::new(number, Dice::new(dice.seed()), trace.clone());
        World {
            runtime,
            own,
            harm,
            peace: false,
            truth: Truth::new(lies.clone()),
            lies,
            hosts: (0..hosts).map(|number| Host::new(number, broker.clone(), memory)).collect(),
            clients: (0..clients).map(&mut client).collect(),
            broker,
            now: 0,
            ahead: EPOCH as i64,
            numbers: 0,
            dice,
            trace,
        }
    }

    /// A life of so many steps, and the peace after it.
    pub fn run(mut self) {
        self.begin();
        let steps = 30 + self.dice.below(120);
        for _ in 0..steps {
            let step = step::next(&mut self.dice, self.harm);
            self.trace.line(|| format!("{} ms: {step:?}", self.now));
            self.take(step);
        }
        self.settle();
        self.judge();
    }

    fn begin(&mut self) {
        self.hosts.iter_mut().for_each(|host| _ = host.start());
        for client in &mut self.clients {
            let wish = Wish { snapshot: client.dice.pick(&SnapshotMode::ALL), conflate_ms: 0 };
            client.subscribe(Some("all"), "#", Start::Earliest, wish, &self.truth);
            client.connect(&self.truth);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Flow(rounds) => (0..rounds).for_each(|_| _ = self.flow()),
            Step::Live(ms) => self.live(ms),
            Step::Pass(ms) => self.pass(ms),
            Step::Freeze(ms) => self.advance(ms, None),
            Step::Sleep(ms) => {
                let sleeper = self.dice.index(self.clients.len());
                self.advance(ms, Some(sleeper));
            }
            Step::ClientClock(by) => {
                let which = self.dice.index(self.clients.len());
                self.clients[which].set_clock(by);
            }
            Step::GatewayClock(by) => {
                self.ahead += by;
                self.set_clock();
            }
            Step::Append(count) => (0..count).for_each(|_| _ = self.append()),
            Step::Turn(shard) => {
                self.any_host().turn(shard);
                self.truth.read();
            }
            Step::Kill => self.any_host().kill(),
            Step::Start => _ = self.any_host().start(),
            Step::Drain(spread) => self.any_host().drain(spread),
            Step::Lie(lie) => self.lie(lie),
            Step::Client(act) => {
                let which = self.dice.index(self.clients.len());
                self.act(which, act);
            }
        }
    }

    fn any_host(&mut self) -> &mut Host {
        let which = self.dice.index(self.hosts.len());
        &mut self.hosts[which]
    }

    /// A device publishes, past every gateway; where its message stands, if the log takes it.
    fn append(&mut self) -> Option<Position> {
        self.numbers += 1;
        let (topic, id) = (self.dice.pick(&TOPICS), format!("d-{}", self.numbers));
        let record = NewRecord {
            topic: Topic::new(topic).expect("a topic"),
            key: MessageKey::new(topic, &id),
            envelope: envelope(&id, topic, self.numbers).into(),
        };
        let appended = self.broker.append(record).now_or_never();
        self.truth.read();
        appended.and_then(Result::ok)
    }

    fn lie(&mut self, lie: Lie) {
        let lies = self.lies.clone();
        match lie {
            Lie::Forget(partition, count) => {
                let oldest = self.truth.there(partition).nth(count as usize);
                let end = oldest.map_or(Offset(self.truth.last(partition).0 + 1), |one| one.position.offset);
                lies.truncate(partition, end);
                self.truth.forget(partition, end);
            }
            Lie::FailOver(partition, lost) => {
                lies.fail_over(partition, lost);
                self.truth.lose(partition, lost);
            }
            // Who has seen nothing of a stream cannot know that it was another.
            Lie::Recreate
                if (0..PARTITIONS).any(|partition| self.truth.there(partition).next().is_none()) => {}
            Lie::Recreate => {
                lies.recreate_and_cancel(Vec::new());
                self.truth.lose_all();
            }
            Lie::Stall(stalled) => lies.stall(stalled),
            Lie::Disconnect => lies.disconnect(),
            Lie::Unreachable(unreachable) => lies.unreachable(unreachable),
            Lie::Poison => {
                if let Some(position) = self.append() {
                    lies.poison(position.partition, position.offset);
                    self.truth.poison(position);
                }
            }
            Lie::Refuse => lies.publishing(Publishing::Refuses("alarm".into())),
            Lie::Hang => lies.publishing(Publishing::Hangs),
            Lie::Take => {
                lies.publishing(Publishing::Works);
                self.truth.read();
            }
            Lie::LoseConfirms(count) => lies.lose_confirms(count),
            Lie::Redeliver(partition, back) => {
                if let Some(position) = self.back(partition, back) {
                    lies.redeliver(partition, position.offset);
                }
            }
            // A hole before all that is there looks like what was forgotten.
            Lie::Skip(partition, count) if self.truth.there(partition).next().is_some() => {
                lies.skip_offsets(partition, count);
            }
            Lie::Skip(..) => {}
            Lie::WithholdName(withheld) => lies.withhold_the_name(withheld),
        }
    }

    fn back(&self, partition: u16, count: usize) -> Option<Position> {
        let there: Vec<_> = self.truth.there(partition).map(|one| one.position).collect();
        there.iter().rev().nth(count).copied()
    }

    fn act(&mut self, which: usize, act: Act) {
        let (client, truth) = (&mut self.clients[which], &self.truth);
        match act {
            Act::Dial => self.dial(which),
            Act::DialFails => client.dialed(None, truth),
            Act::Token(answer) => self.answer(which, answer),
            Act::Push(max) => _ = client.link.as_mut().is_some_and(|link| link.push(max)),
            Act::Receive(max) => _ = client.receive(max, truth),
            Act::Cut => client.cut(truth),
            Act::Twice(way) => client.link.iter_mut().for_each(|link| link.twice[way] = true),
            Act::Commit(count) => _ = client.commit(count, truth),
            Act::Tell => _ = client.tell(),
            Act::Take(count) => _ = client.take(count, truth),
            Act::Crash(written) => client.crash(written, truth),
            Act::Subscribe { name, filter, start, snapshot, conflate_ms } => {
                client.subscribe(name, filter, start, Wish { snapshot, conflate_ms }, truth);
            }
            Act::Unsubscribe => client.unsubscribe(truth),
            Act::Park(parked) => client.park(parked, truth),
            Act::Conflate(ms) => client.conflate(ms, truth),
            Act::Publish { topic, kept, ttl_ms } => {
                self.numbers += 1;
                client.publish(topic, self.numbers, Terms { kept, ttl_ms }, truth);
            }
            Act::Reconsider { again } => client.reconsider(again, truth),
            Act::Connect => client.connect(truth),
            Act::Disconnect => client.disconnect(truth),
            Act::Pause(reason) => client.pause(reason, truth),
            Act::Resume(reason) => client.resume(reason, truth),
            Act::Wake => client.wake(truth),
            Act::Hide(hidden) => client.hide(hidden, truth),
        }
    }

    /// To any host; one that does not run refuses.
    fn dial(&mut self, which: usize) {
        if self.clients[which].dialing.is_some() {
            let room = self.dice.pick(&[300, 3_000, 100_000]);
            let pipe = self.any_host().dial(room);
            self.clients[which].dialed(pipe, &self.truth);
        }
    }

    fn answer(&mut self, which: usize, answer: Answer) {
        let client = &mut self.clients[which];
        if client.request.is_none() {
            return;
        }
        let now = (self.now as i64 + self.ahead) as u64 / 1_000;
        let ends = now + self.dice.pick(&[10, 40, 900]) + self.dice.below(60);
        let grants = if answer == Answer::Narrow { NARROW } else { ALL };
        let token = |ends| by_hand::token(&client.name, grants.0, grants.1, ends);
        let token = match answer {
            Answer::Good | Answer::Narrow => Some(token(ends)),
            Answer::Expired => Some(token(now - 3_600)),
            Answer::Nonsense => Some("nonsense".to_owned()),
            Answer::Failure => None,
        };
        client.answer(token.as_deref(), grants, &self.truth);
    }

    /// Everything goes its way once. Says whether anything did.
    fn flow(&mut self) -> bool {
        let mut busy = false;
        for (number, host) in self.hosts.iter_mut().enumerate() {
            let turned = [1, 0].map(|shard| host.turn(shard));
            busy |= turned.contains(&true);
            self.trace.line(|| format!("n{number} has turned: {turned:?}"));
        }
        self.truth.read();
        for which in 0..self.clients.len() {
            let narrow = self.harm && !self.peace && self.dice.one_in(4);
            self.answer(which, if narrow { Answer::Narrow } else { Answer::Good });
            self.dial(which);
            let (client, truth) = (&mut self.clients[which], &self.truth);
            busy |= client.link.as_mut().is_some_and(|link| link.push(usize::MAX));
            busy |= client.receive(usize::MAX, truth);
            busy |= client.commit(usize::MAX, truth);
            while client.tell() {
                busy = true;
            }
            busy |= client.take(usize::MAX, truth);
        }
        busy
    }

    fn set_clock(&self) {
        self.own.set_clock((self.now as i64 + self.ahead) as u64);
    }

    /// Time passes for all, at once; for one client perhaps in its sleep. Timers that it wakes have not been looked at.
    fn advance(&mut self, ms: u64, asleep: Option<usize>) {
        self.runtime.block_on(tokio::time::advance(Duration::from_millis(ms)));
        self.now += ms;
        self.set_clock();
        for (number, client) in self.clients.iter_mut().enumerate() {
            client.pass(ms, asleep == Some(number));
        }
    }

    /// The next piece of time, in which at most one client's timer fires.
    fn tick(&mut self, most: u64) -> u64 {
        let timers = self.clients.iter().filter_map(Client::until_timer);
        let ms = timers.min().map_or(most, |at| at.clamp(1, most));
        self.advance(ms, None);
        self.clients.iter_mut().for_each(|client| client.fire_timer(&self.truth));
        ms
    }

    fn pass(&mut self, mut ms: u64) {
        while ms > 0 {
            ms -= self.tick(ms.min(1_000));
            let looks = self.dice.below(4);
            let host = self.any_host();
            if looks & 1 > 0 {
                host.turn(0);
            }
            if looks & 2 > 0 {
                host.turn(1);
            }
            self.truth.read();
        }
    }

    fn live(&mut self, mut ms: u64) {
        while ms > 0 {
            ms -= self.tick(ms.min(ROUND_MS));
            self.flow();
        }
    }

    /// Peace: nothing lies or fails any more, and everything must come to its end.
    fn settle(&mut self) {
        self.trace.line(|| format!("{} ms: peace", self.now));
        self.peace = true;
        for lie in [Lie::Stall(false), Lie::Take, Lie::LoseConfirms(0), Lie::WithholdName(false)] {
            self.lie(lie);
        }
        self.lies.unreachable(false);
        self.clients.iter_mut().for_each(|client| client.relent(&self.truth));
        let mut quiet = 0;
        for round in 0..ROUNDS {
            self.hosts.iter_mut().for_each(|host| _ = host.start());
            let busy = self.flow();
            let truth = &self.truth;
            // What hosts do by themselves is no news: they ask the broker how it is each second.
            let settled = self.clients.iter().all(|client| client.is_settled(truth));
            quiet = if settled { quiet + usize::from(!busy) } else { 0 };
            if quiet > QUIET {
                return;
            }
            if !settled && round.is_multiple_of(8) {
                // A mark says where everybody is. A narrow token may still be good for long.
                for client in &mut self.clients {
                    client.reconsider_all(round < 64, truth);
                    client.connect(truth);
                    client.wake(truth);
                }
            }
            if !busy {
                self.tick(ROUND_MS);
            }
        }
        panic!("never settles: {}", self.describe());
    }

    /// Where everybody stands, for people.
    fn describe(&self) -> String {
        let clients: Vec<String> = self.clients.iter().map(Client::describe).collect();
        format!("{} ms, {}: {}", self.now, self.truth.describe(), clients.join("; "))
    }

    fn judge(&self) {
        for client in &self.clients {
            client.check_at_the_end(&self.truth);
            if !self.harm {
                assert_eq!(client.gaps_told, 0, "{}: a gap was told, and nothing was lost", client.name);
                client.said.check_order(&self.truth, &client.name);
            }
        }
        self.trace.line(|| format!("the end: {}", self.describe()));
    }
}
