//! The OpenAPI 3.1 document of the HTTP port, made from the types that are served and from the status table.

use http::StatusCode;
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, Content, Header, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
        PathsBuilder, Ref, Required, ResponseBuilder,
        header::HeaderBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathItemBuilder},
        request_body::RequestBodyBuilder,
        schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{error, paths::PATHS, submit};
use crate::{
    domain::{Field, Kind},
    protocol::status::{self, Status, WireKind},
};

const API_KEY: &str = "api_key";
const JSON: &str = "application/json";
const MESSAGE: &str = "Message";

/// What a submission may fail with, in the order of the contract's checks.
fn faces() -> [Status; 17] {
    let wire = status::of_wire;
    let domain = status::of;
    [
        wire(WireKind::NotFound),
        wire(WireKind::MethodNotAllowed),
        domain(Kind::Unauthenticated),
        domain(Kind::PermissionDenied),
        wire(WireKind::UnsupportedMediaType),
        wire(WireKind::UnsupportedContentEncoding),
        domain(Kind::BodyTooLarge),
        wire(WireKind::RequestTimeout),
        wire(WireKind::MalformedJson),
        domain(Kind::InvalidMessage),
        domain(Kind::RateLimited),
        domain(Kind::Overloaded),
        domain(Kind::Draining),
        domain(Kind::StoreUnavailable),
        domain(Kind::DiskFull),
        domain(Kind::DeadlineExceeded),
        domain(Kind::Internal),
    ]
}

/// The document; the same for every server, so that it names none.
pub fn document() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Message Webhook API")
        .version("1.0.0")
        .description(Some(
            "Takes a user's message in, exactly once. Send each message once or, after a lost answer, again with the \
             same `message_sid`.",
        ))
        .license(Some(license));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("mw_<dev|prod|platform>_<key id>_<secret>")
        .description(Some(
            "The API key of the organisation and environment, with the scope `submit`. A web page sends a browser key, which may be \
             public: `mw_<dev|prod>_b_<key id>_<secret>`.",
        ));
    let components = ComponentsBuilder::new()
        .schema(MESSAGE, submission_schema())
        .schema(submit::ReceiptBody::name(), submit::ReceiptBody::schema())
        .schema(error::ErrorBody::name(), error::ErrorBody::schema())
        .schema(error::ViolationBody::name(), error::ViolationBody::schema())
        .security_scheme(API_KEY, SecurityScheme::Http(bearer.build()));
    let described = PATHS.iter().filter_map(|path| Some((path.route.pattern, path.described?)));
    let paths = described.fold(PathsBuilder::new(), |paths, (pattern, described)| paths.path(pattern, described()));
    OpenApiBuilder::new().info(info.build()).paths(paths.build()).components(Some(components.build())).build()
}

/// What the document says of the webhook's path.
pub(super) fn webhook() -> PathItem {
    PathItemBuilder::new().operation(HttpMethod::Post, submit_operation()).build()
}

fn submit_operation() -> Operation {
    let body = RequestBodyBuilder::new()
        .description(Some("One message, in UTF-8; the whole body at most 256 KiB. Unknown fields are ignored."))
        .required(Some(Required::True))
        .content(JSON, content(MESSAGE, submission_example()))
        .build();
    let mut operation = OperationBuilder::new()
        .operation_id(Some("submit"))
        .summary(Some("Submit a message"))
        .description(Some(
            "Answers 200 when the message is durable, by this call or an earlier one with the same `message_sid`. A 5xx \
             or a broken connection never means \"not accepted\": send it again with the same `message_sid`.",
        ))
        .parameter(path_parameter("org_id", "The organisation, case-sensitive.", org_schema()))
        .parameter(path_parameter("env", "The environment.", env_schema()))
        .parameter(request_id_parameter())
        .security(SecurityRequirement::new(API_KEY, [] as [&str; 0]))
        .request_body(Some(body))
        .response("200", receipt_response());
    for status in statuses() {
        operation = operation.response(status.as_str(), error_response(status));
    }
    operation.build()
}

fn receipt_response() -> ResponseBuilder {
    ResponseBuilder::new()
        .description("The message is durable: accepted by this call, or already processed")
        .header("x-request-id", request_id_header())
        .content(JSON, content(&submit::ReceiptBody::name(), submit::ReceiptBody::example()))
}

/// The statuses of [`faces`], each once.
fn statuses() -> Vec<StatusCode> {
    let mut statuses: Vec<_> = faces().iter().map(|face| face.http).collect();
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

fn error_response(status: StatusCode) -> ResponseBuilder {
    let codes: Vec<_> = faces().into_iter().filter(|face| face.http == status).map(|face| face.code).collect();
    let reason = status.canonical_reason().unwrap_or("Error");
    let mut response = ResponseBuilder::new()
        .description(format!("{reason}; `code` is {}", codes.join(" or ")))
        .header("x-request-id", request_id_header())
        .content(JSON, Content::new(Some(Ref::from_schema_name(error::ErrorBody::name()))));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response = response.header("retry-after", header("Seconds to wait before the next try.", Type::Integer));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        let policy = header("Which limit: its name, `q` messages in `w` seconds.", Type::String);
        let limit = header("How much of it is left: `r` messages, and more in `t` seconds.", Type::String);
        response = response.header("ratelimit-policy", policy).header("ratelimit", limit);
    }
    if status == StatusCode::UNAUTHORIZED {
        response = response.header("www-authenticate", header("Always `Bearer`.", Type::String));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response = response.header("allow", header("The methods that exist.", Type::String));
    }
    response
}

/// What `super::message` reads; it has no type of its own, because it takes every fault note by note.
fn submission_schema() -> Schema {
    let id = || text().min_length(Some(1)).max_length(Some(255)).pattern(Some("^[^\\u0000-\\u001f\\u007f-\\u009f]+$"));
    let url = || text().format(Some(SchemaFormat::Custom("uri".into()))).max_length(Some(2048));
    let urls = |extensions: &str| {
        ArrayBuilder::new().items(url()).max_items(Some(1)).description(Some(format!(
            "At most one absolute http(s) URL on a public host; its path ends in {extensions}. Never together with the \
             other kind of media."
        )))
    };
    let seconds = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Integer))
        .minimum(Some(0))
        .maximum(Some(253_402_300_799_i64));
    let timestamp = OneOfBuilder::new().item(text()).item(seconds).description(Some(
        "When the user sent it, 1970 to 9999: whole UNIX seconds as an integer or in digits, or an ISO 8601 date-time.",
    ));
    ObjectBuilder::new()
        .property(
            Field::FromId.as_str(),
            id().description(Some("The end user in your system; at most 255 bytes in UTF-8.")),
        )
        .property(
            Field::MessageSid.as_str(),
            id().description(Some("The message's id and the idempotency key; at most 255 bytes in UTF-8.")),
        )
        .property(Field::Timestamp.as_str(), timestamp)
        .property(Field::MessageBody.as_str(), text().description(Some("The text.")))
        .property(Field::ImageUrls.as_str(), urls(".jpg, .jpeg or .png"))
        .property(Field::AudioUrls.as_str(), urls(".ogg, .mp3 or .wav"))
        .required(Field::FromId.as_str())
        .required(Field::MessageSid.as_str())
        .required(Field::Timestamp.as_str())
        .into()
}

/// The published example.
fn submission_example() -> Value {
    json!({
        "from_id": "user_abc123",
        "message_sid": "msg_xyz789",
        "timestamp": "1672531200",
        "message_body": "Here is my meal, this is gruyere cheese btw.",
        "image_urls": ["https://example.com/images/food.jpg"],
        "audio_urls": []
    })
}

fn content(schema: &str, example: Value) -> Content {
    let mut content = Content::new(Some(Ref::from_schema_name(schema)));
    content.example = Some(example);
    content
}

fn path_parameter(name: &str, description: &str, schema: Schema) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn org_schema() -> Schema {
    text().pattern(Some("^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")).examples([json!("acme")]).into()
}

fn env_schema() -> Schema {
    text().enum_values(Some(["dev", "prod"])).into()
}

fn request_id_schema() -> ObjectBuilder {
    text().pattern(Some("^[A-Za-z0-9._:-]{1,128}$"))
}

fn request_id_parameter() -> Parameter {
    ParameterBuilder::new()
        .name("X-Request-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        // No pattern: a value of another form is no error.
        .description(Some(
            "An id of the caller's for this call: 1 to 128 of `A-Z a-z 0-9 . _ : -`. Anything else is ignored, and the \
             call gets a new id.",
        ))
        .schema(Some(Schema::from(text())))
        .build()
}

fn request_id_header() -> Header {
    HeaderBuilder::new()
        .schema(Some(Schema::from(request_id_schema())))
        .description(Some("The id of this call: the caller's, or a new one. Tell it when you ask for help."))
        .build()
}

fn header(description: &str, kind: Type) -> Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(kind));
    HeaderBuilder::new().schema(Some(Schema::from(schema))).description(Some(description)).build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String))
}
