//! The layout of every message as text: the tables in `PROTOCOL.md` and in `wireshark/cyphonic.lua`,
//! which a test holds equal to these.

use std::fmt::Write;

use super::field::{self, Field};
use super::{choice_rows, error_rows, message_rows, part_rows};

/// The tables of messages, of groups of fields, and of choices, in Markdown.
///
/// They fit the codec, because both come from the table in [`super`].
pub fn layout() -> String {
    let mut text = String::from("| type | message | what it is for | body |\n|---|---|---|---|\n");
    let mut messages = message_rows();
    messages.sort_by_key(|&(number, ..)| number);
    for (number, name, purpose, body) in messages {
        let purpose = purpose.trim();
        writeln!(text, "| {number} | {name} | {purpose} | {body} |").expect("a string takes everything");
    }
    text += "\n| group of fields | fields |\n|---|---|\n";
    for (name, fields) in part_rows() {
        writeln!(text, "| {name} | {fields} |").expect("a string takes everything");
    }
    text += "\n| choice | values, and what follows each |\n|---|---|\n";
    for (name, values) in choice_rows() {
        writeln!(text, "| {name} | {values} |").expect("a string takes everything");
    }
    let codes: Vec<String> = error_rows().iter().map(|(number, text, data)| format!("{number} {text}{data}")).collect();
    writeln!(text, "| error code | {} |", codes.join(", ")).expect("a string takes everything");
    text
}

/// How the field of a group travels, found by its type.
pub(super) fn notation_of<S, F: Field>(_: impl Fn(&S) -> &F) -> String {
    F::notation()
}

/// Fields in the order in which they travel. A type that is called like its field is not named twice.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let each = fields.iter().map(|(name, notation)| {
        let name = name.replace('_', " ");
        if notation.trim_end_matches('?').trim_end_matches(field::IF_MORE) == name {
            notation.clone()
        } else {
            format!("{name} {notation}")
        }
    });
    each.collect::<Vec<_>>().join(" · ")
}

/// The cell of a body; a message without one has "nothing".
pub(super) fn body(notation: &[String]) -> String {
    notation.first().cloned().unwrap_or_else(|| "nothing".to_owned())
}

/// The values of a choice, with the data that follows each.
pub(super) fn choices(values: &[(u8, &str, &[String])]) -> String {
    let each = values.iter().map(|(number, variant, data)| format!("{number} {}{}", words(variant), self::data(data)));
    each.collect::<Vec<_>>().join(", ")
}

/// What follows the number of a choice, if anything does.
pub(super) fn data(data: &[String]) -> String {
    data.iter().map(|notation| format!(" and then {notation}")).collect::<Vec<_>>().concat()
}

/// `OtherPort` is "other port".
fn words(variant: &str) -> String {
    let mut words = String::new();
    for letter in variant.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
