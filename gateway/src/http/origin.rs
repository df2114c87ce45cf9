//! Which pages may connect. Tokens do not travel in cookies, so another site's page cannot borrow its visitor's; this is
//! the second fence.

/// Allowed origins: exact matches of scheme, host and port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// As browsers write them: `https://dashboard.example`, lower case, no trailing slash, no default port.
    pub allowed: Vec<String>,
    /// Whether pages of this machine (`localhost`, `127.0.0.1`, `[::1]`, any port) may connect. For development.
    pub loopback: bool,
}

impl Origins {
    /// Whether a request may go on. `origin` is its header of that name: programs send none, browsers always do. `host`
    /// is the name by which the gateway itself was asked; its own pages may connect.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        if self.allowed.iter().any(|allowed| allowed == origin) {
            return true;
        }
        let Some(authority) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
        else {
            return false;
        };
        if host == Some(authority) {
            return true;
        }
        let name = match authority.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => authority,
        };
        self.loopback && matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_exactly_or_not_at_all() {
        let origins = Origins { allowed: vec!["https://good.example".into()], loopback: false };
        let host = Some("gateway.example:8443");
        let cases = [
            (None, true),
            (Some("https://good.example"), true),
            (Some("https://gateway.example:8443"), true),
            (Some("http://good.example"), false),
            (Some("https://good.example:444"), false),
            (Some("https://good.example.evil"), false),
            (Some("https://evil.good.example"), false),
            (Some("https://good.example/"), false),
            (Some("https://GOOD.example"), false),
            (Some("https://good.example@evil"), false),
            (Some("https://xn--good-example"), false),
            (Some("https://gооd.example"), false),
            (Some("https://gateway.example"), false),
            (Some("http://localhost:3000"), false),
            (Some("http://localhost.evil:3000"), false),
            (Some("file://"), false),
            (Some("null"), false),
            (Some(""), false),
            (Some("https://"), false),
            (Some("chrome-extension://abc"), false),
        ];
        for (origin, expected) in cases {
            assert_eq!(origins.allow(origin, host), expected, "{origin:?}");
        }
    }

    #[test]
    fn development_allows_this_machine_and_no_other() {
        let origins = Origins { allowed: vec![], loopback: true };
        for good in ["http://localhost:5173", "http://127.0.0.1", "http://[::1]:80"] {
            assert!(origins.allow(Some(good), None), "{good}");
        }
        for bad in ["http://localhost.evil:80", "http://127.0.0.1.evil", "http://evil", "http://127.0.0.1:x"]
        {
            assert!(!origins.allow(Some(bad), None), "{bad}");
        }
    }
}
