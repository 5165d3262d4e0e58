//! Why a store on ScyllaDB cannot be had, in words for the operator; and whether that may pass by itself.

use std::{fmt, io};

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError,
    NewSessionError, PrepareError, RequestAttemptError,
};

use super::error::full_text;

/// Why a store on ScyllaDB cannot be had. `Display` says what is wrong and what to do.
#[derive(Debug)]
pub enum ConnectError {
    /// The options contradict themselves; a line each.
    Options(Vec<String>),
    /// A file for TLS cannot be used.
    Tls {
        /// What the file is for, and its path.
        file: String,
        /// What is wrong with it.
        wrong: String,
    },
    /// No contact point answers as it should.
    Unreachable {
        /// The contact points.
        nodes: Vec<String>,
        /// What the driver says.
        wrong: String,
        /// Whether it may pass by itself.
        may_pass: bool,
    },
    /// No node of this data centre is known.
    NoDatacenter {
        /// What was asked for; nothing if the first contact point's is unclear.
        wanted: Option<String>,
        /// What there is.
        known: Vec<String>,
    },
    /// The keyspace, a table or a row of it is missing.
    NotMigrated {
        /// The keyspace.
        keyspace: String,
        /// What is missing.
        missing: String,
    },
    /// The keyspace was made with other constants, or by another version of this program.
    Settings {
        /// The keyspace.
        keyspace: String,
        /// What differs, a line each.
        differs: Vec<String>,
    },
    /// The data centre has too few nodes for the copies that a new keyspace is to have.
    TooFewNodes {
        /// The data centre.
        datacenter: String,
        /// How many copies of each row are wanted.
        wanted: u32,
        /// The nodes that have joined.
        joined: usize,
        /// Those of them that are up.
        up: usize,
    },
    /// The database cannot do what is needed.
    Engine(String),
    /// A statement of the start or of a migration failed.
    Statement {
        /// What it was to do.
        what: String,
        /// What the database or the driver says.
        wrong: String,
        /// Whether it may pass by itself.
        may_pass: bool,
    },
}

impl ConnectError {
    pub(super) fn unreachable(nodes: &[String], error: &NewSessionError) -> Self {
        ConnectError::Unreachable { nodes: nodes.to_vec(), wrong: error.to_string(), may_pass: may_session_pass(error) }
    }

    pub(super) fn statement(what: impl Into<String>, error: &ExecutionError) -> Self {
        ConnectError::Statement { what: what.into(), wrong: full_text(error), may_pass: may_statement_pass(error) }
    }

    pub(super) fn failed(what: impl Into<String>, error: &dyn fmt::Display) -> Self {
        ConnectError::Statement { what: what.into(), wrong: error.to_string(), may_pass: false }
    }

    /// Whether it may pass by itself, as a database does that is not up yet. Whatever an operator must mend does not.
    pub fn may_pass(&self) -> bool {
        match self {
            ConnectError::Unreachable { may_pass, .. } | ConnectError::Statement { may_pass, .. } => *may_pass,
            ConnectError::TooFewNodes { .. } => true,
            ConnectError::Options(_)
            | ConnectError::Tls { .. }
            | ConnectError::NoDatacenter { .. }
            | ConnectError::NotMigrated { .. }
            | ConnectError::Settings { .. }
            | ConnectError::Engine(_) => false,
        }
    }

    /// A statement that cannot be prepared names a table or a column that is not there.
    pub(super) fn prepare(keyspace: &str, error: &PrepareError) -> Self {
        let invalid = matches!(
            error,
            PrepareError::AllAttemptsFailed {
                first_attempt: RequestAttemptError::DbError(DbError::Invalid | DbError::SyntaxError, _)
            }
        );
        if invalid {
            ConnectError::NotMigrated { keyspace: keyspace.to_owned(), missing: format!("a table or column ({error})") }
        } else {
            let may_pass = match error {
                PrepareError::ConnectionPoolError(pool) => may_pool_pass(pool),
                PrepareError::AllAttemptsFailed { first_attempt } => may_attempt_pass(first_attempt),
                PrepareError::PreparedStatementIdsMismatch => false,
                // Of a later driver.
                _ => false,
            };
            ConnectError::Statement { what: "prepare the statements".to_owned(), wrong: error.to_string(), may_pass }
        }
    }
}

/// Whether a session may be had later, though nobody does anything about it.
fn may_session_pass(error: &NewSessionError) -> bool {
    match error {
        // Names come late where the database and its names are made at the same time as this process.
        NewSessionError::FailedToResolveAnyHostname(_) => true,
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool)) => may_pool_pass(pool),
        // It answered, and broke off in the middle or has not all of its own tables yet.
        NewSessionError::MetadataError(_) => true,
        NewSessionError::EmptyKnownNodesList
        | NewSessionError::UseKeyspaceError(_)
        | NewSessionError::IllegalConfig(_) => false,
        // Of a later driver.
        _ => false,
    }
}

fn may_pool_pass(error: &ConnectionPoolError) -> bool {
    match error {
        ConnectionPoolError::Broken { last_connection_error } => may_connection_pass(last_connection_error),
        ConnectionPoolError::Initializing => true,
        ConnectionPoolError::NodeDisabledByHostFilter => false,
        // Of a later driver.
        _ => false,
    }
}

fn may_connection_pass(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ConnectTimeout
        | ConnectionError::BrokenConnection(_)
        | ConnectionError::NoSourcePortForShard(_) => true,
        // Certificates that do not fit come as data that cannot be read, and so does an answer without TLS.
        ConnectionError::IoError(error) => error.kind() != io::ErrorKind::InvalidData,
        ConnectionError::ConnectionSetupRequestError(setup) => may_setup_pass(&setup.error),
        ConnectionError::TranslationError(_) | ConnectionError::UseKeyspaceError(_) => false,
        // Of a later driver.
        _ => false,
    }
}

/// User, password, and whatever no database of ours answers, are for the operator.
fn may_setup_pass(error: &ConnectionSetupRequestErrorKind) -> bool {
    if let ConnectionSetupRequestErrorKind::DbError(answer, _) = error {
        return may_answer_pass(answer);
    }
    matches!(error, ConnectionSetupRequestErrorKind::BrokenConnection(_))
}

/// Whether a statement of the start may succeed later.
fn may_statement_pass(error: &ExecutionError) -> bool {
    if let ExecutionError::ConnectionPoolError(pool) = error {
        return may_pool_pass(pool);
    }
    if let ExecutionError::LastAttemptError(attempt) = error {
        return may_attempt_pass(attempt);
    }
    matches!(error, ExecutionError::EmptyPlan | ExecutionError::RequestTimeout(_))
}

fn may_attempt_pass(error: &RequestAttemptError) -> bool {
    if let RequestAttemptError::DbError(answer, _) = error {
        return may_answer_pass(answer);
    }
    matches!(error, RequestAttemptError::BrokenConnectionError(_))
}

/// What a database answers that is starting, overloaded, or has too few nodes up.
fn may_answer_pass(answer: &DbError) -> bool {
    matches!(
        answer,
        DbError::Unavailable { .. }
            | DbError::Overloaded
            | DbError::IsBootstrapping
            | DbError::ReadTimeout { .. }
            | DbError::WriteTimeout { .. }
            | DbError::ReadFailure { .. }
            | DbError::WriteFailure { .. }
            | DbError::RateLimitReached { .. }
            | DbError::ServerError
    )
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Options(mistakes) => {
                write!(f, "the settings of the store are wrong: {}", mistakes.join("; "))
            }
            ConnectError::Tls { file, wrong } => write!(f, "{file} cannot be used: {wrong}"),
            ConnectError::Unreachable { nodes, wrong, .. } => write!(
                f,
                "no database is reached at {}: {wrong}; check the addresses, the user and password, and TLS",
                nodes.join(", ")
            ),
            ConnectError::NoDatacenter { wanted: Some(wanted), known } => {
                write!(f, "the data centre '{wanted}' has no node; there are: {}", known.join(", "))
            }
            ConnectError::NoDatacenter { wanted: None, known } => {
                write!(f, "the data centre of the first contact point is not clear; name one of: {}", known.join(", "))
            }
            ConnectError::NotMigrated { keyspace, missing } => write!(
                f,
                "the keyspace '{keyspace}' is not ready, {missing} is missing; run 'message-webhook migrate' with the \
                 same settings"
            ),
            ConnectError::Settings { keyspace, differs } => write!(
                f,
                "the keyspace '{keyspace}' is kept with other settings than this process has: {}; start it with the \
                 keyspace's own",
                differs.join("; ")
            ),
            ConnectError::TooFewNodes { datacenter, wanted, joined, up } => write!(
                f,
                "{wanted} copies of each row are wanted, and the data centre '{datacenter}' has {joined} nodes, {up} of \
                 them up; start the others, or ask for fewer copies by name (scylla_replication_factor): below 3 the \
                 loss of one node stops the service or loses messages"
            ),
            ConnectError::Engine(wrong) => f.write_str(wrong),
            ConnectError::Statement { what, wrong, .. } => write!(f, "cannot {what}: {wrong}"),
        }
    }
}

impl std::error::Error for ConnectError {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn unreachable(error: ConnectionError) -> ConnectError {
        let pool = ConnectionPoolError::Broken { last_connection_error: error };
        let error = NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool));
        ConnectError::unreachable(&["db:9042".to_owned()], &error)
    }

    fn io_error(kind: io::ErrorKind) -> ConnectError {
        unreachable(ConnectionError::IoError(Arc::new(kind.into())))
    }

    fn answered(error: DbError) -> bool {
        may_setup_pass(&ConnectionSetupRequestErrorKind::DbError(error, String::new()))
    }

    #[test]
    fn a_database_that_is_not_up_may_come_up() {
        assert!(io_error(io::ErrorKind::ConnectionRefused).may_pass());
        assert!(io_error(io::ErrorKind::HostUnreachable).may_pass());
        assert!(unreachable(ConnectionError::ConnectTimeout).may_pass());
        assert!(answered(DbError::IsBootstrapping));
        let names = NewSessionError::FailedToResolveAnyHostname(vec!["db".to_owned()]);
        assert!(ConnectError::unreachable(&[], &names).may_pass());
    }

    #[test]
    fn what_an_operator_must_mend_does_not_pass() {
        assert!(!io_error(io::ErrorKind::InvalidData).may_pass());
        assert!(!answered(DbError::AuthenticationError));
        assert!(!may_setup_pass(&ConnectionSetupRequestErrorKind::MissingAuthentication));
        assert!(!ConnectError::Settings { keyspace: "k".to_owned(), differs: Vec::new() }.may_pass());
        assert!(!ConnectError::NotMigrated { keyspace: "k".to_owned(), missing: "it".to_owned() }.may_pass());
    }
}
