//! One process: the parts of an open store, and what is done with them.

use std::sync::Arc;

use super::oracle::{Fed, Oracle};
use crate::{
    domain::{Kind, Timestamp},
    store::{
        Cursor, FeedFrom, FeedStart, PageLimit, PageToken,
        embedded::{
            background, export, feed, list,
            log::{prepare::Preparer, scrub::Scrubber},
            open::Parts,
            shared::Shared,
            submit,
            writer::{Stepped, Writer},
        },
    },
};

pub struct Life {
    pub shared: Arc<Shared>,
    writer: Option<Writer>,
    preparer: Preparer,
    scrubber: Scrubber,
}

/// Why something could not be read.
#[derive(Debug)]
pub enum Unread {
    /// For a reason that may pass, or that was planted.
    Passing,
    /// The cursor is refused.
    Refused(String),
    /// Never to be seen.
    Wrong(String),
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Unread::Wrong(why)
    }
}

const LIMIT: PageLimit = PageLimit { messages: 7, bytes: 16 * 1024 };

impl Life {
    pub fn new(parts: Parts) -> Self {
        let Parts { shared, writer, preparer, scrubber, .. } = parts;
        Self { shared, writer, preparer, scrubber }
    }

    /// Lets the writer decide so many groups at most of what waits.
    pub fn write(&mut self, groups: u64) {
        let Some(writer) = &mut self.writer else { return };
        writer.poll();
        for _ in 0..groups {
            match writer.step() {
                Stepped::Decided => {}
                Stepped::Idle => break,
                Stepped::Blocked => {
                    if !background::step_ahead(&self.shared, &mut self.preparer) {
                        break;
                    }
                }
            }
        }
    }

    pub fn quiet(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.be_quiet();
        }
    }

    pub fn ahead(&mut self, times: u64) {
        for _ in 0..times {
            if !background::step_ahead(&self.shared, &mut self.preparer) {
                break;
            }
        }
    }

    pub fn house(&mut self) -> Result<(), String> {
        background::step_house(&self.shared, &mut self.scrubber).map(drop).map_err(|error| error.to_string())
    }

    /// Closes the store in order.
    pub fn close(mut self) -> Option<String> {
        self.shared.queue.close();
        if let Some(writer) = &mut self.writer {
            writer.end();
        }
        self.shared.close();
        // What a full disk refused may be the closing frame, which vouches for the last.
        self.shared.failure().or_else(|| self.shared.stopped().map(|stopped| format!("{stopped:?}")))
    }

    /// Reads the feed to its end, past losses that are named.
    pub fn feed(&self, from: FeedFrom, oracle: &Oracle) -> Result<Vec<Fed>, Unread> {
        let mut from = from;
        let mut fed = Vec::new();
        'begin: loop {
            let mut place = feed::begin(&self.shared, &from).map_err(unread)?;
            loop {
                match feed::read(&self.shared, place, LIMIT) {
                    Ok((items, next)) => {
                        if items.is_empty() {
                            return Ok(fed);
                        }
                        for item in items {
                            let number = oracle.number_of(&item.message)?;
                            fed.push(Fed::Item(number, item.message.accepted_at, item.cursor));
                        }
                        place = next;
                    }
                    Err(error) if error.kind() == Kind::DataLoss => {
                        let text = error.public_message();
                        let cursor = text.split('\'').nth(1).and_then(|text| Cursor::parse(text).ok());
                        let cursor = cursor.ok_or_else(|| format!("a loss without a cursor behind it: {text}"))?;
                        let next = FeedFrom::Cursor(cursor);
                        if next == from {
                            return Err(Unread::Wrong("the cursor behind a loss leads before it".to_owned()));
                        }
                        fed.push(Fed::Lost);
                        if fed.len() > 10_000 {
                            return Err(Unread::Wrong("the feed does not end".to_owned()));
                        }
                        from = next;
                        continue 'begin;
                    }
                    Err(error) => return Err(unread(error)),
                }
            }
        }
    }

    pub fn feed_from_start(&self, oracle: &Oracle) -> Result<Vec<Fed>, Unread> {
        self.feed(FeedFrom::Start(FeedStart::Start), oracle)
    }

    /// All messages of a sender, the last taken in first.
    pub fn list(&self, sender: usize, oracle: &Oracle) -> Result<Vec<(usize, Timestamp)>, Unread> {
        let (mut after, mut listed): (Option<PageToken>, Vec<_>) = (None, Vec::new());
        loop {
            let page =
                list::list(&self.shared, &super::oracle::sender(sender), after.as_ref(), LIMIT).map_err(unread)?;
            for message in &page.messages {
                listed.push((oracle.number_of(message)?, message.accepted_at));
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(listed),
            }
        }
    }

    /// Everything that is kept.
    pub fn export(&self, oracle: &Oracle) -> Result<Vec<(usize, Timestamp)>, Unread> {
        let (mut after, mut exported): (Option<PageToken>, Vec<_>) = (None, Vec::new());
        loop {
            let page = export::export(&self.shared, after.as_ref(), LIMIT).map_err(unread)?;
            for message in &page.messages {
                exported.push((oracle.number_of(message)?, message.accepted_at));
            }
            if page.is_last {
                return Ok(exported);
            }
            after = Some(page.next);
        }
    }
}

pub fn unread(error: crate::domain::Error) -> Unread {
    match error.kind() {
        Kind::StoreUnavailable | Kind::DiskFull => Unread::Passing,
        Kind::CursorExpired => Unread::Refused(error.public_message().to_owned()),
        kind => {
            Unread::Wrong(format!("{kind:?}: {error}: {}", error.cause().map_or(String::new(), ToString::to_string)))
        }
    }
}

/// What a queued submission is told, for [`super::story`].
pub use submit::{Queued, Reply};
