//! Which media URLs are accepted beside what the published page says.

use std::sync::Arc;

/// Which hosts a media URL may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostPolicy {
    /// Only hosts that are reachable from the public internet: internal services will fetch these URLs.
    #[default]
    PublicOnly,
    /// Any host, for development.
    Any,
}

/// Which media URLs are accepted; the default is what the published page says. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MediaRules {
    pub(super) hosts: HostPolicy,
    pub(super) extensions: Extensions,
}

/// With what the path of a media URL may end.
#[derive(Debug, Clone, Default)]
pub(super) enum Extensions {
    /// With one of the published page's.
    #[default]
    Published,
    /// With one of these, too.
    And(Arc<MoreExtensions>),
    /// With anything.
    Any,
}

/// Extensions beside the published ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MoreExtensions {
    /// Of images.
    pub image: Vec<Extension>,
    /// Of audios.
    pub audio: Vec<Extension>,
}

/// How a path may end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extension {
    /// With this, such as `.webp`.
    Named(Box<str>),
    /// With a name that has no dot, as links that are tokens have it.
    Without,
}

impl MediaRules {
    /// Whatever any service of this kind may have accepted.
    pub fn anything() -> Self {
        Self { hosts: HostPolicy::Any, extensions: Extensions::Any }
    }

    /// The same rules with `more` extensions.
    #[must_use]
    pub fn with_extensions(self, more: MoreExtensions) -> Self {
        let is_none = more == MoreExtensions::default();
        Self { extensions: if is_none { self.extensions } else { Extensions::And(Arc::new(more)) }, ..self }
    }
}

impl From<HostPolicy> for MediaRules {
    fn from(hosts: HostPolicy) -> Self {
        Self { hosts, extensions: Extensions::Published }
    }
}

impl Extension {
    /// The word for [`Extension::Without`].
    pub const WITHOUT: &'static str = "none";

    /// Takes `none`, or a dot and 1 to 10 letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text == Self::WITHOUT {
            return Some(Self::Without);
        }
        let name = text.strip_prefix('.')?;
        let is_good = (1..=10).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
        is_good.then(|| Self::Named(text.to_ascii_lowercase().into()))
    }

    /// The text that is parsed to this.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Named(text) => text,
            Self::Without => Self::WITHOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_the_text_that_is_parsed_to_it() {
        for (text, shown) in [(".WebP", ".webp"), ("none", "none"), (".abcdefghij", ".abcdefghij")] {
            assert_eq!(Extension::parse(text).expect(text).as_str(), shown);
        }
    }

    #[test]
    fn no_more_extensions_leave_the_rules_as_they_are() {
        let rules = MediaRules::default().with_extensions(MoreExtensions::default());
        assert!(matches!(rules.extensions, Extensions::Published));
        assert!(matches!(
            MediaRules::anything().with_extensions(MoreExtensions::default()).extensions,
            Extensions::Any
        ));
    }
}
