//! The page at `/`: an overview of the relay, live, for a browser. It is three fixed texts, holds no secret, and asks by the calls like
//! everybody else; so it needs no token, and what it asks does.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::routing::get;

use crate::control::admin::Admin;

/// Where they are, what they are, and they.
const FILES: [(&str, &str, &str); 3] = [
    ("/", "text/html; charset=utf-8", include_str!("../page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("../page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("../page/page.js")),
];

/// Scripts, styles and answers from this address alone; nothing may frame the page, and a form of it goes nowhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// True exactly when it is a file of the page.
pub(in crate::control::admin) fn is_page(path: &str) -> bool {
    FILES.iter().any(|(at, ..)| *at == path)
}

/// With the page's files.
pub(super) fn with(router: Router<Admin>) -> Router<Admin> {
    FILES.into_iter().fold(router, |router, (path, kind, text)| {
        let headers = [
            (CONTENT_TYPE, kind),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-cache"),
        ];
        router.route(path, get(async move || (headers, text)))
    })
}
