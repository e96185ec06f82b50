//! Converters of lists and maps, and the one of numbers.

use std::cmp::Ordering;

use super::{Arguments, Function, Kind, converter, needed, optional};
use crate::fault::Fault;
use crate::value::{Value, same};

pub(super) const TABLE: &[Function] = &[
    converter("Coalesce", &[needed("values", Kind::List)], |arguments| {
        let found = arguments.list(0).into_iter().find(|value| *value != Value::Nil);
        Ok(found.unwrap_or_default())
    }),
    converter("ContainsValue", &[needed("target", Kind::List), needed("item", Kind::Any)], |arguments| {
        let (items, wanted) = (arguments.list(0), arguments.value(1));
        Ok(Value::Bool(items.iter().any(|item| same(item, &wanted))))
    }),
    converter("Keys", &[needed("target", Kind::Map)], |arguments| match arguments.value(0) {
        Value::Map(entries) => Ok(Value::List(entries.into_iter().map(|(key, _)| Value::Text(key)).collect())),
        _ => Err(Fault::Nil),
    }),
    converter("Log", &[needed("target", Kind::DoubleLike)], |arguments| match arguments.value(0) {
        Value::Double(value) if value > 0.0 => Ok(Value::Double(value.ln())),
        Value::Double(_) => Err(Fault::invalid("expected a number greater than zero")),
        _ => Err(Fault::Nil),
    }),
    converter("Sort", &[needed("target", Kind::List), optional("order", Kind::Choice(&["asc", "desc"]))], sort),
    converter("Values", &[needed("target", Kind::Map)], |arguments| match arguments.value(0) {
        Value::Map(entries) => Ok(Value::List(entries.into_iter().map(|(_, value)| value).collect())),
        _ => Err(Fault::Nil),
    }),
];

/// Numbers by size if all are numbers; else by their text if all are numbers, strings, bools or nil; else as they are.
fn sort<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let mut items = arguments.list(0);
    let is_descending = &*arguments.text(1) == b"desc";
    let directed = |order: Ordering| if is_descending { order.reverse() } else { order };
    if items.iter().all(|item| matches!(item, Value::Int(_) | Value::Double(_))) {
        items.sort_by(|left, right| directed(by_number(left, right)));
    } else if items.iter().all(|item| !matches!(item, Value::List(_) | Value::Map(_) | Value::Bytes(_))) {
        let mut keyed = Vec::with_capacity(items.len());
        for item in items {
            let key = match item.borrowed().into_text_like()? {
                Value::Text(text) => text.into_owned(),
                _ => Vec::new(),
            };
            keyed.push((key, item));
        }
        keyed.sort_by(|left, right| directed(left.0.cmp(&right.0)));
        items = keyed.into_iter().map(|(_, item)| item).collect();
    }
    Ok(Value::List(items))
}

fn by_number(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Double(left), Value::Double(right)) => left.total_cmp(right),
        (Value::Int(left), Value::Double(right)) => (*left as f64).total_cmp(right),
        (Value::Double(left), Value::Int(right)) => left.total_cmp(&(*right as f64)),
        _ => Ordering::Equal,
    }
}
