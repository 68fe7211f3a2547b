//! Bodies, queries and path segments, read strictly: an error names the field, or line and column where there is no field yet.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::{Problem, short};
use super::{BODY_BYTES, REQUEST_TIME};

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Problem> {
        // A form that a browser sends without asking us first is never JSON by its type.
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
        if kind.as_deref() != Some("application/json") {
            let text = "the header Content-Type must be application/json";
            return Err(Problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        let bytes = match tokio::time::timeout(REQUEST_TIME, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(BytesRejection::FailedToBufferBody(error)))
                if error.status() == StatusCode::PAYLOAD_TOO_LARGE =>
            {
                let text = format!("the body is longer than {BODY_BYTES} bytes");
                return Err(Problem::plain(StatusCode::PAYLOAD_TOO_LARGE, text));
            }
            Ok(Err(error)) => return Err(Problem::plain(StatusCode::BAD_REQUEST, error.body_text())),
            Err(_) => {
                let text = format!("the body was not there after {} s", REQUEST_TIME.as_secs());
                return Err(Problem::plain(StatusCode::REQUEST_TIMEOUT, text));
            }
        };
        json(&bytes).map(Body)
    }
}

/// Reads JSON.
fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let malformed = |error: &serde_json::Error| {
        Problem::plain(StatusCode::BAD_REQUEST, format!("the body is no JSON: {error}"))
    };
    let value = match serde_path_to_error::deserialize(&mut reader) {
        Ok(value) => value,
        Err(error) if error.inner().is_data() => {
            let text = error.inner().to_string();
            // Where it is has a name already.
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            let path = error.path().to_string();
            let value = serde_json::from_slice(bytes).ok();
            return Err(wrong(&path, text, value.as_ref().and_then(|value| at(value, &path))));
        }
        Err(error) => return Err(malformed(error.inner())),
    };
    reader.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

/// The value at a path as serde_path_to_error writes it: `a.b[0]`.
fn at(value: &serde_json::Value, path: &str) -> Option<String> {
    let pointer: String =
        path.split(['.', '[']).map(|part| format!("/{}", part.trim_end_matches(']'))).collect();
    value.pointer(&pointer).map(ToString::to_string)
}

/// What serde says is wrong, as ours: "unknown field `x`, expected ...", "missing field `x`", "invalid type: ..., expected ...".
fn wrong(path: &str, text: &str, value: Option<String>) -> Problem {
    let inside = |name: &str| match path {
        "." | "?" | "" => name.to_owned(),
        // Of an unknown field the path names the field itself already.
        path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        path => format!("{path}.{name}"),
    };
    let name = |rest: &str| rest.split('`').next().unwrap_or("").to_owned();
    if let Some(rest) = text.strip_prefix("missing field `") {
        return Problem::missing(&inside(&name(rest)), "a value");
    }
    if let Some(rest) = text.strip_prefix("unknown field `") {
        let expected = rest.split_once(", expected ").map_or("no field at all", |(_, expected)| expected);
        return Problem::value(inside(&short(&name(rest))), "an unknown field", expected);
    }
    if let Some(rest) = text.strip_prefix("duplicate field `") {
        return Problem::value(inside(&name(rest)), "given twice", "it once");
    }
    let field = if path == "." { "body".to_owned() } else { short(path) };
    match text.rsplit_once(", expected ") {
        Some((what, expected)) => Problem::value(field, value.unwrap_or_else(|| what.to_owned()), expected),
        None => Problem::value(field, value.unwrap_or_default(), text),
    }
}

/// The query.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, Problem> {
        let text = parts.uri.query().unwrap_or("");
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
        serde_path_to_error::deserialize(pairs).map(Query).map_err(|error| {
            let path = error.path().to_string();
            let given = form_urlencoded::parse(text.as_bytes());
            let value = given.into_iter().find(|(key, _)| *key == path).map(|(_, value)| value.into_owned());
            wrong(&path, &error.inner().to_string(), value)
        })
    }
}

/// The part of the path that names something, decoded.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, Problem> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        name.map(|Path(name)| Named(name))
            .map_err(|error| Problem::plain(StatusCode::BAD_REQUEST, error.body_text()))
    }
}

/// Reads a text that must be something.
pub(super) fn parse<T: FromStr>(field: &str, text: &str, expected: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::value(field, text, expected))
}

/// A number within bounds.
pub(super) fn within<T: PartialOrd + Display>(
    field: &str,
    value: T,
    least: T,
    most: T,
) -> Result<T, Problem> {
    match (&least..=&most).contains(&&value) {
        true => Ok(value),
        false => Err(Problem::value(field, value, format!("{least} to {most}"))),
    }
}

/// A field that may be null: told apart from one that is not there.
pub(super) fn given<'de, D: serde::Deserializer<'de>, T: serde::Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    <Option<T> as serde::Deserialize>::deserialize(deserializer).map(Some)
}
