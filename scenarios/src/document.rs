//! A scenario file as text, and as a tree of values with their places in the text.
//!
//! A path names a place in the tree, as `[sweep]` and `--set` write it: `method`, `site.home.link.delay_ms`,
//! `step.0.count`. Elements of `carrier`, `site` and `node` are addressed by name, those of `step` by index from 0.
//!
//! Arguments `--set` count as text behind the file: a position beyond the file's end is in one of them. So every wrong
//! value has a place.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::error::{Place, Problem, ScenarioError};

/// A value and where it was written.
pub(crate) type Tree<'i> = Spanned<DeValue<'i>>;

/// A scenario file that is at least TOML.
#[derive(Clone, Debug)]
pub struct Document {
    file: String,
    text: String,
}

impl Document {
    /// Opens a scenario by path, or by the name of a built-in one.
    pub fn open(file: &str) -> Result<Self, ScenarioError> {
        let path = Path::new(file);
        // A bare word that is not a file can only be a name. The error about an unknown name lists all names.
        let name = path.extension().is_none() && path.components().count() == 1;
        if name && !path.is_file() { Self::embedded(file) } else { Self::load(path) }
    }

    /// Reads a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let file = path.as_ref().display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) => Err(whole_file(file, Problem::Read(error))),
        }
    }

    /// Takes a scenario that is built into this package, by name, with or without `.toml`.
    pub fn embedded(name: &str) -> Result<Self, ScenarioError> {
        let stem = name.strip_suffix(".toml").unwrap_or(name);
        if let Some((known, text)) = crate::EMBEDDED.iter().find(|(known, _)| *known == stem) {
            return Self::parse(&format!("scenarios/{known}.toml"), text);
        }
        let known = crate::EMBEDDED.iter().map(|(known, _)| (*known).to_owned()).collect();
        Err(whole_file(name.to_owned(), Problem::NotEmbedded { known }))
    }

    /// Takes a text; `file` is what errors call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let document = Self { file: file.to_owned(), text: text.to_owned() };
        Source { document: &document, sets: &[] }.tree()?;
        Ok(document)
    }

    /// What errors call it: its path.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its name without folder and ending: the stem of its results file and figure.
    pub fn stem(&self) -> &str {
        Path::new(&self.file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(&self.file)
    }
}

fn whole_file(file: String, problem: Problem) -> ScenarioError {
    ScenarioError::new(Place::File { file }, None, problem)
}

/// A document and the arguments laid over it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'i> {
    /// The file.
    pub(crate) document: &'i Document,
    /// `--set` keys and values.
    pub(crate) sets: &'i [(String, String)],
}

impl<'i> Source<'i> {
    /// Parses the file.
    pub(crate) fn tree(self) -> Result<Tree<'i>, ScenarioError> {
        let text = &self.document.text;
        match DeTable::parse(text) {
            Ok(table) => Ok(Spanned::new(table.span(), DeValue::Table(table.into_inner()))),
            Err(error) => {
                let offset = error.span().map_or(text.len(), |span| span.start);
                let problem = Problem::Syntax(error.message().replace('\n', ", "));
                Err(ScenarioError::new(self.place(offset), None, problem))
            }
        }
    }

    /// The value of a `--set`: TOML if it parses, or else text without quotes.
    pub(crate) fn set_value(self, index: usize) -> Tree<'i> {
        let (key, value) = &self.sets[index];
        let start = self.set_start(index) + key.len() + 1;
        match DeValue::parse(value) {
            Ok(tree) => shift(tree, start),
            Err(_) => Spanned::new(start..start + value.len(), DeValue::String(Cow::Borrowed(value.as_str()))),
        }
    }

    /// The place of the key of a `--set`.
    pub(crate) fn set_key(self, index: usize) -> Range<usize> {
        let start = self.set_start(index);
        start..start + self.sets[index].0.len()
    }

    fn set_start(self, index: usize) -> usize {
        let before: usize = self.sets[..index].iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        self.document.text.len() + 1 + before
    }

    /// The place of a position.
    pub(crate) fn place(self, offset: usize) -> Place {
        let file = self.document.file.clone();
        if let Some(index) = (0..self.sets.len()).rev().find(|i| offset >= self.set_start(*i)) {
            let (key, value) = &self.sets[index];
            return Place::Set { file, argument: format!("{key}={value}") };
        }
        let before = self.document.text.get(..offset).unwrap_or(&self.document.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::Text { file, line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    /// An error at a path of the tree, or at its deepest part that exists.
    pub(crate) fn error(self, tree: &Tree<'_>, path: &str, problem: Problem) -> ScenarioError {
        let place = self.place(span_of(tree, path).start);
        let key = (!path.is_empty()).then(|| named(tree, path));
        ScenarioError::new(place, key, problem)
    }
}

/// Moves a value's place, and those within it.
fn shift(tree: Tree<'_>, by: usize) -> Tree<'_> {
    let span = tree.span();
    let value = match tree.into_inner() {
        DeValue::Array(array) => DeValue::Array(array.into_iter().map(|item| shift(item, by)).collect::<DeArray<'_>>()),
        DeValue::Table(table) => {
            let mut moved = DeTable::new();
            for (key, value) in table {
                let at = key.span();
                moved.insert(Spanned::new(at.start + by..at.end + by, key.into_inner()), shift(value, by));
            }
            DeValue::Table(moved)
        }
        scalar => scalar,
    };
    Spanned::new(span.start + by..span.end + by, value)
}

/// The segments of a path.
pub(crate) fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|segment| !segment.is_empty())
}

/// One step down the tree; elements of lists by index.
pub(crate) fn child<'t, 'i>(tree: &'t Tree<'i>, segment: &str) -> Option<&'t Tree<'i>> {
    match tree.get_ref() {
        DeValue::Table(table) => table.get(segment),
        DeValue::Array(array) => array.get(segment.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Where the deepest part of a path that exists was written.
fn span_of(tree: &Tree<'_>, path: &str) -> Range<usize> {
    let mut at = tree;
    for segment in segments(path) {
        match child(at, segment) {
            Some(next) => at = next,
            None => break,
        }
    }
    at.span()
}

/// A path with indices, written with names where elements have names.
pub(crate) fn named(tree: &Tree<'_>, path: &str) -> String {
    let mut at = Some(tree);
    let mut words = Vec::new();
    for segment in segments(path) {
        let in_list = at.is_some_and(|t| t.get_ref().is_array());
        at = at.and_then(|t| child(t, segment));
        let name = if in_list { at.and_then(name_of) } else { None };
        words.push(name.unwrap_or(segment));
    }
    words.join(".")
}

/// The `name` of a table.
fn name_of<'t>(tree: &'t Tree<'_>) -> Option<&'t str> {
    child(tree, "name")?.get_ref().as_str()
}

/// Turns a path with names into one with indices. Keys that the file does not have may follow, if they can be keys of
/// tables.
pub(crate) fn indexed(tree: &Tree<'_>, path: &str) -> Result<String, Problem> {
    if path.is_empty() || path.split('.').any(str::is_empty) {
        return Err(Problem::EmptyPath);
    }
    let mut at = Some(tree);
    let mut words: Vec<String> = Vec::new();
    for segment in path.split('.') {
        let list = match at.map(Spanned::get_ref) {
            Some(DeValue::Array(list)) => Some(list.as_ref()),
            None if words.len() == 1 && ["carrier", "site", "node", "step"].contains(&words[0].as_str()) => {
                Some([].as_slice())
            }
            Some(DeValue::Table(_)) | None => None,
            Some(_) => return Err(Problem::NotATable { within: named(tree, &words.join(".")) }),
        };
        let word = match list {
            None => segment.to_owned(),
            Some(list) => element(list, segment)
                .ok_or_else(|| unknown_element(words.last().map_or("", String::as_str), list, segment))?
                .to_string(),
        };
        at = at.and_then(|t| child(t, &word));
        words.push(word);
    }
    Ok(words.join("."))
}

fn element(list: &[Tree<'_>], segment: &str) -> Option<usize> {
    let by_name = list.iter().position(|item| name_of(item) == Some(segment));
    by_name.or_else(|| segment.parse().ok().filter(|index| *index < list.len()))
}

fn unknown_element(list_name: &str, list: &[Tree<'_>], segment: &str) -> Problem {
    let found = segment.to_owned();
    let known = (0..list.len()).map(|i| name_of(&list[i]).map_or_else(|| i.to_string(), str::to_owned)).collect();
    match list_name {
        "carrier" => Problem::UnknownCarrier { found, known },
        "site" => Problem::UnknownSite { found, known },
        "node" => Problem::UnknownNode { found, known },
        _ => Problem::UnknownKey { found, known },
    }
}

/// Puts a value at a path with indices; tables that are missing on the way are made, as written at `key`.
pub(crate) fn put<'i>(tree: &mut Tree<'i>, path: &str, key: &Range<usize>, value: Tree<'i>) {
    let (segment, rest) = path.split_once('.').map_or((path, None), |(segment, rest)| (segment, Some(rest)));
    let slot = match tree.get_mut() {
        DeValue::Table(table) => table
            .entry(Spanned::new(key.clone(), Cow::Owned(segment.to_owned())))
            .or_insert_with(|| Spanned::new(key.clone(), DeValue::Table(DeTable::new()))),
        DeValue::Array(array) => match segment.parse::<usize>().ok().and_then(|index| array.get_mut(index)) {
            Some(slot) => slot,
            None => return,
        },
        _ => return,
    };
    match rest {
        None => *slot = value,
        Some(rest) => put(slot, rest, key, value),
    }
}

/// The path, with indices, of the deepest value written at `span`, or of the key written there.
pub(crate) fn path_at(tree: &Tree<'_>, span: &Range<usize>) -> Option<String> {
    let below = |segment: &str, item: &Tree<'_>| {
        path_at(item, span).map(|rest| if rest.is_empty() { segment.to_owned() } else { format!("{segment}.{rest}") })
    };
    let found = match tree.get_ref() {
        DeValue::Table(table) => table.iter().find_map(|(key, item)| {
            below(key.get_ref(), item).or_else(|| (key.span() == *span).then(|| key.get_ref().to_string()))
        }),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(i, item)| below(&i.to_string(), item)),
        _ => None,
    };
    found.or_else(|| (tree.span() == *span).then(String::new))
}

/// A value as a label: text without quotes, lists joined with `+`.
pub(crate) fn label(tree: &Tree<'_>) -> String {
    match tree.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(value) => value.to_string(),
        DeValue::Array(array) => array.iter().map(label).collect::<Vec<_>>().join("+"),
        DeValue::Table(table) => {
            table.iter().map(|(k, v)| format!("{}={}", k.get_ref(), label(v))).collect::<Vec<_>>().join("+")
        }
    }
}
