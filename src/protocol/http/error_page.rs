//! The page that `doc_url` in errors leads to: the tables of `docs/error-codes.md`, which a test holds against THE tables of
//! statuses, as HTML. Each code is an anchor.

use std::fmt::Write as _;

/// The document as it is in the sources.
const SOURCE: &str = include_str!("../../../docs/error-codes.md");

const BEGIN: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Error codes of the Message Webhook API</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
  code { font: 14px/1.45 ui-monospace, monospace; } tr:target { background: #fff3c4; }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #d8dee6; }
  @media (prefers-color-scheme: dark) {
    body { background: #14181e; color: #dde3ea; } th, td { border-color: #333c48; } tr:target { background: #4a4020; }
  }
</style>
</head>
<body>
"#;
const END: &str = "<p><a href=\"/docs\">The API</a></p>\n</body>\n</html>\n";

/// The page.
pub(super) fn html() -> String {
    let mut html = BEGIN.to_owned();
    let mut lines = SOURCE.lines().peekable();
    while let Some(line) = lines.next() {
        // Writing to a text does not fail.
        let _ = match line {
            "" => Ok(()),
            _ if line.starts_with("## ") => writeln!(html, "<h2>{}</h2>", inline(line.trim_start_matches("## "))),
            _ if line.starts_with("# ") => writeln!(html, "<h1>{}</h1>", inline(line.trim_start_matches("# "))),
            _ if line.starts_with('|') => {
                let _ = write!(html, "<table>\n<thead>{}</thead>\n<tbody>\n", row(line, "th"));
                // After the line below the headings.
                lines.next();
                while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
                    let _ = writeln!(html, "{}", row(line, "td"));
                }
                writeln!(html, "</tbody>\n</table>")
            }
            _ => {
                let mut text = line.to_owned();
                while let Some(more) = lines.next_if(|line| !line.is_empty() && !line.starts_with(['|', '#'])) {
                    text.push(' ');
                    text.push_str(more);
                }
                writeln!(html, "<p>{}</p>", inline(&text))
            }
        };
    }
    html + END
}

/// One row of a table; its first cell, where it is a code, is its name.
fn row(line: &str, tag: &str) -> String {
    let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let code = cells.first().and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
    let begin = code.map_or_else(|| "<tr>".to_owned(), |code| format!("<tr id=\"{code}\">"));
    cells.into_iter().fold(begin, |row, cell| row + &format!("<{tag}>{}</{tag}>", inline(cell))) + "</tr>"
}

/// A text with what it marks as code. Where its links lead the server has no pages: their words are kept.
fn inline(text: &str) -> String {
    let mut html = String::new();
    for (number, part) in text.split('`').enumerate() {
        let escaped = unlinked(part).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        if number % 2 == 1 {
            html += &format!("<code>{escaped}</code>");
        } else {
            html += &escaped;
        }
    }
    html
}

/// `[words](place)` as the words.
fn unlinked(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, (words, (_, after)))) = rest
        .split_once('[')
        .and_then(|(before, link)| Some((before, link.split_once("](")?)))
        .and_then(|(before, (words, place))| Some((before, (words, place.split_once(')')?))))
    {
        plain += before;
        plain += words;
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::status;

    #[test]
    fn every_code_has_its_row_with_its_statuses_and_no_mark_of_the_source_is_left() {
        let html = html();
        for face in status::all() {
            let row = html.lines().find(|line| line.contains(&format!("<tr id=\"{}\">", face.code)));
            let row = row.unwrap_or_else(|| panic!("no row of {}", face.code));
            assert!(row.contains(&format!("<td>{}</td>", face.http.as_u16())), "{row}");
            assert_eq!(row.matches("<td>").count(), 6, "{row}");
        }
        assert!(html.contains("<tr id=\"private_host\">"), "codes of fields too");
        for mark in ["`", "](", "| ", "##", "---"] {
            assert!(!html.contains(mark), "{mark}");
        }
    }
}
