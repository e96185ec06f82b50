//! `ParseSeverity`: the severity whose criteria a text or a number meets.

use super::{Arguments, Function, Kind, Prepared, converter, needed};
use crate::fault::Fault;
use crate::value::{Entries, Text, Value, entry};

pub(super) const TABLE: &[Function] = &[converter(
    "ParseSeverity",
    &[needed("target", Kind::Any), needed("severity_mapping", Kind::Severities)],
    parse_severity,
)];

/// Severities with their criteria, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Severities(Vec<(Vec<u8>, Criteria)>);

#[derive(Clone, Debug, Default)]
struct Criteria {
    texts: Vec<Vec<u8>>,
    /// Least and greatest.
    ranges: Vec<(i64, i64)>,
}

impl Severities {
    /// The criteria of a mapping such as `{"info": [{"equals": ["inf"]}, {"range": {"min": 200, "max": 299}}]}`.
    ///
    /// # Errors
    /// What was expected where.
    pub(crate) fn of(mapping: &Entries<'_>) -> Result<Severities, String> {
        let severity = |(name, criteria): &(Text<'_>, Value<'_>)| {
            let shown = String::from_utf8_lossy(name).into_owned();
            match criteria {
                Value::List(items) => Criteria::of(&shown, items).map(|criteria| (name.to_vec(), criteria)),
                other => Err(format!("expected a list of criteria for \"{shown}\", found {}", other.type_name())),
            }
        };
        mapping.iter().map(severity).collect::<Result<_, _>>().map(Severities)
    }

    fn find(&self, value: &Value<'_>) -> Option<&[u8]> {
        let meets = |criteria: &Criteria| match value {
            Value::Text(text) => criteria.texts.iter().any(|known| **known == **text),
            Value::Int(number) => criteria.ranges.iter().any(|(least, greatest)| (least..=greatest).contains(&number)),
            _ => false,
        };
        self.0.iter().find(|(_, criteria)| meets(criteria)).map(|(name, _)| &**name)
    }
}

impl Criteria {
    fn of(name: &str, items: &[Value<'_>]) -> Result<Criteria, String> {
        let mut criteria = Criteria::default();
        for item in items {
            let Value::Map(item) = item else {
                return Err(format!(
                    "expected a map with `equals` or `range` for \"{name}\", found {}",
                    item.type_name()
                ));
            };
            if let Some(texts) = entry(item, b"equals") {
                criteria.texts.extend(texts_of(name, texts)?);
            }
            if let Some(range) = entry(item, b"range") {
                criteria.ranges.push(range_of(range).ok_or_else(|| {
                    format!("expected {{\"min\": 1, \"max\": 2}} or \"2xx\" to \"5xx\" as `range` of \"{name}\"")
                })?);
            }
        }
        Ok(criteria)
    }
}

fn texts_of(name: &str, equals: &Value<'_>) -> Result<Vec<Vec<u8>>, String> {
    let Value::List(texts) = equals else {
        return Err(format!("expected a list as `equals` of \"{name}\", found {}", equals.type_name()));
    };
    let text = |item: &Value<'_>| match item {
        Value::Text(text) => Ok(text.to_vec()),
        other => Err(format!("expected strings in `equals` of \"{name}\", found {}", other.type_name())),
    };
    texts.iter().map(text).collect()
}

fn range_of(range: &Value<'_>) -> Option<(i64, i64)> {
    match range {
        Value::Map(range) => match (entry(range, b"min"), entry(range, b"max")) {
            (Some(Value::Int(least)), Some(Value::Int(greatest))) => Some((*least, *greatest)),
            _ => None,
        },
        Value::Text(class) => match &**class {
            [digit @ b'2'..=b'5', b'x', b'x'] => {
                let least = i64::from(digit - b'0') * 100;
                Some((least, least + 99))
            }
            _ => None,
        },
        _ => None,
    }
}

fn parse_severity<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let value = arguments.value(0);
    if !matches!(value, Value::Text(_) | Value::Int(_)) {
        return Err(Fault::wrong("a string or an integer", &value));
    }
    let Prepared::Severities(severities) = arguments.prepared else {
        return Err(Fault::invalid("the severities are not known"));
    };
    match severities.find(&value) {
        Some(name) => Ok(Value::Text(name.into())),
        None => Err(Fault::invalid("the value meets the criteria of no severity")),
    }
}
