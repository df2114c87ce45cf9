//! Which web pages may connect.

use std::fmt;
use std::str::FromStr;

/// Which pages' scripts may open a connection or call the HTTP service.
///
/// Tokens are what protects a user; this keeps a page from using a token that it should not have, and costs nothing.
/// Only browsers send an origin, and they send it always: a request without one comes from another kind of client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    rules: Vec<OriginRule>,
}

/// One entry of the setting `origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRule {
    /// `same`: pages that this gateway itself serves.
    Same,
    /// `loopback`: pages of any server on the reader's own machine.
    Loopback,
    /// `any`: every page, except those that hide their origin (`null`).
    Any,
    /// `https://dashboard.example.com`: exactly this scheme, host and port.
    Exact(Origin),
}

/// A scheme, a host and a port, as browsers write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    /// In lower case, with the brackets of an IPv6 address.
    host: String,
    /// Never absent: the scheme has a default.
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Origins {
    pub fn new(rules: Vec<OriginRule>) -> Origins {
        Origins { rules }
    }

    /// Whether a request with these `Origin` and `Host` headers may go on.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let Ok(origin) = origin.parse::<Origin>() else { return false };
        self.rules.iter().any(|rule| match rule {
            OriginRule::Any => true,
            OriginRule::Exact(allowed) => *allowed == origin,
            OriginRule::Loopback => matches!(origin.host.as_str(), "localhost" | "127.0.0.1" | "[::1]"),
            // Behind a proxy that ends TLS, the scheme is the origin's own.
            OriginRule::Same => host.is_some_and(|host| {
                split_port(&host.to_ascii_lowercase(), origin.scheme)
                    .is_some_and(|(host, port)| host == origin.host && port == origin.port)
            }),
        })
    }
}

impl FromStr for OriginRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "same" => OriginRule::Same,
            "loopback" => OriginRule::Loopback,
            "any" => OriginRule::Any,
            _ => OriginRule::Exact(text.parse()?),
        })
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || {
            format!(
                "{text:?} is not an origin: write https://dashboard.example.com (no path), or same, loopback or any"
            )
        };
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = match lower.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(bad()),
        };
        if !text.is_ascii() {
            return Err(format!("{text:?} must be in the ASCII form that browsers send (xn--…)"));
        }
        let (host, port) = split_port(rest, scheme).ok_or_else(bad)?;
        Ok(Origin { scheme, host: host.to_owned(), port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Takes `host`, `host:port`, `[v6]` or `[v6]:port` apart.
fn split_port(text: &str, scheme: Scheme) -> Option<(&str, u16)> {
    let default = if scheme == Scheme::Http { 80 } else { 443 };
    let bracket = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[bracket..].split_once(':') {
        Some((before, port)) => {
            let plain = port.bytes().all(|b| b.is_ascii_digit());
            (&text[..bracket + before.len()], port.parse().ok().filter(|_| plain)?)
        }
        None => (text, default),
    };
    let valid = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    valid.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(rules: &[&str]) -> Origins {
        Origins::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn only_exact_origins_are_allowed() {
        let list = origins(&["https://good.com", "https://good.com:8443", "http://[::1]:3000"]);
        let table = [
            (Some("https://good.com"), true),
            (Some("https://good.com:443"), true),
            (Some("HTTPS://GOOD.COM"), true),
            (Some("https://good.com:8443"), true),
            (Some("http://[::1]:3000"), true),
            (None, true),
            (Some("http://good.com"), false),
            (Some("https://good.com:80"), false),
            (Some("https://good.com.evil"), false),
            (Some("https://evilgood.com"), false),
            (Some("https://evil.com/https://good.com"), false),
            (Some("https://good.com@evil.com"), false),
            (Some("https://evil.com#https://good.com"), false),
            (Some("https://good.com."), false),
            (Some("https://www.good.com"), false),
            (Some("https://good.com "), false),
            (Some("https://gооd.com"), false), // the two o are Cyrillic
            (Some("null"), false),
            (Some(""), false),
            (Some("good.com"), false),
            (Some("file://good.com"), false),
            (Some("https://good.com/"), false),
            (Some("https://good.com:"), false),
            (Some("https://good.com, https://good.com"), false),
        ];
        for (origin, allowed) in table {
            assert_eq!(list.allow(origin, Some("good.com")), allowed, "{origin:?}");
        }
    }

    #[test]
    fn same_means_the_host_that_was_asked() {
        let same = origins(&["same"]);
        for (origin, host, allowed) in [
            ("http://localhost:8080", "localhost:8080", true),
            ("https://a.example", "a.example", true),
            ("https://a.example", "A.example:443", true),
            ("http://a.example", "a.example:443", false),
            ("http://localhost:8080", "localhost:8081", false),
            ("https://evil.example", "a.example", false),
            ("http://[::1]:8080", "[::1]:8080", true),
        ] {
            assert_eq!(same.allow(Some(origin), Some(host)), allowed, "{origin} at {host}");
        }
        assert!(!same.allow(Some("https://a.example"), None));
    }

    #[test]
    fn loopback_and_any() {
        assert!(origins(&["loopback"]).allow(Some("http://localhost:5173"), None));
        assert!(!origins(&["loopback"]).allow(Some("http://localhost.evil.com"), None));
        assert!(origins(&["any"]).allow(Some("https://x.example"), None));
        assert!(!origins(&["any"]).allow(Some("null"), None));
        assert!(!origins(&[]).allow(Some("https://x.example"), Some("x.example")));
    }

    #[test]
    fn entries_that_could_never_match_are_refused() {
        for bad in [
            "good.com",
            "https://good.com/",
            "*",
            "https://*.good.com",
            "https://gööd.com",
            "null",
            "https://",
        ] {
            assert!(bad.parse::<OriginRule>().is_err(), "{bad}");
        }
    }
}
