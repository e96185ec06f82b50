//! Converters of times and durations. The time of day is given to the evaluator, never fetched.

use super::{Arguments, Function, Kind, Parameter, Prepared, converter, needed, optional};
use crate::fault::Fault;
use crate::time::{Civil, format_time, parse_duration, parse_time, weekday};
use crate::value::Value;

const TIME: &[Parameter] = &[needed("time", Kind::Time)];
const DURATION: &[Parameter] = &[needed("duration", Kind::Duration)];

pub(super) const TABLE: &[Function] = &[
    converter("Day", TIME, |arguments| Ok(Value::Int(civil(arguments).day))),
    converter("Duration", &[needed("duration", Kind::Text)], |arguments| {
        let parsed = parse_duration(&arguments.letters(0));
        parsed.map(Value::Duration).ok_or(Fault::invalid("the string is no duration such as 1h30m or 1.5s"))
    }),
    converter("FormatTime", &[needed("time", Kind::Time), needed("format", Kind::TimeFormat)], |arguments| {
        Ok(Value::owned_text(format_time(arguments.int(0), &arguments.letters(1))))
    }),
    converter("Hour", TIME, |arguments| Ok(Value::Int(civil(arguments).hour))),
    converter("Hours", DURATION, |arguments| Ok(Value::Double(arguments.int(0) as f64 / 3.6e12))),
    converter("Microseconds", DURATION, |arguments| Ok(Value::Int(arguments.int(0) / 1000))),
    converter("Milliseconds", DURATION, |arguments| Ok(Value::Int(arguments.int(0) / 1_000_000))),
    converter("Minute", TIME, |arguments| Ok(Value::Int(civil(arguments).minute))),
    converter("Minutes", DURATION, |arguments| Ok(Value::Double(arguments.int(0) as f64 / 6e10))),
    converter("Month", TIME, |arguments| Ok(Value::Int(civil(arguments).month))),
    converter("Nanosecond", TIME, |arguments| Ok(Value::Int(civil(arguments).nanosecond))),
    converter("Nanoseconds", DURATION, |arguments| Ok(Value::Int(arguments.int(0)))),
    converter("Now", &[], |arguments| Ok(Value::Time(arguments.environment.now_unix_ns))),
    converter("Second", TIME, |arguments| Ok(Value::Int(civil(arguments).second))),
    converter("Seconds", DURATION, |arguments| Ok(Value::Double(arguments.int(0) as f64 / 1e9))),
    converter(
        "Time",
        &[
            needed("time", Kind::Text),
            needed("format", Kind::TimeFormat),
            optional("location", Kind::Location),
            optional("locale", Kind::Choice(&["", "en", "en-US"])),
        ],
        |arguments| {
            let zone = match arguments.prepared {
                Prepared::Zone(zone) => Some(zone),
                _ => None,
            };
            let now = arguments.environment.now_unix_ns;
            parse_time(&arguments.letters(0), &arguments.letters(1), zone, now).map(Value::Time)
        },
    ),
    converter("TruncateTime", &[needed("time", Kind::Time), needed("duration", Kind::Duration)], |arguments| {
        Ok(Value::Time(truncate(arguments.int(0), arguments.int(1))))
    }),
    converter("Unix", &[needed("seconds", Kind::Int), optional("nanoseconds", Kind::Int)], |arguments| {
        let time = arguments.int(0).checked_mul(1_000_000_000);
        let time = time.and_then(|time| time.checked_add(arguments.int(1)));
        time.map(Value::Time).ok_or(Fault::invalid("expected a time between the years 1678 and 2262"))
    }),
    converter("UnixMicro", TIME, |arguments| Ok(Value::Int(arguments.int(0).div_euclid(1000)))),
    converter("UnixMilli", TIME, |arguments| Ok(Value::Int(arguments.int(0).div_euclid(1_000_000)))),
    converter("UnixNano", TIME, |arguments| Ok(Value::Int(arguments.int(0)))),
    converter("UnixSeconds", TIME, |arguments| Ok(Value::Int(arguments.int(0).div_euclid(1_000_000_000)))),
    converter("Weekday", TIME, |arguments| Ok(Value::Int(weekday(arguments.int(0))))),
    converter("Year", TIME, |arguments| Ok(Value::Int(civil(arguments).year))),
];

fn civil(arguments: &mut Arguments<'_>) -> Civil {
    Civil::of(arguments.int(0))
}

/// Rounds down to a multiple of `step`, counted like Go from the year 1, not from 1970.
fn truncate(time: i64, step: i64) -> i64 {
    const YEAR_ONE_TO_1970_NS: i128 = 62_135_596_800 * 1_000_000_000;
    if step <= 0 {
        return time;
    }
    let over = (i128::from(time) + YEAR_ONE_TO_1970_NS).rem_euclid(i128::from(step));
    // `over` is below `step`, which is an i64.
    time.saturating_sub(over as i64)
}
