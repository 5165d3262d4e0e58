//! What is looked at, between crashes and at the end.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::oneshot;

use super::{
    life::{Life, Unread, unread},
    oracle::{Checked, Key, SENDERS, key_of},
    story::{Backup, MINUTE, Story, tell},
};
use crate::{
    domain::{Environment, KeyId, KeyOwner, KeyRecord, OrgId, Scopes, SecretHash},
    store::{
        FeedFrom,
        embedded::{get, open, options::Mode, queue::Command, report::OpenReport},
    },
};

impl Story {
    pub fn check_report(&self, report: &OpenReport) -> Checked {
        if !self.oracle.is_damaged {
            if !report.lost.is_empty() {
                return Err(format!("a good store names a loss: {report}"));
            }
            if report.mended.iter().any(|line| line.contains("damaged")) {
                return Err(format!("a good store names damage: {report}"));
            }
        }
        Ok(())
    }

    pub fn look_at_feed(&mut self) -> Checked {
        let Some(life) = &self.life else { return Ok(()) };
        let fed = match life.feed_from_start(&self.oracle) {
            Ok(fed) => fed,
            Err(Unread::Passing) => return Ok(()),
            Err(Unread::Refused(why)) => return Err(format!("the feed's start is refused: {why}")),
            Err(Unread::Wrong(why)) => return Err(format!("feed: {why}")),
        };
        tell!(self, "feed: {} messages", fed.len());
        let mut marks = Vec::new();
        self.oracle.read(0, &fed, &mut marks)?;
        if !marks.is_empty() {
            let mark = marks.swap_remove(self.rng.index(marks.len()));
            self.marks.push(mark);
        }
        if self.marks.len() > 8 {
            let one = self.rng.index(self.marks.len());
            self.marks.swap_remove(one);
        }
        if self.oracle.is_damaged { Ok(()) } else { self.oracle.feed_is_complete() }
    }

    pub fn look_at_cursor(&mut self) -> Checked {
        if self.marks.is_empty() {
            return Ok(());
        }
        let mark = self.marks[self.rng.index(self.marks.len())].clone();
        let Some(life) = &self.life else { return Ok(()) };
        let at = self.oracle.feed.iter().position(|item| Some(*item) == mark.last);
        let read = life.feed(FeedFrom::Cursor(mark.cursor.clone()), &self.oracle);
        match (read, at) {
            (Err(Unread::Passing), _) => Ok(()),
            (Err(Unread::Wrong(why)), _) => Err(format!("cursor after {:?}: {why}", mark.last)),
            (Ok(fed), Some(at)) => {
                let mut marks = Vec::new();
                self.oracle.read(at + 1, &fed, &mut marks)
            }
            // From a history that was left: read on, it would pass over what it does not know.
            (Ok(_), None) => Err(format!("GAP: a cursor after {:?}, which a restore has left, is good", mark.last)),
            (Err(Unread::Refused(_)), None) => Ok(()),
            (Err(Unread::Refused(_)), Some(at)) => {
                if self.oracle.is_all_kept(at) && !self.oracle.is_damaged {
                    return Err(format!("the cursor after {:?} is refused, though all behind it is kept", mark.last));
                }
                self.tally.expired_cursors += u64::from(self.oracle.is_all_kept(at + 1));
                Ok(())
            }
        }
    }

    /// All that can be asked, of a disk that works.
    pub fn check_all(&mut self) -> Checked {
        if self.life.is_none() || self.disk.is_killed() {
            return Ok(());
        }
        self.disk.forget_plan();
        self.see_time();
        self.look_at_feed()?;
        for _ in 0..3 {
            self.look_at_cursor()?;
        }
        let Some(life) = &self.life else { return Ok(()) };
        let is_damaged = self.oracle.is_damaged;
        for number in 0..self.oracle.sent.len() {
            let Some(known) = self.oracle.must_be_known(number) else { continue };
            match get::get(&life.shared, &key_of(number)) {
                Ok(Some(message)) => {
                    self.oracle.number_of(&message)?;
                    if message.accepted_at != known.at {
                        return Err(format!("m{number} was accepted at {}, not {}", known.at, message.accepted_at));
                    }
                }
                Ok(None) => return Err(format!("LOST: m{number} of {} is absent", known.at)),
                Err(_) if is_damaged => {}
                Err(error) => match unread(error) {
                    Unread::Passing | Unread::Refused(_) => {}
                    Unread::Wrong(why) => return Err(format!("m{number}: {why}")),
                },
            }
        }
        self.check_lists(life)?;
        self.check_keys(life)
    }

    fn check_lists(&self, life: &Life) -> Checked {
        let oracle = &self.oracle;
        let mut exported = match life.export(oracle) {
            Ok(exported) => exported,
            Err(Unread::Passing) => return Ok(()),
            Err(why) => return Err(format!("export: {why:?}")),
        };
        for number in 0..oracle.sent.len() {
            if let Some(known) = oracle.must_be_known(number)
                && !oracle.is_damaged
                && !exported.contains(&(number, known.at))
            {
                return Err(format!("LOST: the export has no m{number}"));
            }
        }
        let all: BTreeSet<_> = exported.iter().copied().collect();
        if all.len() != exported.len() {
            return Err("the export gives a message twice".to_owned());
        }
        exported.reverse();
        for sender in 0..SENDERS {
            let listed = match life.list(sender, oracle) {
                Ok(listed) => listed,
                Err(Unread::Passing) => continue,
                Err(why) => return Err(format!("list: {why:?}")),
            };
            let is_theirs = |item: &&(usize, _)| oracle.sent[item.0].sender == sender;
            let expected: Vec<_> = exported.iter().filter(is_theirs).copied().collect();
            if listed != expected && !oracle.is_damaged {
                return Err(format!("the list of s{sender} is {listed:?}, the export has {expected:?}"));
            }
        }
        Ok(())
    }

    // Keys.

    pub fn change_keys(&mut self) {
        let Some(life) = &mut self.life else { return };
        let shared = Arc::clone(&life.shared);
        let now = shared.clock.stamp().wall;
        let number = self.rng.below(6);
        let name = format!("{:0>12}", format!("k{number}"));
        let Some(id) = KeyId::new(&name) else { return };
        let key = self.oracle.keys.entry(name.clone()).or_default();
        let real = self.clock.real();
        match self.rng.below(3) {
            0 => {
                let owner = KeyOwner::Org { org: OrgId::new("acme").expect("an org"), env: Environment::Prod };
                let secret_hash = SecretHash::from_bytes([7; 32]);
                let record = KeyRecord {
                    id,
                    owner,
                    scopes: Scopes::from_bits(1),
                    rate: None,
                    origins: Vec::new(),
                    secret_hash,
                    created_at: now,
                    expires_at: None,
                    revoked_at: None,
                };
                let (reply, mut answer) = oneshot::channel();
                let _ = shared.queue.command(Command::CreateKey(Box::new(record), reply));
                life.write(0);
                if let Ok(Ok(())) = answer.try_recv() {
                    *key = Key { is_made: true, ..Key::default() };
                    tell!(self, "{name}: made");
                }
            }
            1 => {
                key.may_be_revoked = true;
                let (reply, mut answer) = oneshot::channel();
                let _ = shared.queue.command(Command::RevokeKey(id, now, reply));
                life.write(0);
                if let Ok(Ok(Some(_))) = answer.try_recv() {
                    key.revoked.get_or_insert(real);
                    tell!(self, "{name}: revoked");
                }
            }
            _ => {
                let (reply, _answer) = oneshot::channel();
                let _ = shared.queue.command(Command::TouchKeys(vec![(id, now)], reply));
                life.write(0);
            }
        }
    }

    fn check_keys(&self, life: &Life) -> Checked {
        if self.oracle.is_damaged {
            return Ok(());
        }
        for (name, key) in &self.oracle.keys {
            let Some(id) = KeyId::new(name) else { continue };
            let state = life.shared.state.read();
            let record = state.key(&id);
            let is_needed = key.is_made && !key.may_be_revoked
                || key.revoked.is_some_and(|at| self.oracle.now + self.oracle.slack < at + self.oracle.retention);
            match record {
                None if is_needed && key.is_made => return Err(format!("LOST: key {name}")),
                Some(record) if key.revoked.is_some() && record.revoked_at.is_none() => {
                    return Err(format!("LOST: the revocation of {name}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn age(&mut self) {
        let Some(life) = &mut self.life else { return };
        let (reply, mut answer) = oneshot::channel();
        let _ = life.shared.queue.command(Command::Age(Some(reply)));
        life.write(0);
        let aged = answer.try_recv();
        tell!(self, "aged: {:?}", aged.map(|aged| aged.map_err(|error| error.kind())));
    }

    /// Closes the store in order, and does something with what is left.
    pub fn stop(&mut self) {
        if self.rng.percent(50) {
            self.with(|life, rng| life.write(1 + rng.below(8)));
        }
        let Some(life) = self.life.take() else { return };
        let failure = life.close();
        self.disk.forget_plan();
        tell!(self, "closed: {failure:?}");
        let is_clean = failure.is_none() && !self.disk.is_killed();
        self.end_of_stop(is_clean);
    }

    fn end_of_stop(&mut self, is_clean: bool) {
        self.life_ended();
        let full = self.disk.is_full();
        if is_clean && self.plot.has_rollbacks && !full && !self.oracle.is_damaged {
            if self.backup.is_some() && self.rng.percent(40) {
                let backup = self.backup.take().expect("it is there");
                tell!(self, "the directory is put back as it was");
                self.tally.faults += 1;
                self.disk.put_back(backup.image);
                self.oracle = backup.oracle;
            } else {
                self.wants_backup = true;
            }
        }
        if is_clean && self.plot.has_damage && self.rng.percent(50) && !self.oracle.is_damaged && self.tally.lives > 2 {
            self.damage_something();
        }
    }

    /// A copy of the directory, with all that is known of it.
    pub fn back_up(&mut self) -> Checked {
        if !std::mem::take(&mut self.wants_backup) || self.life.is_some() {
            return Ok(());
        }
        self.open()?;
        self.disk.forget_plan();
        self.check_all()?;
        let Some(life) = self.life.take() else { return Ok(()) };
        let is_good = life.close().is_none();
        self.life_ended();
        if is_good {
            tell!(self, "the directory is copied");
            self.backup = Some(Backup { image: self.disk.image(), oracle: self.oracle.clone() });
        }
        Ok(())
    }

    /// A command that reads the stopped store.
    pub fn read_stopped(&mut self) -> Checked {
        if self.life.is_some() {
            return Ok(());
        }
        let before = self.disk.changes();
        let opened = open::open(Arc::new(self.disk.clone()), self.options(Mode::Read), self.clock.clone());
        if let Ok(parts) = opened {
            let life = Life::new(parts);
            match life.export(&self.oracle) {
                Ok(exported) if !self.oracle.is_damaged => {
                    for number in 0..self.oracle.sent.len() {
                        if let Some(known) = self.oracle.must_be_known(number)
                            && !exported.contains(&(number, known.at))
                        {
                            return Err(format!("LOST: the export of the stopped store has no m{number}"));
                        }
                    }
                }
                Ok(_) | Err(Unread::Passing) => {}
                Err(why) => return Err(format!("export of the stopped store: {why:?}")),
            }
            drop(life.close());
        }
        if self.disk.changes() != before {
            return Err("a command that reads has written".to_owned());
        }
        Ok(())
    }

    /// Goes on without what was lost.
    pub fn accept_loss(&mut self) -> Checked {
        let opened = open::open(Arc::new(self.disk.clone()), self.options(Mode::AcceptLoss), self.clock.clone());
        let parts = match opened {
            Ok(parts) => parts,
            Err(error) => {
                tell!(self, "not even with a loss: {error}");
                self.is_over = true;
                return Ok(());
            }
        };
        tell!(self, "accepted: {}", parts.report);
        let life = Life::new(parts);
        let there = match life.export(&self.oracle) {
            Ok(exported) => Self::known_of(&exported),
            Err(why) => return Err(format!("export after a loss: {why:?}")),
        };
        self.oracle.forget_all_but(&there);
        self.marks.clear();
        self.backup = None;
        self.life = Some(life);
        self.look_at_feed()?;
        let Some(life) = self.life.take() else { return Ok(()) };
        drop(life.close());
        self.life_ended();
        match open::open(Arc::new(self.disk.clone()), self.options(Mode::Serve), self.clock.clone()) {
            Ok(parts) => {
                self.life = Some(Life::new(parts));
                Ok(())
            }
            Err(error) => Err(format!("refused after a loss was accepted: {error}")),
        }
    }

    /// The end: everything works again, and a message is accepted.
    pub fn finish(&mut self) -> Checked {
        self.disk.forget_plan();
        self.disk.let_end_soon(false);
        self.disk.set_full(false);
        self.plot.trouble = 0;
        if self.disk.is_killed() {
            self.end_life(false);
        }
        if self.is_over {
            return Ok(());
        }
        if self.life.as_ref().is_some_and(|life| life.shared.failure().is_some()) {
            self.end_life(false);
        }
        if self.life.is_none() {
            self.open()?;
        }
        if self.is_over {
            return Ok(());
        }
        self.with(|life, _| {
            life.shared.clock.stamp();
        });
        self.clock.pass(11 * MINUTE);
        self.with(|life, _| {
            life.shared.clock.stamp();
        });
        self.clock.pass(1);
        for _ in 0..3 {
            self.with(|life, _| life.write(100));
            self.with(|life, _| life.ahead(50));
            self.hear()?;
        }
        self.check_all()?;
        let accepted = self.tally.accepted;
        let number = self.new_message();
        self.submit(number, None);
        for _ in 0..10 {
            self.with(|life, _| life.write(20));
            self.with(|life, _| life.ahead(50));
        }
        self.hear()?;
        if self.tally.accepted == accepted && !self.oracle.is_damaged {
            return Err("a store in which all is well accepts nothing".to_owned());
        }
        Ok(())
    }
}
