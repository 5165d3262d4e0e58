//! Text files as editors of any system write them.

const MARK: char = '\u{feff}';

/// The text of a file's `bytes`, without a byte order mark at its beginning.
///
/// # Errors
/// What the file is instead of UTF-8; none of its content.
pub fn text_of_file(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16; save it as UTF-8".into());
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))?;
    Ok(text.strip_prefix(MARK).map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_no_part_of_the_text_and_utf_16_is_told_as_that() {
        assert_eq!(text_of_file(b"\xef\xbb\xbfa\r\n".to_vec()).as_deref(), Ok("a\r\n"));
        for utf_16 in [b"\xff\xfea\0".to_vec(), b"\xfe\xff\0a".to_vec()] {
            assert!(text_of_file(utf_16).is_err_and(|wrong| wrong.contains("UTF-16")));
        }
        assert_eq!(text_of_file(b"ab\xff".to_vec()), Err("is not UTF-8 from byte 2 on".into()));
    }
}
