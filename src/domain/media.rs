//! The one image or audio of a message, given by URL.

use std::{borrow::Cow, fmt};

use percent_encoding::percent_decode_str;
use url::{Position, Url};

use super::{
    Extension, Field, HostPolicy, MediaRules, Violation, ViolationCode, address,
    media_rules::{Extensions, MoreExtensions},
};

const MAX_URL_BYTES: usize = 2048;

/// An image or an audio, never both.
#[derive(Clone, PartialEq, Eq)]
pub enum Media {
    /// `.jpg`, `.jpeg` or `.png`.
    Image(MediaUrl),
    /// `.ogg`, `.mp3` or `.wav`.
    Audio(MediaUrl),
}

impl Media {
    /// Checks the URL of an image.
    ///
    /// # Errors
    /// A violation of field `image_urls`.
    pub fn image(url: String, rules: impl Into<MediaRules>) -> Result<Self, Violation> {
        MediaUrl::new(&IMAGE, url, &rules.into()).map(Media::Image)
    }

    /// Checks the URL of an audio.
    ///
    /// # Errors
    /// A violation of field `audio_urls`.
    pub fn audio(url: String, rules: impl Into<MediaRules>) -> Result<Self, Violation> {
        MediaUrl::new(&AUDIO, url, &rules.into()).map(Media::Audio)
    }

    /// The URL, whatever it leads to.
    pub fn url(&self) -> &MediaUrl {
        match self {
            Media::Image(url) | Media::Audio(url) => url,
        }
    }
}

/// An absolute `http` or `https` URL, kept exactly as it was sent.
#[derive(Clone)]
pub struct MediaUrl {
    text: Box<str>,
    /// Scheme, host, port and path as a parser writes them; `None` where the text was not parsed.
    unsigned: Option<Box<str>>,
}

/// What images and audios do not have in common.
struct KindOfMedia {
    field: Field,
    noun: &'static str,
    published: &'static [&'static str],
    more: fn(&MoreExtensions) -> &[Extension],
}

const IMAGE: KindOfMedia = KindOfMedia {
    field: Field::ImageUrls,
    noun: "image",
    published: &[".jpg", ".jpeg", ".png"],
    more: |more| &more.image,
};
const AUDIO: KindOfMedia = KindOfMedia {
    field: Field::AudioUrls,
    noun: "audio",
    published: &[".ogg", ".mp3", ".wav"],
    more: |more| &more.audio,
};

impl KindOfMedia {
    fn allows(&self, path: &[u8], extensions: &Extensions) -> bool {
        let has = |extension: &str| {
            // All of a path that is shorter, which then differs.
            let end = path.get(path.len().saturating_sub(extension.len())..);
            end.is_some_and(|end| end.eq_ignore_ascii_case(extension.as_bytes()))
        };
        let has_more = |extension: &Extension| match extension {
            Extension::Named(extension) => has(extension),
            Extension::Without => !path.rsplit(|b| *b == b'/').next().unwrap_or_default().contains(&b'.'),
        };
        self.published.iter().any(|extension| has(extension))
            || match extensions {
                Extensions::Published => false,
                Extensions::And(more) => (self.more)(more).iter().any(has_more),
                Extensions::Any => true,
            }
    }

    fn allowed<'a>(&'a self, extensions: &'a Extensions) -> Vec<&'a str> {
        let more = match extensions {
            Extensions::And(more) => (self.more)(more),
            Extensions::Published | Extensions::Any => &[],
        };
        let more = more.iter().map(|extension| match extension {
            Extension::Named(extension) => extension.as_ref(),
            Extension::Without => "a name without a dot",
        });
        self.published.iter().copied().chain(more).collect()
    }
}

impl MediaUrl {
    fn new(kind: &KindOfMedia, text: String, rules: &MediaRules) -> Result<Self, Violation> {
        let KindOfMedia { field, noun, .. } = kind;
        let violation = |code, message: String| Violation { field: field.clone(), code, message: message.into() };
        let invalid = |what: &str| violation(ViolationCode::InvalidUrl, format!("The {noun} URL {what}"));
        if text.len() > MAX_URL_BYTES {
            let message = format!("The {noun} URL has {} bytes; send at most {MAX_URL_BYTES}", text.len());
            return Err(violation(ViolationCode::TooLong, message));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(invalid("has white space or a control character; percent-encode it"));
        }
        let authority = authority(&text)
            .ok_or_else(|| invalid("must be absolute and begin with 'http://' or 'https://' and a host"))?;
        // A backslash is a slash to browsers and part of the host to others: whoever fetches the URL must not go
        // elsewhere than where this check looked.
        if text.contains('\\') {
            return Err(invalid("has a backslash; percent-encode it"));
        }
        if authority.contains('@') {
            return Err(invalid("must not carry a user name or password"));
        }
        let url = Url::parse(&text).map_err(|_| invalid("is not a valid URL"))?;
        let host = url.host().ok_or_else(|| invalid("must name a host"))?;
        if rules.hosts == HostPolicy::PublicOnly && !address::is_public(&host) {
            let message = format!("The {noun} URL names a host that is not reachable from the public internet");
            return Err(violation(ViolationCode::PrivateHost, message));
        }
        let path: Cow<'_, [u8]> = percent_decode_str(url.path()).into();
        if !kind.allows(&path, &rules.extensions) {
            let message =
                format!("The path of the {noun} URL must end in {}", kind.allowed(&rules.extensions).join(", "));
            return Err(violation(ViolationCode::UnsupportedExtension, message));
        }
        let unsigned = Some(url[..Position::AfterPath].into());
        Ok(Self { text: text.into(), unsigned })
    }

    /// Takes a URL that was checked when it was accepted; the rules of today do not apply to it.
    pub fn from_stored(text: impl Into<Box<str>>) -> Self {
        Self { text: text.into(), unsigned: None }
    }

    /// The text as sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, host, port and path: what stays the same when a link is signed again.
    pub(super) fn unsigned_part(&self) -> Cow<'_, str> {
        if let Some(unsigned) = &self.unsigned {
            return Cow::Borrowed(unsigned);
        }
        match Url::parse(&self.text) {
            Ok(url) => Cow::Owned(url[..Position::AfterPath].to_owned()),
            // Unreachable for what was accepted; the whole text is then the stricter comparison.
            Err(_) => Cow::Borrowed(&self.text),
        }
    }
}

/// The text as sent is the URL; the other part follows from it.
impl PartialEq for MediaUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for MediaUrl {}

/// What stands between `http(s)://` and the path, if anything does.
fn authority(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = rest.split(['/', '?', '#']).next()?;
    (http && !authority.is_empty()).then_some(authority)
}

// A signed URL is a secret and any URL is content.
impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Media::Image(_) => "Image(…)",
            Media::Audio(_) => "Audio(…)",
        })
    }
}

impl fmt::Debug for MediaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaUrl({} bytes)", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(url: &str) -> Result<Media, ViolationCode> {
        Media::image(url.to_owned(), HostPolicy::PublicOnly).map_err(|v| v.code)
    }

    #[test]
    fn public_urls_with_an_accepted_extension_are_kept_as_sent() {
        for url in [
            "https://example.com/images/food.jpg",
            "HTTPS://EXAMPLE.com/a.JPEG",
            "http://example.com:8080/a.png?sig=a%20b&x=@#frag",
            "https://bücher.example/straße/bild.png",
            "https://xn--bcher-kva.example/a.png",
            "https://example.com/a%2EJPG",
            "https://8.8.8.8/a.jpg",
            "https://[2606:4700::1111]/a.jpg",
            "https://[64:ff9b::808:808]/a.jpg",
            "https://192.0.0.9/a.jpg",
            "https://notlocalhost.example/a.jpg",
            "https://local.example./a.jpg",
            "https://internal.example.com/a.jpg",
            "https://mysvc.example/a.jpg",
            "https://1.1.1.1../a.jpg",
        ] {
            assert_eq!(image(url).as_ref().map(|m| m.url().as_str()), Ok(url), "{url}");
        }
    }

    #[test]
    fn extensions_that_a_setting_adds_are_taken_beside_the_published_ones_and_each_for_its_kind() {
        let extension = |text| Extension::parse(text).expect("good");
        let more =
            MoreExtensions { image: vec![extension(".WebP")], audio: vec![extension(".opus"), extension("none")] };
        let rules = MediaRules::default().with_extensions(more);
        let image = |path: &str| Media::image(format!("https://example.com/{path}"), rules.clone());
        let audio = |path: &str| Media::audio(format!("https://example.com/{path}"), rules.clone());
        for path in ["a.jpg", "a.webp?x=1", "a.WEBP"] {
            assert!(image(path).is_ok(), "{path}");
        }
        for path in ["a.opus", "a", "a/", "v1.0/attachments/?mid=1", "", "a.ogg"] {
            assert!(audio(path).is_ok(), "{path}");
        }
        for (refused, part) in [(image("a"), ".png, .webp"), (audio("a.webp"), ".opus, a name without a dot")] {
            let violation = refused.expect_err("refused");
            assert!(violation.message.ends_with(part), "{}", violation.message);
        }
        assert!(Media::image("http://db/x".into(), MediaRules::anything()).is_ok());
        for bad in ["webp", ".", ".a b", "", ".tar.gz", ".abcdefghijk"] {
            assert_eq!(Extension::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts_that_are_not_public_are_refused_in_any_spelling() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "a.localhost.",
            "localhost..",
            "a.localhost...",
            "ip6-localhost",
            "ip6-loopback",
            "localhost.localdomain",
            "localhost.localdomain.",
            "db",
            "kubernetes",
            "xn--bcher-kva",
            "printer.local",
            "metadata.google.internal",
            "metadata.google.internal..",
            "api.default.svc",
            "api.default.svc.cluster.local",
            "router.home.arpa",
            "home.arpa",
            "127.0.0.1..",
            "0x7f.1..",
            "10.0.0.1...",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "１２７.0.0.1",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:8.8.8.8]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::1]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd12::1]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[2001::1]",
            "[2002:7f00:1::]",
            "[3fff::1]",
            "[5f00::1]",
            "[100::1]",
            "[fec0::1]",
        ] {
            assert_eq!(image(&format!("http://{host}/a.jpg")), Err(ViolationCode::PrivateHost), "{host}");
            assert!(Media::image(format!("http://{host}/a.jpg"), HostPolicy::Any).is_ok(), "{host}");
        }
    }

    #[test]
    fn what_is_no_absolute_http_url_is_refused() {
        for url in [
            "",
            "food.jpg",
            "/food.jpg",
            "//example.com/a.jpg",
            "ftp://example.com/a.jpg",
            "https:example.com/a.jpg",
            "https:/example.com/a.jpg",
            "https:///a.jpg",
            "http://",
            "https://user@example.com/a.jpg",
            "https://u:p@example.com/a.jpg",
            "https://@example.com/a.jpg",
            "https://exa mple.com/a.jpg",
            " https://example.com/a.jpg",
            "https://example.com/a.jpg\n",
            "https://example.com\\@evil.com/a.jpg",
            "https://example.com:99999/a.jpg",
            "https://[::1/a.jpg",
            "javascript:a.jpg",
            "data:image/png,a.png",
            "https://example.com/a\u{0}.jpg",
            "https://1.2.3.4.5/a.jpg",
        ] {
            assert_eq!(image(url), Err(ViolationCode::InvalidUrl), "{url:?}");
        }
        assert_eq!(image(&format!("https://example.com/{}.jpg", "a".repeat(2048))), Err(ViolationCode::TooLong));
    }

    #[test]
    fn the_extension_is_judged_on_the_path_alone() {
        for url in [
            "https://example.com/a.gif",
            "https://example.com/a?x=.jpg",
            "https://example.com/a#.jpg",
            "https://example.jpg",
            "https://example.com/a.jpg/",
            "https://example.com/a.ogg",
        ] {
            assert_eq!(image(url), Err(ViolationCode::UnsupportedExtension), "{url}");
        }
        let audio = |url: &str| Media::audio(url.to_owned(), HostPolicy::PublicOnly).map_err(|v| v.code);
        assert!(audio("https://example.com/a.ogg").is_ok() && audio("https://example.com/a.MP3?x").is_ok());
        assert_eq!(audio("https://example.com/a.jpg"), Err(ViolationCode::UnsupportedExtension));
    }

    #[test]
    fn urls_are_the_same_where_their_texts_are() {
        let (url, other) = ("https://example.com/a.jpg?x=1", "https://example.com/a.jpg?x=2");
        let image = image(url).expect("good");
        assert!(*image.url() == MediaUrl::from_stored(url) && *image.url() != MediaUrl::from_stored(other));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_without_a_panic(text in "(https?://)?\\PC*") {
            let _ = Media::image(text.clone(), HostPolicy::PublicOnly);
            let _ = Media::audio(text, HostPolicy::Any);
        }

        #[test]
        fn every_private_ipv4_number_is_refused(host in 0x0a00_0000..=0x0aff_ffff_u32) {
            prop_assert_eq!(image(&format!("http://{host}/a.jpg")), Err(ViolationCode::PrivateHost));
            prop_assert_eq!(image(&format!("http://{host:#x}/a.jpg")), Err(ViolationCode::PrivateHost));
        }
    }
}
