//! Who may ask: whoever can open the Unix socket; over TCP whoever has the token, or, on loopback without a token, whoever is on
//! this host and is no page of a browser that came from elsewhere.

use aws_lc_rs::{constant_time, digest};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::routes::is_page;

/// Fewest and most bytes of a token.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=4_096;

/// A secret that lets its bearer in; only its hash is kept.
#[derive(Clone)]
pub struct Token(digest::Digest);

impl Token {
    /// From a file's text; white space around it does not count.
    ///
    /// # Errors
    /// What was expected, when it is none.
    pub fn new(text: &str) -> Result<Token, String> {
        let text = text.trim();
        if !TOKEN_BYTES.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let (least, most) = (TOKEN_BYTES.start(), TOKEN_BYTES.end());
            return Err(format!("one line of {least} to {most} printable ASCII characters without spaces"));
        }
        Ok(Token(hash(text)))
    }

    /// In a time that says nothing about the token.
    fn is(&self, text: &str) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_ref(), hash(text).as_ref()).is_ok()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

fn hash(text: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, text.as_bytes())
}

/// What a socket asks of those who connect to it.
#[derive(Clone, Debug)]
pub(super) enum Guard {
    /// Nothing: the file's mode has decided.
    Unix,
    /// The token.
    Token(Token),
    /// That they are on this host.
    Loopback,
}

/// Paths for those who watch whether the relay is there; they say no more than that.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Refuses who may not ask.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if let Some(origin) = headers.get(header::ORIGIN) {
        let host = headers.get(header::HOST).map(|host| host.as_bytes()).unwrap_or_default();
        let from = origin.as_bytes().strip_prefix(b"http://").unwrap_or(b"");
        if from.is_empty() || from != host {
            return refuse("a page from elsewhere may not ask: the header Origin is not this address");
        }
    }
    match &guard {
        Guard::Unix => {}
        Guard::Loopback if !names_loopback(headers) => {
            return refuse(
                "the header Host must be a loopback address or localhost (or configure admin_token_file)",
            );
        }
        Guard::Loopback => {}
        Guard::Token(_) if OPEN.contains(&request.uri().path()) || is_page(request.uri().path()) => {}
        Guard::Token(token) => {
            if !bearer(headers).is_some_and(|text| token.is(text)) {
                let text = "the header Authorization must be Bearer and the token of admin_token_file";
                return Problem::plain(StatusCode::UNAUTHORIZED, text).into_response();
            }
        }
    }
    next.run(request).await
}

fn refuse(text: &str) -> Response {
    Problem::plain(StatusCode::FORBIDDEN, text).into_response()
}

/// A name of somebody else's that leads to 127.0.0.1 is not believed: a browser would take its page for ours.
fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: std::net::IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
