//! An open loop: requests are due at random times of a given rate, whether or not earlier ones are answered, and a latency
//! counts from when its request was due. So a pause of the server is felt by all that come in meanwhile.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token};

use super::{
    chance::Chance,
    load::{Outcome, Target, Template, connect, receive, send},
};

pub struct Pace<'a> {
    pub target: &'a Target,
    /// As many requests can be under way.
    pub connections: usize,
    pub prefix: &'a str,
    /// Requests a second.
    pub rate: f64,
    pub duration: Duration,
}

impl Pace<'_> {
    pub fn run(&self) -> Outcome {
        let mut poll = Poll::new().expect("epoll");
        let mut template = Template::new(self.target, self.prefix);
        let mut connections: Vec<_> =
            (0..self.connections).map(|number| connect(self.target, &poll, Token(number))).collect();
        let mut free: Vec<usize> = (0..self.connections).collect();
        let mut waiting: VecDeque<Instant> = VecDeque::new();
        let mut chance = Chance::new(self.prefix.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte)));
        let mut outcome = Outcome::default();
        let mut events = Events::with_capacity(self.connections);
        let mut buffer = [0_u8; 16 * 1024];
        let (begun, mut sent) = (Instant::now(), 0);
        let (end, mut due) = (begun + self.duration, begun);
        // Until all that was due is answered, for the slowest are what is looked for.
        while due < end || !waiting.is_empty() || free.len() < self.connections {
            let now = Instant::now();
            while due < end && due <= now {
                waiting.push_back(due);
                // Independent senders: the time to the next has an exponential distribution.
                due += Duration::from_secs_f64(-chance.unit().ln() / self.rate);
            }
            while let (Some(&since), Some(&number)) = (waiting.front(), free.last()) {
                send(&mut connections[number], template.request(sent), since);
                waiting.pop_front();
                free.pop();
                sent += 1;
            }
            // Never sleeps; see `Load::run`.
            poll.poll(&mut events, Some(Duration::ZERO)).expect("epoll");
            for event in &events {
                let connection = &mut connections[event.token().0];
                let Some(answer) = receive(connection, &mut buffer) else { continue };
                outcome.count(&answer, connection.since);
                free.push(event.token().0);
            }
            assert!(begun.elapsed() < self.duration + Duration::from_secs(30), "no answers for 30 s");
        }
        outcome.elapsed = begun.elapsed();
        outcome
    }
}
