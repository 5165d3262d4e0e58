//! Where a web page is from, as browsers tell it.

use std::fmt;

use url::{Origin as Known, Url};

/// An origin as browsers send it, e.g. `https://shop.example.com`; two are the same when their texts are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin(Box<str>);

/// Why a text is no origin. It is shown without the text itself, which somebody may have mixed up with a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoOrigin {
    /// It is no scheme and host.
    Malformed,
    /// It stands for many.
    Pattern,
    /// Browsers write this instead: a path, a slash at the end, the usual port or a large letter is too much.
    Otherwise(Origin),
}

impl Origin {
    /// The most bytes: a host has 253, and the rest is a scheme and a port.
    const MOST_BYTES: usize = 300;

    /// Takes `scheme://host` or `scheme://host:port`, with the scheme of an app, too.
    ///
    /// # Errors
    /// [`NoOrigin`].
    pub fn parse(text: &str) -> Result<Self, NoOrigin> {
        if text.contains('*') {
            return Err(NoOrigin::Pattern);
        }
        let url = Url::parse(text).map_err(|_| NoOrigin::Malformed)?;
        let Some(host) = url.host_str().filter(|host| !host.is_empty() && url.scheme() != "file") else {
            return Err(NoOrigin::Malformed);
        };
        let origin = match url.origin() {
            // An app's own scheme, such as capacitor://localhost, of which a parser knows no more than its parts.
            Known::Opaque(_) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                format!("{}://{host}{port}", url.scheme())
            }
            known @ Known::Tuple(..) => known.ascii_serialization(),
        };
        if origin.len() > Self::MOST_BYTES || origin.contains(char::is_whitespace) {
            return Err(NoOrigin::Malformed);
        }
        let is_it = origin == text;
        let origin = Self(origin.into());
        if is_it { Ok(origin) } else { Err(NoOrigin::Otherwise(origin)) }
    }

    /// Takes a text back that was taken before: what is stored stays readable, whatever is taken today. Browsers' are compared with it
    /// byte for byte.
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Goes on after `'…' `, or after the name of a field.
impl fmt::Display for NoOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoOrigin::Malformed => {
                f.write_str("is no origin; write scheme://host or scheme://host:port, e.g. https://widget.example.com")
            }
            NoOrigin::Pattern => {
                f.write_str("is a pattern, and origins are compared as they stand; write each of them")
            }
            NoOrigin::Otherwise(origin) => write!(f, "is not what browsers send; write '{origin}'"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_origin_is_what_browsers_send_and_anything_else_is_told_with_what_they_would() {
        for good in [
            "https://a.example",
            "http://localhost:3000",
            "http://[::1]:8080",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
        ] {
            assert_eq!(Origin::parse(good).expect(good).as_str(), good);
        }
        for (bad, instead) in [
            ("https://a.example/", "https://a.example"),
            ("https://a.example/chat?x=1", "https://a.example"),
            ("https://a.example:443", "https://a.example"),
            ("https://A.example", "https://a.example"),
            ("https://user:secret@a.example", "https://a.example"),
            ("capacitor://localhost/", "capacitor://localhost"),
        ] {
            let told = Origin::parse(bad).expect_err(bad).to_string();
            assert!(told.ends_with(&format!("write '{instead}'")), "{told}");
        }
        assert_eq!(Origin::parse("https://*.example.com"), Err(NoOrigin::Pattern));
        let long = format!("https://{}", ["a"; 200].join("."));
        for bad in ["a.example", "", "null", "file:///x", "data:x", "mw_dev_secret", long.as_str()] {
            assert_eq!(Origin::parse(bad), Err(NoOrigin::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_itself_or_refused_without_a_panic(text in "([a-z]+://)?\\PC*") {
            if let Ok(origin) = Origin::parse(&text) {
                prop_assert_eq!(origin.as_str(), text);
            }
        }
    }
}
