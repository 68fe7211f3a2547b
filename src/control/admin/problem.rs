//! Every error as JSON: the field, the value, what was expected, and a sentence.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::hub::command::Refusal;

/// Characters of a value that are repeated to whoever sent it.
const VALUE_CHARS: usize = 200;

/// What is wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// The field of the body, the query or the path.
    field: Option<String>,
    /// What it was.
    value: Option<String>,
    /// What may be.
    expected: Option<String>,
    /// All of it in a sentence.
    message: String,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    #[serde(skip)]
    status: StatusCode,
    /// It.
    error: ErrorBody,
}

impl Problem {
    /// An error without a field.
    pub(super) fn plain(status: StatusCode, message: impl Into<String>) -> Problem {
        let error = ErrorBody { field: None, value: None, expected: None, message: message.into() };
        Problem { status, error }
    }

    /// A value that cannot be.
    pub(super) fn value(
        field: impl Into<String>,
        value: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Problem {
        let (field, expected) = (field.into(), expected.into());
        let value = short(&value.to_string());
        let message = format!("{field}: {value}, expected {expected}");
        let error = ErrorBody { field: Some(field), value: Some(value), expected: Some(expected), message };
        Problem { status: StatusCode::BAD_REQUEST, error }
    }

    /// A field that must be given.
    pub(super) fn missing(field: &str, expected: &str) -> Problem {
        let message = format!("{field}: missing, expected {expected}");
        let error =
            ErrorBody { field: Some(field.into()), value: None, expected: Some(expected.into()), message };
        Problem { status: StatusCode::BAD_REQUEST, error }
    }

    /// There is no such thing.
    pub(super) fn unknown(field: &str, value: impl std::fmt::Display) -> Problem {
        Refusal::Unknown { field: "", value: value.to_string() }.about(field)
    }

    /// True exactly when it says that there is no such thing.
    pub(super) fn is_unknown(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// The relay has ended or is about to.
    pub(super) fn ending() -> Problem {
        Problem::plain(StatusCode::SERVICE_UNAVAILABLE, "the relay is ending")
    }

    /// No such path.
    pub(super) async fn not_found(uri: axum::http::Uri) -> Problem {
        let path = short(uri.path());
        Problem::plain(StatusCode::NOT_FOUND, format!("{path} does not exist: see /api/v1/openapi.json"))
    }

    /// A path that does not know the method.
    pub(super) async fn wrong_method(method: axum::http::Method) -> Problem {
        let method = short(method.as_str());
        let text = format!("{method} is not possible here: see the header Allow, and /api/v1/openapi.json");
        Problem::plain(StatusCode::METHOD_NOT_ALLOWED, text)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let field = match &refusal {
            Refusal::Value { field, .. } | Refusal::Unknown { field, .. } => *field,
            _ => "",
        };
        refusal.about(field)
    }
}

impl Refusal {
    /// As an answer about this field.
    fn about(self, field: &str) -> Problem {
        match self {
            Refusal::Value { value, expected, .. } => Problem::value(field, value, expected),
            Refusal::Unknown { value, .. } => {
                let value = short(&value);
                let message = format!("{field}: {value} is unknown");
                let error =
                    ErrorBody { field: Some(field.into()), value: Some(value), expected: None, message };
                Problem { status: StatusCode::NOT_FOUND, error }
            }
            Refusal::Conflict(_) => Problem::plain(StatusCode::CONFLICT, self.to_string()),
            Refusal::Late => Problem::plain(StatusCode::GATEWAY_TIMEOUT, self.to_string()),
            Refusal::Busy => Problem::plain(StatusCode::SERVICE_UNAVAILABLE, self.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The beginning of a text, control characters as escapes.
pub(super) fn short(text: &str) -> String {
    let mut short = crate::control::one_line(&text.chars().take(VALUE_CHARS).collect::<String>());
    if text.chars().nth(VALUE_CHARS).is_some() {
        short.push_str("...");
    }
    short
}
