//! Permission for scripts of other origins (CORS), in the Collector's way: what a browser asks before it sends
//! (preflight), and the headers it wants to see on the answer.
//!
//! The rules are those of the Fetch standard as the Collector's library reads them: origins are compared without case,
//! `*` in an origin stands for anything once, credentials are always allowed, and the methods are GET, POST and HEAD. A
//! preflight that is refused gets the same status 204 with fewer headers; the browser does the refusing. Never looks at
//! a path or a body.

use crate::config::checked::CorsSettings;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

/// Methods for which permission is given.
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::HEAD];
/// Headers that may be sent unless configured.
const HEADERS: [&str; 3] = ["accept", "content-type", "x-requested-with"];
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Who may send, and what.
#[derive(Clone, Debug)]
pub struct Cors {
    /// `None`: everybody.
    origins: Option<Vec<Pattern>>,
    /// In lower case; `None`: any.
    headers: Option<Vec<String>>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

/// An origin in lower case, with at most one gap for anything.
#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    Around { start: String, end: String },
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        let text = text.to_lowercase();
        match text.split_once('*') {
            Some((start, end)) => Pattern::Around { start: start.to_owned(), end: end.to_owned() },
            None => Pattern::Exact(text),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Pattern::Exact(exact) => exact == origin,
            Pattern::Around { start, end } => {
                origin.len() >= start.len() + end.len() && origin.starts_with(start) && origin.ends_with(end)
            }
        }
    }
}

impl Cors {
    /// See [`CorsSettings`].
    pub fn new(settings: &CorsSettings) -> Cors {
        let everybody = settings.allowed_origins.iter().any(|origin| origin == "*");
        let any_header = settings.allowed_headers.iter().any(|header| header == "*");
        let headers = match settings.allowed_headers.as_slice() {
            [] => HEADERS.map(str::to_owned).to_vec(),
            listed => listed.iter().map(|header| header.to_ascii_lowercase()).collect(),
        };
        let exposed = (!settings.exposed_headers.is_empty())
            .then(|| HeaderValue::from_str(&settings.exposed_headers.join(", ")).ok())
            .flatten();
        Cors {
            origins: (!everybody).then(|| settings.allowed_origins.iter().map(|text| Pattern::new(text)).collect()),
            headers: (!any_header).then_some(headers),
            exposed,
            max_age: settings.seconds_max.map(HeaderValue::from),
        }
    }

    /// Headers of the answer to a preflight; `None`: the request is none, and goes its way.
    pub fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
        let asked = request.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|asked| !asked.is_empty());
        let asked = asked.filter(|_| method == Method::OPTIONS)?;
        let mut answer = HeaderMap::new();
        answer.insert(VARY, VARY_PREFLIGHT);
        let Some(origin) = self.allowed_origin(request) else { return Some(answer) };
        let wanted = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if !allows_method(asked.as_bytes()) || !wanted.is_none_or(|wanted| self.allows_headers(wanted)) {
            return Some(answer);
        }
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, asked.clone());
        if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        if let Some(max_age) = &self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        Some(answer)
    }

    /// Headers that go with the answer to any other request.
    pub fn of_answer(&self, method: &Method, request: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        answer.insert(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = self.allowed_origin(request).filter(|_| allows_method(method.as_str().as_bytes())) else {
            return answer;
        };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if let Some(exposed) = &self.exposed {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        answer
    }

    /// What to say of the request's origin, if it may send.
    fn allowed_origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        let Some(patterns) = &self.origins else { return Some(HeaderValue::from_static("*")) };
        let text = origin.to_str().ok()?.to_lowercase();
        patterns.iter().any(|pattern| pattern.matches(&text)).then(|| origin.clone())
    }

    fn allows_headers(&self, wanted: &HeaderValue) -> bool {
        let Some(allowed) = &self.headers else { return true };
        let Ok(wanted) = wanted.to_str() else { return false };
        let mut names = wanted.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.all(|name| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)))
    }
}

/// OPTIONS is what a preflight itself is.
fn allows_method(method: &[u8]) -> bool {
    method == b"OPTIONS" || METHODS.iter().any(|allowed| allowed.as_str().as_bytes() == method)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example.com";

    fn cors(origins: &[&str], headers: &[&str]) -> Cors {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Cors::new(&CorsSettings {
            allowed_origins: owned(origins),
            allowed_headers: owned(headers),
            exposed_headers: vec!["X-Request-Id".to_owned(), "ETag".to_owned()],
            seconds_max: Some(7200),
        })
    }

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn preflight(cors: &Cors, origin: &'static str, method: &'static str, headers: &'static str) -> HeaderMap {
        let mut request = map(&[("origin", origin), ("access-control-request-method", method)]);
        if !headers.is_empty() {
            request.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static(headers));
        }
        cors.preflight(&Method::OPTIONS, &request).expect("a preflight")
    }

    fn allows(cors: &Cors, origin: &'static str, method: &'static str, headers: &'static str) -> bool {
        preflight(cors, origin, method, headers).contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
    }

    #[test]
    fn an_allowed_preflight_gets_everything_a_browser_asks_for() {
        let answer = preflight(&cors(&[APP], &["X-Api-Key"]), APP, "POST", "x-api-key");
        let expected = map(&[
            ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
            ("access-control-allow-origin", APP),
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", "x-api-key"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "7200"),
        ]);
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_refused_preflight_gets_no_permission() {
        let cors = cors(&[APP], &[]);
        assert!(!allows(&cors, "https://evil.example.com", "POST", ""), "another origin");
        assert!(!allows(&cors, APP, "DELETE", ""), "another method");
        assert!(!allows(&cors, APP, "POST", "content-type,x-api-key"), "another header");
        assert_eq!(preflight(&cors, "https://evil.example.com", "POST", "").len(), 1, "only Vary");
    }

    #[test]
    fn origins_match_without_case_and_with_one_gap() {
        let cors = cors(&["https://*.Example.com", "http://localhost:*"], &[]);
        for origin in ["https://a.example.com", "https://A.B.EXAMPLE.com", "http://localhost:3000"] {
            assert!(allows(&cors, origin, "POST", ""), "{origin}");
        }
        for origin in ["https://example.com", "http://a.example.com", "https://a.example.com.evil.org", "null", ""] {
            assert!(!allows(&cors, origin, "POST", ""), "{origin}");
        }
    }

    #[test]
    fn a_star_allows_every_origin_and_every_header() {
        let answer = preflight(&cors(&[APP, "*"], &["*"]), "https://anybody.org", "POST", "x-anything, x-else");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-anything, x-else");
    }

    #[test]
    fn the_headers_of_exporters_in_browsers_are_allowed_by_default() {
        assert!(allows(&cors(&[APP], &[]), APP, "POST", "Content-Type, accept"));
    }

    #[test]
    fn only_options_with_the_question_is_a_preflight() {
        let cors = cors(&[APP], &[]);
        let asking = map(&[("origin", APP), ("access-control-request-method", "POST")]);
        assert!(cors.preflight(&Method::POST, &asking).is_none());
        assert!(cors.preflight(&Method::OPTIONS, &map(&[("origin", APP)])).is_none());
    }

    #[test]
    fn an_answer_names_its_origin_and_what_may_be_read() {
        let cors = cors(&[APP], &[]);
        let expected = map(&[
            ("vary", "Origin"),
            ("access-control-allow-origin", APP),
            ("access-control-expose-headers", "X-Request-Id, ETag"),
            ("access-control-allow-credentials", "true"),
        ]);
        assert_eq!(cors.of_answer(&Method::POST, &map(&[("origin", APP)])), expected);
        assert_eq!(cors.of_answer(&Method::POST, &map(&[("origin", "https://evil.org")])).len(), 1);
        assert_eq!(cors.of_answer(&Method::DELETE, &map(&[("origin", APP)])).len(), 1);
        assert_eq!(cors.of_answer(&Method::POST, &HeaderMap::new()).len(), 1);
    }
}
