//! `import`.

use std::time::{Duration, Instant};

use tonic::Status;
use tonic_types::StatusExt;

use super::{Client, file::Input, line::Line, said};
use crate::{
    cli::{
        output::{Failure, talk},
        remote::is_passing,
    },
    protocol::grpc::{
        control::v1::{ImportKeysRequest, ImportMessagesRequest, ImportOutcome, StoredKey},
        v1::Message,
    },
};

/// One call takes so many messages, or about so many bytes of lines.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 1024 * 1024;
/// A store that cannot decide now is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(client: Client, input: Input<'_>, to_feed: bool) -> Result<(), Failure> {
    let mut import =
        Import { client, input, to_feed, batch: Vec::new(), keys: Vec::new(), bytes: 0, done: Done::default() };
    let imported = import.all().await;
    let Import { done, .. } = import;
    talk(&done.to_string());
    if done.conflicts > 0 {
        talk(
            "Conflicts are messages whose ids were accepted in this store otherwise; it keeps what it has, and their \
             senders were told so.",
        );
    }
    imported
}

struct Import<'a> {
    client: Client,
    input: Input<'a>,
    to_feed: bool,
    /// Messages that were read, each with the number of its line.
    batch: Vec<(u64, Message)>,
    keys: Vec<StoredKey>,
    bytes: usize,
    done: Done,
}

#[derive(Default)]
struct Done {
    taken: u64,
    present: u64,
    conflicts: u64,
    expired: u64,
    keys: u64,
}

impl Import<'_> {
    async fn all(&mut self) -> Result<(), Failure> {
        let bar = super::progress();
        let (mut has_head, mut read, mut end) = (false, 0, None);
        while let Some(text) = self.input.line()? {
            if end.is_some() {
                return Err(self.input.wrong("comes after the end"));
            }
            if !text.ends_with(b"\n") {
                // A whole export ends with a line's end: this is a torn write.
                break;
            }
            match Line::parse(&text).map_err(|wrong| self.input.wrong(&wrong))? {
                Line::Head if !has_head => has_head = true,
                Line::Head => return Err(self.input.wrong("is a second head")),
                _ if !has_head => return Err(self.input.wrong("is not the head of an export")),
                Line::Key(key) => self.keys.push(key),
                Line::Message(message) => {
                    self.batch.push((self.input.number(), message));
                    self.bytes += text.len();
                    read += 1;
                    bar.inc(1);
                    if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES {
                        self.send().await?;
                    }
                }
                Line::Place(_) => {}
                Line::End { messages } => end = Some(messages),
            }
        }
        self.send().await?;
        bar.finish_and_clear();
        match end {
            Some(messages) if messages == read => Ok(()),
            Some(messages) => Err(self.input.wrong_whole(&format!(
                "the end says {messages} messages, and there are {read}; what is there was imported"
            ))),
            None if !has_head => Err(self.input.wrong_whole("is empty")),
            None => Err(self.input.wrong_whole(
                "the export is not whole; what is there was imported. Finish the export by 'export --resume' and run \
                 this again",
            )),
        }
    }

    /// Hands over what was read.
    async fn send(&mut self) -> Result<(), Failure> {
        if !self.keys.is_empty() {
            let request = ImportKeysRequest { keys: std::mem::take(&mut self.keys) };
            let client = &self.client;
            let answer = patiently(|| {
                let (mut client, request) = (client.clone(), request.clone());
                async move { client.import_keys(request).await }
            });
            let answer = answer.await.map_err(|status| self.failed(&status))?;
            self.done.keys += u64::from(answer.into_inner().taken);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let messages = self.batch.iter().map(|(_, message)| message.clone()).collect();
        let request = ImportMessagesRequest { messages, to_feed: self.to_feed };
        let client = &self.client;
        let answer = patiently(|| {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.import_messages(request).await }
        });
        let answer = answer.await.map_err(|status| self.failed(&status))?.into_inner();
        for outcome in answer.outcomes() {
            match outcome {
                ImportOutcome::Taken => self.done.taken += 1,
                ImportOutcome::Present => self.done.present += 1,
                ImportOutcome::Conflict => self.done.conflicts += 1,
                ImportOutcome::Expired => self.done.expired += 1,
                ImportOutcome::Unspecified => {
                    return Err(Failure::Failed("The server is of another version than this program".into()));
                }
            }
        }
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }

    /// The failure of a call, with the number of the line where it has one.
    fn failed(&self, status: &Status) -> Failure {
        let broken = status.get_details_bad_request().into_iter().flat_map(|details| details.field_violations);
        for violation in broken {
            let number =
                violation.field.strip_prefix("messages[").and_then(|rest| rest.split(']').next()?.parse().ok());
            if let Some((line, _)) = number.and_then(|number: usize| self.batch.get(number)) {
                return self.input.wrong_at(*line, &format!("breaks a rule: {}", violation.description));
            }
        }
        Failure::Failed(format!(
            "The import ended: {}. Run it again: what is there already stays as it is",
            said(status)
        ))
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { taken, present, conflicts, expired, keys } = self;
        write!(
            f,
            "{taken} messages taken, {present} were there, {conflicts} conflicts, {expired} past their retention; \
             {keys} keys taken"
        )
    }
}

/// Calls again while the store cannot decide.
async fn patiently<T, F: Future<Output = Result<T, Status>>>(mut call: impl FnMut() -> F) -> Result<T, Status> {
    let give_up = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(100);
    loop {
        match call().await {
            // A connection to the control socket is not made a second time, so only the server's own words are trusted.
            Err(status)
                if is_passing(&status)
                    && status.get_details_error_info().is_some()
                    && Instant::now() + pause < give_up =>
            {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            answer => return answer,
        }
    }
}
