//! Access: who asks, and which tenant's runs they may see.
//!
//! A key that is tied to a tenant sees that tenant only. Keys are compared in constant time and are in no
//! log and no `Debug`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};
use uuid::Uuid;

use super::ServerOptions;
use super::current::Shared;
use super::failure::Failure;
use crate::{Projects, Request as Question};

/// The header with the key.
pub(super) const KEY: &str = "x-api-key";
/// The header with the tenant that is asked for.
pub(super) const TENANT: &str = "x-tenant-id";
/// The longest key; all are compared at this length.
const KEY_BYTES: usize = 256;
/// The shortest.
const KEY_BYTES_MIN: usize = 8;

/// The keys that may ask, each perhaps tied to a tenant.
#[derive(Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    bytes: [u8; KEY_BYTES],
    n_bytes: usize,
    tenant: Option<Uuid>,
}

/// Why keys cannot be read. Says where, never what the key is.
#[derive(Debug, thiserror::Error)]
#[error("entry {entry}: {problem}")]
pub struct KeyError {
    /// Which of the entries, from 1.
    pub entry: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// Reads keys: one a line, or between commas, each with its tenant's UUID after it where it is tied to
    /// one. What begins with `#` is a comment.
    ///
    /// # Errors
    ///
    /// Where a key is shorter than 8 bytes or longer than 256, has another character than printable ASCII,
    /// is there twice, or what follows it is no UUID.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        let entries = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let entries = entries.flat_map(|line| line.split(','));
        let entries = entries.map(str::trim).filter(|entry| !entry.is_empty());
        for (entry, text) in (1..).zip(entries) {
            let wrong = |problem: &str| KeyError {
                entry,
                problem: problem.to_owned(),
            };
            let mut words = text.split_whitespace();
            let word = words.next().unwrap_or_default();
            let tenant = words.next().map(Uuid::try_parse).transpose();
            let tenant = tenant.map_err(|_| wrong("after the key stands no tenant's UUID"))?;
            if words.next().is_some() {
                return Err(wrong("after the key stands more than a tenant"));
            }
            if !word.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("a key has no other characters than printable ASCII"));
            }
            let key = Key::new(word, tenant).filter(|_| word.len() >= KEY_BYTES_MIN);
            let key = key.ok_or_else(|| wrong("a key has 8 to 256 characters"))?;
            if keys.iter().any(|other| bool::from(other.is(&key))) {
                return Err(wrong("the key is there twice"));
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds others.
    ///
    /// # Errors
    ///
    /// Where one of them is there already: it could be tied to another tenant.
    pub fn extend(&mut self, others: Self) -> Result<(), KeyError> {
        for (entry, key) in (1..).zip(others.0) {
            if self.0.iter().any(|other| bool::from(other.is(&key))) {
                let problem = "the key is there already, from elsewhere".to_owned();
                return Err(KeyError { entry, problem });
            }
            self.0.push(key);
        }
        Ok(())
    }

    /// What a key may see. Looks at all of them, whichever it is.
    fn scope(&self, given: &str) -> Option<Scope> {
        let given = Key::new(given, None)?;
        let mut found = None;
        for key in &self.0 {
            if bool::from(key.is(&given)) {
                found = Some(key.tenant.map_or(Scope::All, Scope::Tenant));
            }
        }
        found
    }
}

impl Key {
    fn new(text: &str, tenant: Option<Uuid>) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        let n_bytes = text.len();
        Some(Self {
            bytes,
            n_bytes,
            tenant,
        })
    }

    fn is(&self, other: &Self) -> Choice {
        let (own, others) = (self.n_bytes as u64, other.n_bytes as u64);
        self.bytes.ct_eq(&other.bytes) & own.ct_eq(&others)
    }
}

/// Whose runs a request may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    All,
    Tenant(Uuid),
    /// A key of one tenant asked for another's.
    Nothing,
}

impl Scope {
    /// A question within it.
    pub(super) fn question(self) -> Question {
        let question = Question::default();
        match self {
            Self::All => question,
            Self::Tenant(tenant) => Question {
                tenant: Some(tenant),
                ..question
            },
            Self::Nothing => Question {
                projects: Projects::Each([].into()),
                tenant: Some(Uuid::nil()),
                ..question
            },
        }
    }

    fn of(keys: &Keys, headers: &HeaderMap) -> Result<Self, Failure> {
        let own = if keys.is_empty() {
            Self::All
        } else {
            let key = headers.get(KEY).and_then(|key| key.to_str().ok());
            let bearer = || {
                let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
                value.strip_prefix("Bearer ").map(str::trim)
            };
            let key = key.or_else(bearer).ok_or(Failure::NoKey)?;
            keys.scope(key).ok_or(Failure::WrongKey)?
        };
        let Some(asked) = headers.get(TENANT) else {
            return Ok(own);
        };
        let asked = asked
            .to_str()
            .ok()
            .and_then(|text| Uuid::try_parse(text).ok());
        Ok(match (own, asked.map(Self::Tenant)) {
            (Self::All, Some(asked)) => asked,
            (own, Some(asked)) if own == asked => own,
            _ => Self::Nothing,
        })
    }
}

/// Whether anybody may ask for this: what says nothing of any project.
fn is_open(path: &str) -> bool {
    matches!(
        path,
        "/info" | "/api/v1/info" | "/healthz" | "/readyz" | "/openapi.json"
    )
}

/// Lets in whom a key lets in, and says what they may see.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let scope = match Scope::of(&shared.options.keys, request.headers()) {
        Ok(scope) => scope,
        Err(_) if is_open(request.uri().path()) => Scope::Nothing,
        Err(failure) => return failure.into_response(),
    };
    request.extensions_mut().insert(scope);
    next.run(request).await
}

/// The names by which the server may be called.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Any, where there is none.
    names: Option<Vec<String>>,
}

impl Hosts {
    pub(super) fn of(options: &ServerOptions, bound: SocketAddr) -> Self {
        let is_checked = bound.ip().is_loopback() || !options.hosts.is_empty();
        let names = options.hosts.iter().map(|name| name.to_ascii_lowercase());
        Self {
            names: is_checked.then(|| names.collect()),
        }
    }

    /// Whether a page of another name cannot have brought a browser here.
    fn allow(&self, host: &str) -> bool {
        let Some(names) = &self.names else {
            return true;
        };
        let host = host.to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_loopback || name == "localhost" || names.iter().any(|own| own == name || *own == host)
    }
}

/// Turns away what was sent to another name (DNS rebinding).
pub(super) async fn check_host(
    State(hosts): State<Arc<Hosts>>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let host = host.or_else(|| Uri::host(request.uri()));
    if host.is_some_and(|host| hosts.allow(host)) {
        next.run(request).await
    } else {
        Failure::WrongHost.into_response()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TENANT: &str = "3c90c3cc-0d44-4b50-8888-8dd25736052a";

    #[test]
    fn keys_are_read_and_found() {
        let text = format!("# all\nabcdefgh\n  ijklmnop {TENANT} \n\nqrstuvwx,yzabcdef");
        let keys = Keys::parse(&text).unwrap();
        assert_eq!(keys.0.len(), 4);
        assert_eq!(keys.scope("abcdefgh"), Some(Scope::All));
        let tenant = Uuid::try_parse(TENANT).unwrap();
        assert_eq!(keys.scope("ijklmnop"), Some(Scope::Tenant(tenant)));
        for wrong in ["", "abcdefg", "abcdefgh\0", "abcdefghi", &"x".repeat(300)] {
            assert_eq!(keys.scope(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{keys:?}"), "4 keys");
        let mut keys = keys;
        let again = Keys::parse("other-key, abcdefgh").unwrap();
        assert_eq!(keys.extend(again).unwrap_err().entry, 2);
    }

    #[test]
    fn what_is_no_key_is_not_shown() {
        for wrong in [
            "secret1",
            "secret-a secret-b",
            &format!("secret-a {TENANT} x"),
            "secret-a,secret-a",
            "secret-ä-a",
            &"secret".repeat(50),
        ] {
            let text = Keys::parse(wrong).unwrap_err().to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        let options = ServerOptions {
            hosts: vec!["Box.example".to_owned()],
            ..ServerOptions::default()
        };
        let hosts = Hosts::of(&options, "127.0.0.1:80".parse().unwrap());
        for own in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:99",
            "[::1]:8",
            "127.1.2.3",
            "box.example:1",
        ] {
            assert!(hosts.allow(own), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "127.0.0.1.evil.example",
            "10.0.0.1",
        ] {
            assert!(!hosts.allow(other), "{other}");
        }
        let open = Hosts::of(&ServerOptions::default(), "0.0.0.0:80".parse().unwrap());
        assert!(open.allow("anything"));
    }
}
