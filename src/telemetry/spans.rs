//! The names of all spans and of their attributes, after OpenTelemetry's semantic conventions (1.42) where they have one.

/// One kind of span.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Its name, or the pattern of it.
    pub name: &'static str,
    /// OpenTelemetry's kind of it.
    pub kind: &'static str,
    /// Its attributes.
    pub attributes: &'static [&'static str],
    /// What it covers.
    pub help: &'static str,
}

/// The target of all spans: they are told from events of the log by it.
pub const TARGET: &str = "message_webhook::span";

macro_rules! attributes {
    ($($name:ident = $text:literal, $help:literal;)+) => {
        $(#[doc = $help] pub const $name: &str = $text;)+

        /// Every attribute of a span, with what it says.
        pub const ATTRIBUTES: &[(&str, &str)] = &[$(($name, $help),)+];
    };
}

attributes! {
    HTTP_REQUEST_METHOD = "http.request.method", "The method, `_OTHER` where it is none of the known ones";
    HTTP_ROUTE = "http.route", "The pattern of the path, without the organisation";
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code", "The HTTP status";
    URL_SCHEME = "url.scheme", "`https` where the service itself speaks TLS, else `http`";
    URL_PATH = "url.path", "The path, where it is one of the service's";
    CLIENT_ADDRESS = "client.address", "The client's IP address, as `trusted_proxies` tell it";
    RPC_SYSTEM_NAME = "rpc.system.name", "`grpc`";
    RPC_METHOD = "rpc.method", "The method with its service, as `messagewebhook.v1.MessageService/SubmitMessage`";
    RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code", "gRPC's code by its name, as `UNAVAILABLE`";
    ERROR_TYPE = "error.type", "The published code of the error that the call failed with";
    SERVER_ADDRESS = "server.address", "The IP address of the node of the database that was asked, of several the last one";
    SERVER_PORT = "server.port", "Its port";
    DB_SYSTEM_NAME = "db.system.name", "`cassandra`, the language that the statements are of, or `message-webhook-log`";
    DB_NAMESPACE = "db.namespace", "The keyspace";
    DB_OPERATION_NAME = "db.operation.name", "`INSERT`, `SELECT`, `UPDATE` or `DELETE`";
    DB_COLLECTION_NAME = "db.collection.name", "The table";
    MESSAGING_SYSTEM = "messaging.system", "`message_webhook`";
    MESSAGING_OPERATION_NAME = "messaging.operation.name", "`submit` or `deliver`";
    MESSAGING_OPERATION_TYPE = "messaging.operation.type", "`send` or `process`";
    MESSAGING_DESTINATION_NAME = "messaging.destination.name", "`feed`";
    REQUEST_ID = "message_webhook.request_id", "The id of the call, as its answer and the log have it";
    MESSAGE_KEY = "message_webhook.message_key",
        "A hash of organisation, environment and message_sid: the same for every retry, and the field `message_key` in the log";
    ORG_ID = "message_webhook.org_id", "The organisation";
    ENVIRONMENT = "message_webhook.env", "`dev` or `prod`";
    OUTCOME = "message_webhook.outcome", "`accepted`, `duplicate` or `duplicate_mismatch`";
    GROUP_MESSAGES = "message_webhook.group.messages", "Messages that one sync made durable";
    FEED_ORDER = "message_webhook.feed.order", "`fast` or `ordered`";
}

/// A request over HTTP; its name is that of its method and route.
pub const HTTP_SERVER: &str = "{method} {route}";
/// A call over gRPC; its name is that of its method.
pub const GRPC_SERVER: &str = "{rpc.method}";
/// A submission in the service, below both protocols.
pub const SUBMIT: &str = "submit";
/// A look-up in the service.
pub const GET: &str = "get";
/// A list in the service.
pub const LIST: &str = "list";
/// The beginning of a reader of the feed.
pub const STREAM: &str = "stream";
/// A message that is handed to a reader of the feed.
pub const DELIVER: &str = "deliver feed";
/// An operation of the store, as `store.submit`.
pub const STORE: &str = "store.{operation}";
/// A group of submissions that the embedded store makes durable by one sync.
pub const COMMIT: &str = "store.commit";
/// A CQL statement.
pub const CQL: &str = "{db.operation.name} {db.collection.name}";

/// Every span.
pub const SPANS: &[Span] = &[
    Span {
        name: HTTP_SERVER,
        kind: "server",
        attributes: &[
            HTTP_REQUEST_METHOD,
            HTTP_ROUTE,
            URL_SCHEME,
            URL_PATH,
            HTTP_RESPONSE_STATUS_CODE,
            CLIENT_ADDRESS,
            ERROR_TYPE,
            REQUEST_ID,
        ],
        help: "A request over HTTP, until its answer's head",
    },
    Span {
        name: GRPC_SERVER,
        kind: "server",
        attributes: &[RPC_SYSTEM_NAME, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, CLIENT_ADDRESS, ERROR_TYPE, REQUEST_ID],
        help: "A call over gRPC, until its answer's head; of a stream, until its end",
    },
    Span {
        name: SUBMIT,
        kind: "producer",
        attributes: &[
            MESSAGING_SYSTEM,
            MESSAGING_OPERATION_NAME,
            MESSAGING_OPERATION_TYPE,
            MESSAGING_DESTINATION_NAME,
            MESSAGE_KEY,
            ORG_ID,
            ENVIRONMENT,
            OUTCOME,
        ],
        help: "A submission in the service, below both protocols; its context is kept with the message",
    },
    Span {
        name: GET,
        kind: "internal",
        attributes: &[MESSAGE_KEY, ORG_ID, ENVIRONMENT],
        help: "A look-up of one message in the service",
    },
    Span {
        name: LIST,
        kind: "internal",
        attributes: &[ORG_ID, ENVIRONMENT],
        help: "A page of a sender's messages in the service",
    },
    Span { name: STREAM, kind: "internal", attributes: &[FEED_ORDER], help: "The beginning of a reader of the feed" },
    Span {
        name: DELIVER,
        kind: "consumer",
        attributes: &[
            MESSAGING_SYSTEM,
            MESSAGING_OPERATION_NAME,
            MESSAGING_OPERATION_TYPE,
            MESSAGING_DESTINATION_NAME,
            MESSAGE_KEY,
            ORG_ID,
            ENVIRONMENT,
            FEED_ORDER,
        ],
        help: "A message that is handed to a reader of the feed; linked to the span of its submission, in whose trace it is",
    },
    Span {
        name: STORE,
        kind: "internal",
        attributes: &[],
        help: "An operation of the store, the wait for it included",
    },
    Span {
        name: COMMIT,
        kind: "client",
        attributes: &[DB_SYSTEM_NAME, DB_OPERATION_NAME, GROUP_MESSAGES],
        help: "A group of submissions that the embedded store makes durable by one sync: in the trace of one of them and linked to the others",
    },
    Span {
        name: CQL,
        kind: "client",
        attributes: &[
            DB_SYSTEM_NAME,
            DB_NAMESPACE,
            DB_OPERATION_NAME,
            DB_COLLECTION_NAME,
            SERVER_ADDRESS,
            SERVER_PORT,
            ERROR_TYPE,
        ],
        help: "A CQL statement, from its sending to its answer, retries of the driver included",
    },
];

/// Fields of the lines in the log that tell which call or message they are of.
pub const LOG_FIELDS: &[(&str, &str)] = &[
    ("timestamp", "When"),
    ("level", "`ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`"),
    ("severity", "The same as Google Cloud Logging has it: `ERROR`, `WARNING`, `INFO` or `DEBUG`; in JSON alone"),
    ("message", "What happened: the name of the event, or of a failed call the text that its caller was told"),
    ("target", "The module"),
    ("trace_id", "The trace in which it happened, where there is one"),
    ("span_id", "The span in which it happened, where there is one"),
    ("request_id", "The id of the call"),
    ("protocol", "`http`, `grpc` or `control`"),
    ("route", "What was called, as in metrics"),
    ("code", "The published code of the error"),
    ("cause", "What is behind the error, for the operator"),
    ("message_key", "A hash of organisation, environment and message_sid: the same for every retry, and in spans too"),
    (
        "left_out",
        "Of failures that many calls have at once (503) one line a second is written for each code; so many were left out before this one",
    ),
];
