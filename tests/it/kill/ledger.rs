//! What the server said of each message, every time.

use std::collections::HashMap;

use parking_lot::Mutex;

/// One answer to one submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// 200, accepted by this call.
    Processed { accepted_at: String },
    /// 200, accepted before.
    Already { accepted_at: String, payload_matches: bool },
    /// Any other status.
    Refused { status: u16 },
    /// No answer: the connection broke.
    Nothing,
}

impl Said {
    pub fn accepted_at(&self) -> Option<&str> {
        match self {
            Said::Processed { accepted_at } | Said::Already { accepted_at, .. } => Some(accepted_at),
            Said::Refused { .. } | Said::Nothing => None,
        }
    }
}

/// The `message_sid` of a message.
pub fn sid(number: u64) -> String {
    format!("kill-{number}")
}

/// All answers, by message.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<u64, Vec<Said>>>);

impl Ledger {
    pub fn note(&self, number: u64, said: Said) {
        self.0.lock().entry(number).or_default().push(said);
    }

    /// When the message was accepted, by the first answer that acknowledged it.
    pub fn accepted_at(&self, number: u64) -> Option<String> {
        self.0.lock().get(&number)?.iter().find_map(|said| said.accepted_at().map(str::to_owned))
    }

    /// The messages of which the server said that they are accepted.
    pub fn acknowledged(&self) -> Vec<u64> {
        let ledger = self.0.lock();
        let acknowledged = ledger.iter().filter(|(_, said)| said.iter().any(|said| said.accepted_at().is_some()));
        acknowledged.map(|(number, _)| *number).collect()
    }

    /// No message was accepted twice, and all that was said of one agrees.
    pub fn assert_sound(&self) {
        for (number, said) in self.0.lock().iter() {
            let processed = said.iter().filter(|said| matches!(said, Said::Processed { .. })).count();
            assert!(processed <= 1, "{} was accepted {processed} times: {said:?}", sid(*number));
            let mut times: Vec<_> = said.iter().filter_map(Said::accepted_at).collect();
            times.dedup();
            assert!(times.len() <= 1, "{} was accepted at different times: {said:?}", sid(*number));
            let odd = said.iter().find(|said| match said {
                Said::Processed { .. } | Said::Nothing => false,
                Said::Already { payload_matches, .. } => !payload_matches,
                Said::Refused { status } => *status != 503,
            });
            assert_eq!(odd, None, "{}", sid(*number));
        }
    }

    pub fn summary(&self) -> String {
        let ledger = self.0.lock();
        let count = |wanted: fn(&Said) -> bool| ledger.values().flatten().filter(|said| wanted(said)).count();
        format!(
            "{} answers 'processed', {} 'Already processed', {} refused with 503, {} lost with the connection",
            count(|said| matches!(said, Said::Processed { .. })),
            count(|said| matches!(said, Said::Already { .. })),
            count(|said| matches!(said, Said::Refused { .. })),
            count(|said| matches!(said, Said::Nothing)),
        )
    }
}
