//! Which paths a source file names. Works on tokens, so comments, texts and layout do not matter.

use std::collections::HashMap;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Something that a source file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourcePath {
    /// A path of this crate, without `crate::`, `super` resolved.
    Own(String),
    /// A path that begins outside of this crate, as written.
    Other(String),
    /// The keyword `async`.
    Async,
}

/// All paths that `source`, the text of `module`, names, except in its unit tests.
pub fn paths_of(module: &str, source: &str) -> Vec<SourcePath> {
    let tokens: TokenStream = source.parse().unwrap_or_else(|e| panic!("{module}: not Rust: {e}"));
    let mut walk = Walk { found: Vec::new(), imported: HashMap::new() };
    let module: Vec<String> = module.split("::").map(str::to_owned).collect();
    walk.tokens(&module, tokens);
    walk.found
}

struct Walk {
    found: Vec<SourcePath>,
    /// What a name brought in by `use` stands for, so that `use crate::a; a::b` counts as `crate::a::b`.
    imported: HashMap<String, Vec<String>>,
}

impl Walk {
    fn tokens(&mut self, module: &[String], tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let mut in_test = false;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    if let Some(TokenTree::Group(attribute)) = tokens.get(at + 1) {
                        let text = attribute.stream().to_string().replace(' ', "");
                        in_test |= text == "cfg(test)";
                        if text.starts_with("doc=") {
                            at += 1;
                        }
                    }
                }
                TokenTree::Ident(word) if *word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                    {
                        if !in_test {
                            let inner = [module, &[name.to_string()]].concat();
                            self.tokens(&inner, body.stream());
                        }
                        at += 2;
                    }
                    in_test = false;
                }
                TokenTree::Ident(word) if *word == "use" => {
                    let end =
                        tokens[at..].iter().position(|token| is_punct(token, ';')).map_or(tokens.len(), |n| at + n);
                    // `impl Trait + use<'a>` is another `use`.
                    let import = !tokens.get(at + 1).is_some_and(|token| is_punct(token, '<'));
                    if import {
                        if !in_test {
                            self.use_tree(module, &[], &tokens[at + 1..end]);
                        }
                        in_test = false;
                        at = end;
                    }
                }
                TokenTree::Ident(word) if *word == "async" => self.found.push(SourcePath::Async),
                TokenTree::Ident(_) => {
                    let (path, next) = path_at(&tokens, at);
                    let after_dot = at > 0 && is_punct(&tokens[at - 1], '.');
                    if !after_dot && path.len() > 1 {
                        self.note(module, &path, false);
                    }
                    at = next - 1;
                }
                TokenTree::Group(group) => {
                    self.tokens(module, group.stream());
                    in_test &= group.delimiter() != Delimiter::Brace;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    /// Notes every leaf of a use tree: `a::{b, c::d as e}`.
    fn use_tree(&mut self, module: &[String], head: &[String], tokens: &[TokenTree]) {
        for branch in tokens.split(|token| is_punct(token, ',')) {
            // After a comma at the end of a list.
            if branch.is_empty() {
                continue;
            }
            let mut path = head.to_vec();
            let mut leaf = true;
            let mut alias = None;
            for (at, token) in branch.iter().enumerate() {
                match token {
                    TokenTree::Ident(word) if *word == "as" => {
                        alias = branch.get(at + 1).map(ToString::to_string);
                        break;
                    }
                    TokenTree::Ident(word) if *word == "self" && !path.is_empty() => {}
                    TokenTree::Ident(word) => path.push(word.to_string()),
                    TokenTree::Group(inner) => {
                        leaf = false;
                        self.use_tree(module, &path, &inner_tokens(inner));
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if leaf && !path.is_empty() {
                let name = alias.or_else(|| path.last().cloned());
                let full = self.note(module, &path, true);
                if let (Some(name), Some(full)) = (name, full) {
                    self.imported.insert(name, full);
                }
            }
        }
    }

    /// Notes `path` and gives it in full where it belongs to this crate.
    fn note(&mut self, module: &[String], path: &[String], import: bool) -> Option<Vec<String>> {
        let mut full = match path[0].as_str() {
            "crate" | "message_webhook" => Vec::new(),
            "self" | "super" => module.to_vec(),
            first => match self.imported.get(first) {
                Some(known) if !import => known.clone(),
                _ => {
                    self.found.push(SourcePath::Other(path.join("::")));
                    return None;
                }
            },
        };
        for segment in path
            .iter()
            .skip_while(|segment| *segment == "self")
            .skip(usize::from(path[0] != "super" && path[0] != "self"))
        {
            if segment == "super" {
                full.pop();
            } else {
                full.push(segment.clone());
            }
        }
        self.found.push(SourcePath::Own(full.join("::")));
        Some(full)
    }
}

/// The path that begins at `at`, and the place after it.
fn path_at(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        path.push(word.to_string());
        at += 1;
        let colons = [at, at + 1].iter().all(|place| tokens.get(*place).is_some_and(|token| is_punct(token, ':')));
        if !colons || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
            break;
        }
        at += 2;
    }
    (path, at)
}

fn inner_tokens(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}
