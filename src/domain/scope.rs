//! What keys may do.

use std::{fmt, str::FromStr};

use super::{Violation, ViolationCode};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Submit messages.
    Submit,
    /// Look messages up and list them.
    Read,
    /// Follow the feed.
    Stream,
    /// Manage keys.
    Admin,
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scope {
    /// All scopes.
    pub const ALL: [Scope; 4] = [Scope::Submit, Scope::Read, Scope::Stream, Scope::Admin];

    /// The word in commands, files and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Submit => "submit",
            Scope::Read => "read",
            Scope::Stream => "stream",
            Scope::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Scope::Submit => 1,
            Scope::Read => 2,
            Scope::Stream => 4,
            Scope::Admin => 8,
        }
    }
}

impl Scopes {
    /// Whether `scope` is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as one byte, for the store.
    pub fn to_bits(self) -> u8 {
        self.0
    }

    /// Takes what [`Scopes::to_bits`] gave; unknown bits of a later version grant nothing here.
    pub fn from_bits(bits: u8) -> Self {
        Scope::ALL.into_iter().filter(|scope| bits & scope.bit() != 0).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl FromStr for Scope {
    type Err = Violation;

    fn from_str(word: &str) -> Result<Self, Violation> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == word).ok_or_else(|| Violation {
            field: "scopes".into(),
            code: ViolationCode::InvalidValue,
            message: "A scope must be 'submit', 'read', 'stream' or 'admin'".into(),
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_scopes_has_what_was_put_into_it_and_nothing_else() {
        assert!(Scopes::default().is_empty());
        for scope in Scope::ALL {
            let alone = Scopes::from_iter([scope]);
            assert!(Scope::ALL.into_iter().all(|other| alone.contains(other) == (other == scope)));
            assert!(!alone.is_empty() && alone.iter().eq([scope]));
            assert_eq!(Scopes::from_bits(alone.to_bits() | 0xf0), alone);
            assert_eq!((scope.as_str().parse(), scope.to_string().as_str()), (Ok(scope), scope.as_str()));
        }
        let all: Scopes = Scope::ALL.into_iter().collect();
        assert_eq!((all.to_bits(), Scopes::from_bits(15)), (15, all));
        assert_eq!("Submit".parse::<Scope>().expect_err("no scope").field.as_str(), "scopes");
    }
}
