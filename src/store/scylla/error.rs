//! What the driver's errors mean, decided once.
//!
//! The one question that matters of a conditional write is whether it may have happened. Whoever is not told "no" repeats
//! the same statement and learns the truth from its answer; so an arm that is in doubt says [`Fate::Unclear`].

use std::fmt;

use scylla::{
    errors::{DbError, ExecutionError, RequestAttemptError, WriteType},
    statement::{Consistency, SerialConsistency},
};

use crate::domain::Error;

/// What a failed statement left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It may have happened, or may yet happen.
    Unclear,
    /// It did not happen and will not.
    NoEffect,
    /// It cannot succeed however often it is repeated: a bug of ours, or a schema that is not ours.
    Bug,
}

/// A statement that failed, without anything of what it carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What it left behind.
    pub fate: Fate,
    /// The kind of failure, for metrics.
    pub label: &'static str,
    cause: String,
}

impl Failed {
    /// An answer that the database should not give.
    pub fn malformed(cause: impl Into<String>) -> Self {
        Self { fate: Fate::Bug, label: "malformed", cause: cause.into() }
    }

    /// Nothing was sent, for the process's clock cannot be trusted.
    pub fn clock(cause: impl Into<String>) -> Self {
        Self { fate: Fate::NoEffect, label: "clock", cause: cause.into() }
    }

    /// Something that passes by itself.
    pub fn unclear(cause: impl Into<String>) -> Self {
        Self { fate: Fate::Unclear, label: "timeout", cause: cause.into() }
    }
}

impl From<ExecutionError> for Failed {
    fn from(error: ExecutionError) -> Self {
        let fate = match &error {
            // Values that do not fit the statement.
            ExecutionError::BadQuery(_) => Fate::Bug,
            // No node of the data centre is up, or none has a connection: nothing was sent.
            ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) | ExecutionError::PrepareError(_) => {
                Fate::NoEffect
            }
            ExecutionError::LastAttemptError(attempt) => fate(attempt),
            // Sent, and the answer did not come in time.
            ExecutionError::RequestTimeout(_) => Fate::Unclear,
            // Of schema statements only, which may have been carried out.
            ExecutionError::UseKeyspaceError(_)
            | ExecutionError::SchemaAgreementError(_)
            | ExecutionError::MetadataError(_) => Fate::Unclear,
            // Of a later driver.
            _ => Fate::Unclear,
        };
        Self { fate, label: label(&error), cause: text(&error) }
    }
}

/// A few words that stay the same, for metrics.
fn label(error: &ExecutionError) -> &'static str {
    let ExecutionError::LastAttemptError(attempt) = error else {
        return if matches!(error, ExecutionError::RequestTimeout(_)) { "timeout" } else { "no_node" };
    };
    let RequestAttemptError::DbError(answer, _) = attempt else { return "connection" };
    let contended = matches!(answer, DbError::WriteTimeout { write_type: WriteType::Cas, .. });
    let slow = matches!(answer, DbError::WriteTimeout { .. } | DbError::ReadTimeout { .. });
    match (contended, slow) {
        (true, _) => "contention",
        (false, true) => "server_timeout",
        (false, false) => "refused",
    }
}

fn fate(error: &RequestAttemptError) -> Fate {
    match error {
        // Never sent.
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => Fate::Bug,
        RequestAttemptError::UnableToAllocStreamId => Fate::NoEffect,
        // Sent, and the connection broke before the answer.
        RequestAttemptError::BrokenConnectionError(_) => Fate::Unclear,
        // Answered, but nobody can read the answer.
        RequestAttemptError::BodyExtensionsParseError(_)
        | RequestAttemptError::CqlResultParseError(_)
        | RequestAttemptError::CqlErrorParseError(_)
        | RequestAttemptError::UnexpectedResponse(_)
        | RequestAttemptError::NonfinishedPagingState => Fate::Unclear,
        // The statement is another one than it was.
        RequestAttemptError::RepreparedIdChanged { .. } | RequestAttemptError::RepreparedIdMissingInBatch => Fate::Bug,
        RequestAttemptError::DbError(error, _) => fate_of_answer(error),
        // Of a later driver.
        _ => Fate::Unclear,
    }
}

fn fate_of_answer(error: &DbError) -> Fate {
    match error {
        // Too few replicas to begin the rounds. At a plain consistency ScyllaDB means that the decision was taken and
        // could not be told to enough replicas.
        DbError::Unavailable { consistency, .. } => match consistency {
            Consistency::Serial | Consistency::LocalSerial => Fate::NoEffect,
            Consistency::Any
            | Consistency::One
            | Consistency::Two
            | Consistency::Three
            | Consistency::Quorum
            | Consistency::All
            | Consistency::LocalQuorum
            | Consistency::EachQuorum
            | Consistency::LocalOne => Fate::Unclear,
        },
        // A round was under way: of a conditional write every one of these, reads too, is a step of its rounds, and a
        // value that was proposed may be decided later.
        DbError::WriteTimeout { .. }
        | DbError::WriteFailure { .. }
        | DbError::ReadTimeout { .. }
        | DbError::ReadFailure { .. }
        | DbError::Overloaded
        | DbError::ServerError => Fate::Unclear,
        // By the coordinator before it began; by a replica when others have the value already.
        DbError::RateLimitReached { rejected_by_coordinator, .. } => {
            if *rejected_by_coordinator {
                Fate::NoEffect
            } else {
                Fate::Unclear
            }
        }
        // Refused before anything was done; another node, or the same one later, can.
        DbError::IsBootstrapping | DbError::Unprepared { .. } => Fate::NoEffect,
        // Refused before anything was done; the operator can change that while we run.
        DbError::AuthenticationError | DbError::Unauthorized => Fate::NoEffect,
        // The statement or the schema is wrong.
        DbError::SyntaxError
        | DbError::Invalid
        | DbError::AlreadyExists { .. }
        | DbError::FunctionFailure { .. }
        | DbError::ConfigError
        | DbError::TruncateError
        | DbError::ProtocolError => Fate::Bug,
        // Among them Cassandra's 0x1700, "CAS write unknown".
        DbError::Other(_) => Fate::Unclear,
        // Of a later driver.
        _ => Fate::Unclear,
    }
}

/// The error in words. The server's own text is left out: it may quote what was sent.
fn text(error: &ExecutionError) -> String {
    if let ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) = error {
        return error.to_string();
    }
    error.to_string()
}

/// The error of a statement that carries no contents, with the server's own text.
pub fn full_text(error: &ExecutionError) -> String {
    error.to_string()
}

/// Whether the database says that the statement is wrong, as it does of a table or an option that it does not know.
pub fn is_invalid(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Invalid | DbError::SyntaxError | DbError::ConfigError,
            _
        ))
    )
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed.fate {
            Fate::Unclear | Fate::NoEffect => Error::store_unavailable(failed),
            Fate::Bug => Error::internal(failed),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Failed {}

/// The consistency of a read that settles what conditional writes left undecided.
pub fn as_read(serial: SerialConsistency) -> Consistency {
    match serial {
        SerialConsistency::Serial => Consistency::Serial,
        SerialConsistency::LocalSerial => Consistency::LocalSerial,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scylla::errors::OperationType;

    use super::*;

    fn answer(error: DbError) -> Failed {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "INSERT 'secret'".to_owned())).into()
    }

    #[test]
    fn whatever_may_have_been_decided_is_unclear() {
        let unclear = [
            DbError::WriteTimeout {
                consistency: Consistency::Serial,
                received: 1,
                required: 2,
                write_type: WriteType::Cas,
            },
            DbError::WriteTimeout {
                consistency: Consistency::Quorum,
                received: 1,
                required: 2,
                write_type: WriteType::Simple,
            },
            DbError::Unavailable { consistency: Consistency::Quorum, required: 2, alive: 1 },
            DbError::Overloaded,
            DbError::ServerError,
            DbError::Other(0x1700),
            DbError::RateLimitReached { op_type: OperationType::Write, rejected_by_coordinator: false },
        ];
        for error in unclear {
            assert_eq!(answer(error.clone()).fate, Fate::Unclear, "{error}");
        }
        assert_eq!(Failed::from(ExecutionError::RequestTimeout(Duration::from_secs(3))).fate, Fate::Unclear);
    }

    #[test]
    fn only_what_was_refused_before_it_began_had_no_effect() {
        let without = [
            DbError::Unavailable { consistency: Consistency::Serial, required: 2, alive: 1 },
            DbError::Unavailable { consistency: Consistency::LocalSerial, required: 2, alive: 1 },
            DbError::IsBootstrapping,
            DbError::Unauthorized,
            DbError::RateLimitReached { op_type: OperationType::Write, rejected_by_coordinator: true },
        ];
        for error in without {
            assert_eq!(answer(error.clone()).fate, Fate::NoEffect, "{error}");
        }
        assert_eq!(Failed::from(ExecutionError::EmptyPlan).fate, Fate::NoEffect);
        assert_eq!(answer(DbError::Invalid).fate, Fate::Bug);
    }

    #[test]
    fn the_servers_text_is_not_in_the_cause() {
        let failed = answer(DbError::Invalid);
        assert!(!failed.to_string().contains("secret") && !format!("{failed:?}").contains("secret"), "{failed:?}");
    }
}
