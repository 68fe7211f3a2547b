//! The description of the calls (OpenAPI 3.1), made of the handlers' own: what is served is what is described.

use std::sync::OnceLock;

use axum::body::Bytes;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

use super::problem::Problem;
use super::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "breakwater",
        description = "See and change a running relay. Errors name the field, the value and what was expected; nothing has changed then.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(Problem))
)]
struct Description;

/// Every status that any call may answer with an error.
const ERRORS: [(&str, &str); 11] = [
    ("400", "Something cannot be read, or a value cannot be"),
    ("401", "The token is missing or wrong"),
    ("403", "Asked by a page from elsewhere, or by a name that is not this host's"),
    ("404", "There is no such thing"),
    ("405", "Not possible with this path"),
    ("408", "The request took too long to arrive"),
    ("409", "Not possible as things are"),
    ("413", "The body is longer than 64 KiB"),
    ("415", "The body is not application/json"),
    ("503", "Too many commands are under way, or the relay is ending"),
    ("504", "A shard has not answered in time; some shards may have done it"),
];

/// The description.
pub fn description() -> utoipa::openapi::OpenApi {
    let (_, calls) = routes::described().split_for_parts();
    let mut all = Description::openapi();
    all.merge(calls);
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = all.components.get_or_insert_default();
    components.security_schemes.insert("token".to_owned(), SecurityScheme::Http(token).into());
    all.paths.paths.values_mut().flat_map(operations).for_each(with_errors);
    all
}

/// As JSON, made once.
pub(super) fn text() -> Bytes {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    // It is made of texts and numbers: there is nothing in it that JSON cannot hold.
    TEXT.get_or_init(|| description().to_json().map(Bytes::from).unwrap_or_default()).clone()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Each call may fail in the same ways, with the same body.
fn with_errors(operation: &mut Operation) {
    let schema = || RefOr::Ref(Ref::from_schema_name("Problem"));
    for (status, text) in ERRORS {
        let content = ContentBuilder::new().schema(Some(schema())).build();
        let response = ResponseBuilder::new().description(text).content("application/json", content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
    }
}
