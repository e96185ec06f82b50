//! Calendar arithmetic on nanoseconds since 1970, in UTC: dates, RFC 3339, Go's durations, and times by a format.
//!
//! Formats are those of the Collector's `Time` and `FormatTime` (directives of strptime), see [`DIRECTIVES`]. What clocks
//! of other places show is for [`Zone`] to know.

use crate::fault::Fault;
use crate::zone::Zone;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Directives that are understood, each behind a `%`.
pub(crate) const DIRECTIVES: &str = "Y y m d e H I M S L f s p b h B a A j z T D F R Z n t %";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment taken apart, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: i64,
    /// 1 to 31.
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) nanosecond: i64,
}

impl Civil {
    /// Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is the last.
    pub(crate) fn of(time: i64) -> Self {
        let (days, rest) = (time.div_euclid(DAY), time.rem_euclid(DAY));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: rest / (3600 * SECOND),
            minute: rest / (60 * SECOND) % 60,
            second: rest / SECOND % 60,
            nanosecond: rest % SECOND,
        }
    }

    /// Nanoseconds since 1970; `None` outside 1678 to 2262.
    pub(crate) fn time(&self) -> Option<i64> {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (self.month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era.checked_mul(146_097)? + day_of_era - 719_468;
        let seconds = (self.hour * 60 + self.minute) * 60 + self.second;
        days.checked_mul(DAY)?.checked_add(seconds * SECOND)?.checked_add(self.nanosecond)
    }
}

/// 0 is Sunday.
pub(crate) fn weekday(time: i64) -> i64 {
    (time.div_euclid(DAY) + 4).rem_euclid(7)
}

fn day_of_year(time: i64) -> i64 {
    let start = Civil { month: 1, day: 1, hour: 0, minute: 0, second: 0, nanosecond: 0, ..Civil::of(time) };
    start.time().map_or(1, |start| (time - start) / DAY + 1)
}

/// `2006-01-02T15:04:05.999Z`, without trailing zeros of the fraction.
pub(crate) fn rfc3339(time: i64) -> String {
    let c = Civil::of(time);
    let mut out = format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second);
    if c.nanosecond != 0 {
        out.push_str(format!(".{:09}", c.nanosecond).trim_end_matches('0'));
    }
    out.push('Z');
    out
}

/// Go's `time.ParseDuration`: `1h30m`, `-1.5s`, `100ms`, `0`; `None` if it is none or does not fit.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        total = total.checked_add(scaled(number, unit_nanoseconds(unit)?)?)?;
        rest = after;
    }
    i64::try_from(if is_negative { -total } else { total }).ok()
}

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1000,
        "ms" => 1_000_000,
        "s" => i128::from(SECOND),
        "m" => 60 * i128::from(SECOND),
        "h" => 3600 * i128::from(SECOND),
        _ => return None,
    })
}

/// `number` (digits, perhaps a fraction) times `unit`, exactly as far as nanoseconds go.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 40 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let parts: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i128.pow(fraction.len() as u32);
    whole.checked_mul(unit)?.checked_add(parts.checked_mul(unit)? / scale)
}

/// Whether every directive of `format` is understood; the first that is not is the error.
pub(crate) fn check_format(format: &str) -> Result<(), String> {
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter == '%' {
            let directive = letters.next().map_or(String::new(), String::from);
            if directive.is_empty() || !DIRECTIVES.split(' ').any(|known| known == directive) {
                return Err(format!("%{directive}"));
            }
        }
    }
    Ok(())
}

/// Writes `time` (UTC) by a format that was checked.
pub(crate) fn format_time(time: i64, format: &str) -> String {
    let c = Civil::of(time);
    let weekday = WEEKDAYS[weekday(time) as usize];
    let month = MONTHS[(c.month - 1) as usize];
    let half = if c.hour < 12 { "AM" } else { "PM" };
    let clock = format!("{:02}:{:02}", c.hour, c.minute);
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next().unwrap_or('%') {
            'Y' => out.push_str(&format!("{:04}", c.year)),
            'y' => out.push_str(&format!("{:02}", c.year.rem_euclid(100))),
            'm' => out.push_str(&format!("{:02}", c.month)),
            'd' => out.push_str(&format!("{:02}", c.day)),
            'e' => out.push_str(&format!("{:2}", c.day)),
            'H' => out.push_str(&format!("{:02}", c.hour)),
            'I' => out.push_str(&format!("{:02}", (c.hour + 11) % 12 + 1)),
            'M' => out.push_str(&format!("{:02}", c.minute)),
            'S' => out.push_str(&format!("{:02}", c.second)),
            'L' => out.push_str(&format!("{:03}", c.nanosecond / 1_000_000)),
            'f' => out.push_str(&format!("{:06}", c.nanosecond / 1000)),
            's' => out.push_str(&format!("{:09}", c.nanosecond)),
            'p' => out.push_str(half),
            'b' | 'h' => out.push_str(&month[..3]),
            'B' => out.push_str(month),
            'a' => out.push_str(&weekday[..3]),
            'A' => out.push_str(weekday),
            'j' => out.push_str(&format!("{:03}", day_of_year(time))),
            'z' => out.push_str("+0000"),
            'Z' => out.push_str("UTC"),
            'T' => out.push_str(&format!("{clock}:{:02}", c.second)),
            'R' => out.push_str(&clock),
            'D' => out.push_str(&format!("{:02}/{:02}/{:02}", c.month, c.day, c.year.rem_euclid(100))),
            'F' => out.push_str(&format!("{:04}-{:02}-{:02}", c.year, c.month, c.day)),
            'n' => out.push('\n'),
            't' => out.push('\t'),
            other => out.push(other),
        }
    }
    out
}

/// Reads a time by a format that was checked, as clocks of `zone` show it, unless the text says how far they are from
/// Greenwich. What the text does not say is the first moment of a year; the year, if it does not say that, is the one of
/// `now`, or the one before if that would be more than a week ahead (as in the timestamps of syslog).
pub(crate) fn parse_time(text: &str, format: &str, zone: Option<&Zone>, now: i64) -> Result<i64, Fault> {
    let mismatch = || Fault::invalid("the text is no time of the given format");
    let mut reader = TimeReader {
        rest: text,
        // A leap year, so that the 29th of February is a day.
        civil: Civil { year: 1972, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanosecond: 0 },
        has_year: false,
        half: None,
        offset: None,
        zone_name: None,
    };
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        let read = match letter {
            '%' => reader.directive(letters.next().unwrap_or('%')),
            other => reader.literal(other),
        };
        read.ok_or_else(mismatch)?;
    }
    if !reader.rest.is_empty() {
        return Err(mismatch());
    }
    reader.finish(zone, now).ok_or_else(mismatch)
}

struct TimeReader<'t> {
    rest: &'t str,
    civil: Civil,
    has_year: bool,
    /// 0 for AM, 12 for PM.
    half: Option<i64>,
    /// Nanoseconds east of Greenwich.
    offset: Option<i64>,
    /// An abbreviation of clocks, as `CET`.
    zone_name: Option<&'t str>,
}

impl<'t> TimeReader<'t> {
    fn literal(&mut self, letter: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(letter)?;
        Some(())
    }

    fn directive(&mut self, directive: char) -> Option<()> {
        match directive {
            'Y' => {
                self.civil.year = self.number(4, 4)?;
                self.has_year = true;
            }
            'y' => {
                let year = self.number(2, 2)?;
                self.civil.year = if year < 69 { 2000 + year } else { 1900 + year };
                self.has_year = true;
            }
            'm' => self.civil.month = self.within(1, 12)?,
            'd' => self.civil.day = self.within(1, 31)?,
            'e' => {
                self.rest = self.rest.trim_start_matches(' ');
                self.civil.day = self.within(1, 31)?;
            }
            'H' => self.civil.hour = self.within(0, 23)?,
            'I' => self.civil.hour = self.within(1, 12)?,
            'M' => self.civil.minute = self.within(0, 59)?,
            'S' => self.civil.second = self.within(0, 59)?,
            'L' => self.civil.nanosecond = self.number(3, 3)? * 1_000_000,
            'f' => self.civil.nanosecond = self.fraction(6)?,
            's' => self.civil.nanosecond = self.fraction(9)?,
            'p' => self.half = Some(if self.name(&["AM", "PM"], 2)? == 0 { 0 } else { 12 }),
            'b' | 'h' => self.civil.month = 1 + self.name(&MONTHS, 3)?,
            'B' => self.civil.month = 1 + self.name(&MONTHS, usize::MAX)?,
            'a' => drop(self.name(&WEEKDAYS, 3)?),
            'A' => drop(self.name(&WEEKDAYS, usize::MAX)?),
            'j' => {
                self.civil.month = 1;
                self.civil.day = self.number(3, 3)?;
            }
            'z' => self.offset = Some(self.zone()?),
            'Z' => self.zone_name = Some(self.abbreviation()?),
            'T' => return self.sequence("H:M:S"),
            'R' => return self.sequence("H:M"),
            'D' => return self.sequence("m/d/y"),
            'F' => return self.sequence("Y-m-d"),
            'n' => return self.literal('\n'),
            't' => return self.literal('\t'),
            other => return self.literal(other),
        }
        Some(())
    }

    fn sequence(&mut self, parts: &str) -> Option<()> {
        parts.chars().try_for_each(|part| match part {
            ':' | '/' | '-' => self.literal(part),
            directive => self.directive(directive),
        })
    }

    fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        let length = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        if length < least { None } else { digits.parse().ok() }
    }

    fn within(&mut self, least: i64, most: i64) -> Option<i64> {
        self.number(1, 2).filter(|value| (least..=most).contains(value))
    }

    fn fraction(&mut self, most: usize) -> Option<i64> {
        let before = self.rest.len();
        let value = self.number(1, most)?;
        let length = (before - self.rest.len()) as u32;
        Some(value * 10_i64.pow(9 - length))
    }

    fn name(&mut self, names: &[&str], letters: usize) -> Option<i64> {
        for (index, name) in names.iter().enumerate() {
            let name = &name[..name.len().min(letters)];
            let is_next = self.rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
            if is_next {
                self.rest = &self.rest[name.len()..];
                return Some(index as i64);
            }
        }
        None
    }

    /// `Z`, `+0100`, `+01:00`.
    fn zone(&mut self) -> Option<i64> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Some(0);
        }
        let sign = match self.rest.bytes().next()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.rest = &self.rest[1..];
        let hours = self.number(2, 2)?;
        self.rest = self.rest.strip_prefix(':').unwrap_or(self.rest);
        let minutes = self.number(2, 2)?;
        Some(sign * (hours * 60 + minutes) * 60 * SECOND)
    }

    /// Three to five capital letters.
    fn abbreviation(&mut self) -> Option<&'t str> {
        let length = self.rest.bytes().take(5).take_while(u8::is_ascii_uppercase).count();
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        (length >= 3).then_some(name)
    }

    fn finish(mut self, zone: Option<&Zone>, now: i64) -> Option<i64> {
        if let Some(half) = self.half {
            self.civil.hour = self.civil.hour % 12 + half;
        }
        let read = Civil::of(self.civil.time()?);
        // The 31st of a short month would become the first of the next; a day of the year may leave January.
        if read.month != self.civil.month && self.civil.day <= 31 {
            return None;
        }
        if self.has_year {
            return self.moment(zone);
        }
        const WEEK: i64 = 7 * DAY;
        self.civil.year = Civil::of(now).year;
        let time = self.moment(zone)?;
        if time <= now.saturating_add(WEEK) {
            return Some(time);
        }
        self.civil.year -= 1;
        self.moment(zone)
    }

    /// When clocks show what was read.
    fn moment(&self, zone: Option<&Zone>) -> Option<i64> {
        let local = self.civil.time()?;
        if let Some(offset) = self.offset {
            return local.checked_sub(offset);
        }
        let seconds = local.div_euclid(SECOND);
        let moment = match (self.zone_name, zone) {
            (Some("UTC"), _) => seconds,
            (Some(name), zone) => match zone.and_then(|zone| zone.offset_named(name, seconds)) {
                Some(offset) => seconds - offset,
                // Some abbreviations are names of zones too.
                None => Zone::named(name)?.moment_of(seconds),
            },
            (None, Some(zone)) => zone.moment_of(seconds),
            (None, None) => seconds,
        };
        moment.checked_mul(SECOND)?.checked_add(local.rem_euclid(SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_survive_the_round_trip() {
        for time in [0, -1, 951_782_400 * SECOND, 1_709_164_800 * SECOND + 5, i64::MAX, i64::MIN + DAY] {
            assert_eq!(Civil::of(time).time(), Some(time), "{time}");
        }
        assert_eq!(rfc3339(1_709_210_096_500_000_000), "2024-02-29T12:34:56.5Z");
        assert_eq!(weekday(0), 4);
    }

    #[test]
    fn durations_are_those_of_go() {
        let cases = [
            ("0", Some(0)),
            ("1h15m30.918273645s", Some(4_530_918_273_645)),
            ("-1.5s", Some(-1_500_000_000)),
            ("+5ms", Some(5_000_000)),
            ("2us3ns", Some(2003)),
            (".5m", Some(30 * SECOND)),
            ("", None),
            ("3", None),
            ("s", None),
            (".s", None),
            ("1x", None),
            ("1.2.3s", None),
            ("9999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_format_writes_it_reads() {
        let time = 1_709_210_096_123_456_789;
        for format in ["%F %T.%s", "%Y-%m-%dT%H:%M:%S.%s%z", "%d/%b/%y %I:%M:%S %p %s", "%A %B %e %Y %R:%S.%s"] {
            assert_eq!(parse_time(&format_time(time, format), format, None, 0), Ok(time), "{format}");
        }
        assert!(parse_time("2023-02-31", "%F", None, 0).is_err());
        assert_eq!(parse_time("2024 060", "%Y %j", None, 0), Ok(1_709_164_800 * SECOND));
    }

    #[test]
    fn a_time_without_a_year_is_of_the_year_that_it_was_sent_in() {
        let at = |text: &str| parse_time(text, "%F", None, 0).expect("a date");
        let cases = [
            ("Nov 14 22:13:20", "2023-11-20", "2023-11-14"),
            ("Dec 31 23:59:59", "2024-01-01", "2023-12-31"),
            ("Jan  5 00:00:00", "2023-12-31", "2023-01-05"),
            ("Jan  5 00:00:00", "2024-01-01", "2024-01-05"),
            ("Feb 29 00:00:00", "2024-03-01", "2024-02-29"),
            ("Feb 29 00:00:00", "2023-03-01", "2023-03-01"),
        ];
        for (text, now, day) in cases {
            let found = parse_time(text, "%b %e %T", None, at(now)).expect("a time");
            assert_eq!(found.div_euclid(DAY), at(day).div_euclid(DAY), "{text} read on {now}");
        }
    }
}
