//! What callers were told, as a plain map, and what must therefore be true.

use std::collections::BTreeMap;

use crate::{
    domain::{Content, Environment, FromId, Message, MessageKey, MessageSid, NewMessage, OrgId, Sender, Timestamp},
    store::Cursor,
};

pub type Checked = Result<(), String>;

/// A message that was sent at least once.
#[derive(Debug, Clone)]
pub struct Sent {
    pub sender: usize,
    pub text: String,
    pub sent_at: i64,
    /// Whether the feed must have it.
    pub in_feed: bool,
    pub known: Option<Known>,
}

/// A message that somebody was told is kept, or that the feed gave.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub at: Timestamp,
    /// Until when, by the time that really passes, it must be remembered.
    pub until: u64,
    /// Whether the feed must have it.
    pub in_feed: bool,
    /// Whether somebody was told "accepted", and not only "duplicate".
    pub is_told: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Key {
    pub is_made: bool,
    /// When its revocation was acknowledged, by the time that really passes.
    pub revoked: Option<u64>,
    /// Whether its revocation was asked for.
    pub may_be_revoked: bool,
}

/// A cursor, and the last message before it.
#[derive(Debug, Clone)]
pub struct Mark {
    pub cursor: Cursor,
    pub last: Option<(usize, Timestamp)>,
}

#[derive(Debug, Clone, Default)]
pub struct Oracle {
    pub sent: Vec<Sent>,
    /// The feed as it was read: which message, and when it was accepted.
    pub feed: Vec<(usize, Timestamp)>,
    /// The order of those.
    pub places: Vec<u64>,
    pub keys: BTreeMap<String, Key>,
    /// How long anything must be remembered, in microseconds.
    pub retention: u64,
    /// What really passed since the beginning, and by how much the wall clock may have misled the store.
    pub now: u64,
    pub wall: i64,
    pub slack: u64,
    /// Something was damaged at rest.
    pub is_damaged: bool,
}

/// What reading the feed gave.
#[derive(Debug, Clone)]
pub enum Fed {
    Item(usize, Timestamp, Cursor),
    Lost,
}

/// Where a cursor stands in the log, for the order alone.
fn position_of(cursor: &Cursor) -> u64 {
    u64::from_be_bytes(cursor.0[2..10].try_into().expect("eight bytes"))
}

pub const SENDERS: usize = 5;

pub fn sender(number: usize) -> Sender {
    let org = OrgId::new("acme").expect("an org");
    Sender { org, env: Environment::Prod, from_id: FromId::new(format!("s{number}")).expect("an id") }
}

pub fn key_of(number: usize) -> MessageKey {
    let org = OrgId::new("acme").expect("an org");
    MessageKey { org, env: Environment::Prod, sid: MessageSid::new(format!("m{number}")).expect("an id") }
}

impl Oracle {
    pub fn message(&self, number: usize) -> NewMessage {
        NewMessage::new(key_of(number), self.content(number))
    }

    fn content(&self, number: usize) -> Content {
        let sent = &self.sent[number];
        Content {
            from_id: sender(sent.sender).from_id,
            timestamp: Timestamp::from_micros(sent.sent_at).expect("a time"),
            body: Some(sent.text.clone()),
            media: None,
        }
    }

    /// The number of a message, which must be as it was sent.
    pub fn number_of(&self, message: &Message) -> Result<usize, String> {
        let sid = message.key.sid.as_str();
        let number: usize = sid.strip_prefix('m').and_then(|digits| digits.parse().ok()).ok_or("a strange id")?;
        if number >= self.sent.len() || message.key != key_of(number) {
            return Err(format!("{sid} was never sent"));
        }
        if message.content != self.content(number) {
            return Err(format!("{sid} has another content than was sent"));
        }
        Ok(number)
    }

    pub fn must_be_known(&self, number: usize) -> Option<Known> {
        self.sent[number].known.filter(|known| self.now.saturating_add(self.slack) < known.until)
    }

    /// An acceptance was answered.
    pub fn accepted(&mut self, number: usize, at: Timestamp, in_feed: bool) -> Checked {
        // A duplicate's answer may be heard before.
        if let Some(known) = self.must_be_known(number)
            && (known.at != at || known.is_told)
        {
            return Err(format!("DOUBLE: m{number} was accepted at {} and again at {at}", known.at));
        }
        let until = self.until(at);
        self.sent[number].known = Some(Known { at, until, in_feed, is_told: true });
        Ok(())
    }

    /// A duplicate was answered.
    pub fn duplicate(&mut self, number: usize, at: Timestamp) -> Checked {
        match self.sent[number].known {
            Some(known) if known.at == at => Ok(()),
            Some(known) if self.must_be_known(number).is_some() && !self.is_damaged => {
                Err(format!("m{number} was accepted at {} but is a duplicate of {at}", known.at))
            }
            _ => {
                self.believe(number, at);
                Ok(())
            }
        }
    }

    fn until(&self, at: Timestamp) -> u64 {
        let passed = u64::try_from(self.wall.saturating_sub(at.as_micros())).unwrap_or(0);
        (self.now + self.retention).saturating_sub(passed)
    }

    /// Whoever was told that it is kept relies on it from now on.
    fn believe(&mut self, number: usize, at: Timestamp) {
        let until = self.until(at);
        let sent = &mut self.sent[number];
        sent.known = Some(Known { at, until, in_feed: sent.in_feed, is_told: false });
    }

    /// Compares what was read from behind the first `from` messages of the feed with what is known, and learns the rest.
    pub fn read(&mut self, from: usize, fed: &[Fed], marks: &mut Vec<Mark>) -> Checked {
        let mut at = from;
        let mut is_after_loss = false;
        for step in fed {
            let (number, accepted_at, cursor) = match step {
                Fed::Lost if self.is_damaged => {
                    is_after_loss = true;
                    continue;
                }
                Fed::Lost => return Err("the feed names a loss in a good store".to_owned()),
                Fed::Item(number, accepted_at, cursor) => (*number, *accepted_at, cursor),
            };
            let item = (number, accepted_at);
            let found = self.feed.get(at..).unwrap_or_default().iter().position(|known| *known == item);
            let Some(skipped) = found else {
                // A crash sets the age clock back: what was expired when the feed was first read may be there again.
                let place = self.places.partition_point(|place| *place < position_of(cursor));
                if place < at {
                    return Err(format!("the feed gives m{number} out of order or twice"));
                }
                if !is_after_loss {
                    self.all_may_be_missing(at, place, "passes over")?;
                }
                self.learn(item, place, cursor)?;
                is_after_loss = false;
                at = place + 1;
                marks.push(Mark { cursor: cursor.clone(), last: Some(item) });
                continue;
            };
            if !is_after_loss {
                self.all_may_be_missing(at, at + skipped, "passes over")?;
            }
            is_after_loss = false;
            at += skipped + 1;
            marks.push(Mark { cursor: cursor.clone(), last: Some(item) });
        }
        if is_after_loss { Ok(()) } else { self.all_may_be_missing(at, self.feed.len(), "ends before") }
    }

    fn all_may_be_missing(&self, from: usize, to: usize, what: &str) -> Checked {
        for (number, at) in self.feed.get(from..to).unwrap_or_default() {
            if self.must_be_known(*number).is_some_and(|known| known.at == *at) {
                return Err(format!("GAP: the feed {what} m{number}"));
            }
        }
        Ok(())
    }

    fn learn(&mut self, (number, at): (usize, Timestamp), place: usize, cursor: &Cursor) -> Checked {
        if self.feed.contains(&(number, at)) {
            return Err(format!("the feed gives m{number} twice or out of order"));
        }
        if let Some(known) = self.must_be_known(number)
            && known.at != at
        {
            return Err(format!("DOUBLE: the feed has m{number} of {at}, which was accepted at {}", known.at));
        }
        if self.sent[number].known.is_none_or(|known| known.at != at) {
            self.believe(number, at);
        }
        if place < self.feed.len() && self.must_be_known(number).is_some() && !self.is_damaged {
            return Err(format!("GAP: the feed gave what is behind m{number} before"));
        }
        self.feed.insert(place, (number, at));
        self.places.insert(place, position_of(cursor));
        Ok(())
    }

    /// Everything that must be in the feed is in it.
    pub fn feed_is_complete(&self) -> Checked {
        for number in 0..self.sent.len() {
            if let Some(known) = self.must_be_known(number)
                && known.in_feed
                && !self.feed.contains(&(number, known.at))
            {
                return Err(format!("LOST: m{number} of {} is not in the feed", known.at));
            }
        }
        Ok(())
    }

    /// Whether all that follows the first `before` messages of the feed must still be there.
    pub fn is_all_kept(&self, before: usize) -> bool {
        let rest = self.feed.get(before..).unwrap_or_default();
        rest.iter().all(|(number, at)| self.must_be_known(*number).is_some_and(|known| known.at == *at))
    }

    /// After a loss that was named and consented to, what is there is what is known.
    pub fn forget_all_but(&mut self, there: &BTreeMap<usize, Timestamp>) {
        for (number, sent) in self.sent.iter_mut().enumerate() {
            if sent.known.is_some_and(|known| there.get(&number) != Some(&known.at)) {
                sent.known = None;
            }
        }
        self.keys.clear();
        self.feed.clear();
        self.places.clear();
    }
}
