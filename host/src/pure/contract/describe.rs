//! What may stand somewhere, in words.

use super::shape::{Node, Shapes, Tag};
use crate::base::error::printable;
use crate::base::limits::EXPECTED_BYTES_MAX;
use crate::pure::value::Whole;

/// Names the kinds of values that fit, and the constants one by one.
pub(super) fn describe(shapes: &Shapes, node: &Node) -> String {
    if node.any {
        return "anything".to_owned();
    }
    let mut kinds: Vec<String> = Vec::new();
    if !node.names.is_empty() {
        let names: Vec<String> = node.names.iter().map(|name| format!("\"{name}\"")).collect();
        let only = if names.len() == 1 { "" } else { "one of " };
        kinds.push(format!("{only}{}", names.join(", ")));
    }
    if !node.lengths.is_empty() {
        kinds.push("a string".to_owned());
    }
    match node.integers.as_slice() {
        [] => {}
        [(low, high)] if low < high => kinds.push(integers(*low, *high)),
        several => {
            let ranges = several.iter().map(|(low, high)| match low == high {
                true => low.to_string(),
                false => format!("{low} to {high}"),
            });
            kinds.push(ranges.collect::<Vec<_>>().join(" or "));
        }
    }
    if !node.numbers.is_empty() {
        kinds.push("a number".to_owned());
    }
    match node.booleans.as_slice() {
        [] => {}
        [only] => kinds.push(only.to_string()),
        _ => kinds.push("a boolean".to_owned()),
    }
    if !node.arrays.is_empty() {
        kinds.push("an array".to_owned());
    }
    kinds.extend(objects(shapes, node));
    if node.null {
        kinds.push("null".to_owned());
    }
    if kinds.is_empty() {
        return "nothing".to_owned();
    }
    printable(&kinds.join(" or "), EXPECTED_BYTES_MAX)
}

fn integers(low: Whole, high: Whole) -> String {
    match (low > Whole::MIN, high < Whole::MAX) {
        (true, true) => format!("an integer from {low} to {high}"),
        (true, false) => format!("an integer of at least {low}"),
        (false, true) => format!("an integer of at most {high}"),
        (false, false) => "an integer".to_owned(),
    }
}

fn objects(shapes: &Shapes, node: &Node) -> Option<String> {
    match (&node.tag, node.objects.as_slice()) {
        (_, []) => None,
        (Some(Tag::Outer(by)), _) => {
            let names: Vec<String> = by.keys().map(|name| format!("{{\"{name}\": ..}}")).collect();
            Some(names.join(" or "))
        }
        (Some(Tag::Inner(tag, _)), _) => Some(format!("an object with {tag}")),
        (None, [only]) => {
            let names: Vec<&str> = shapes.object(*only).required_names().collect();
            Some(match names.as_slice() {
                [] => "an object".to_owned(),
                names => format!("an object with {}", names.join(", ")),
            })
        }
        (None, _) => Some("an object".to_owned()),
    }
}
