//! `profile.proto`, which `go tool pprof` and everything made for it read: gzip over one protobuf message.
//!
//! Field numbers are those of `perftools.profiles.Profile` (github.com/google/pprof/proto/profile.proto). A stack is a list
//! of locations, a location a list of lines, a line a function; text is kept once, in a table.

use super::symbols;
use codecs::compression::{Compression, Compressor};
use codecs::wire::{write_length_field, write_varint, write_varint_field};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A name and its unit.
pub type Kind = (&'static str, &'static str);

/// What a profile says, before it has names.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What the values of each sample are.
    pub kinds: &'static [Kind],
    /// The one that is shown if nobody asks for another; the last if nothing is said.
    pub shown: Option<&'static str>,
    /// How far samples are apart.
    pub period: (Kind, i64),
    /// When.
    pub taken: SystemTime,
    /// For how long; zero for a moment.
    pub duration: Duration,
    /// Functions, as a regular expression, that are left out with everything they called.
    pub frames_dropped: Option<&'static str>,
    /// For whoever reads it.
    pub comments: Vec<String>,
    /// What was seen.
    pub samples: Vec<Sample>,
}

/// One stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Instructions and calls, the innermost first; none for what found no room when it was noted.
    pub addresses: Vec<u64>,
    /// One for each kind.
    pub values: Vec<i64>,
    /// Names and texts.
    pub labels: Vec<(&'static str, String)>,
}

/// A function and a place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Line {
    /// Its name.
    pub function: String,
    /// Its file; empty if that is not known.
    pub file: String,
    /// Its line; 0 if that is not known.
    pub line: u32,
}

/// A piece of the program in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    file: String,
}

/// Pieces that are told; a program has a few.
const MAPPINGS_MAX: usize = 64;
/// What stands for stacks that found no room.
const BEYOND: &str = "[stacks beyond the table]";

impl Profile {
    /// The file, with the names of this program's functions. Takes up to seconds where there are many addresses.
    pub fn encode(&self) -> Vec<u8> {
        let addresses = self.samples.iter().flat_map(|sample| &sample.addresses).copied();
        self.encode_with(&symbols::resolve(addresses))
    }

    /// The file, with these names.
    pub fn encode_with(&self, names: &HashMap<u64, Vec<Line>>) -> Vec<u8> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let message = Writer::new(names, mappings(&maps)).message(self);
        let mut file = Vec::new();
        Compressor::default().compress(Compression::Gzip, None, &message, &mut file);
        file
    }
}

/// Where code lies: lines of `/proc/self/maps` that may be executed.
fn mappings(maps: &str) -> Vec<Mapping> {
    let parse = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_code = words.next()?.contains('x');
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let file = words.skip(2).collect::<Vec<_>>().join(" ");
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        is_code.then_some(Mapping { start, end, offset, file })
    };
    maps.lines().filter_map(parse).take(MAPPINGS_MAX).collect()
}

/// Numbers texts, functions and locations as they come, and writes those that are new.
struct Writer<'n> {
    names: &'n HashMap<u64, Vec<Line>>,
    mappings: Vec<Mapping>,
    /// Whether a name was found in it.
    named: Vec<bool>,
    texts: HashMap<String, u64>,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<u64, u64>,
    /// Locations and functions, as fields of the message.
    tables: Vec<u8>,
    /// Texts, in the order of their numbers.
    text_table: Vec<u8>,
}

impl<'n> Writer<'n> {
    fn new(names: &'n HashMap<u64, Vec<Line>>, mappings: Vec<Mapping>) -> Writer<'n> {
        let named = vec![false; mappings.len()];
        let mut writer = Writer {
            names,
            mappings,
            named,
            texts: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            tables: Vec::new(),
            text_table: Vec::new(),
        };
        // The first text has to be the empty one.
        writer.text("");
        writer
    }

    fn message(mut self, profile: &Profile) -> Vec<u8> {
        let mut out = Vec::new();
        for kind in profile.kinds {
            let value_type = self.value_type(*kind);
            write_length_field(&mut out, 1, &value_type);
        }
        for sample in &profile.samples {
            let sample = self.sample(sample);
            write_length_field(&mut out, 2, &sample);
        }
        self.mapping_fields(&mut out);
        out.append(&mut self.tables);
        if let Some(frames) = profile.frames_dropped {
            write_varint_field(&mut out, 7, self.text(frames));
        }
        let since_1970 = profile.taken.duration_since(UNIX_EPOCH).unwrap_or_default();
        write_varint_field(&mut out, 9, since_1970.as_nanos() as u64);
        write_varint_field(&mut out, 10, profile.duration.as_nanos() as u64);
        let (kind, period) = profile.period;
        let period_type = self.value_type(kind);
        write_length_field(&mut out, 11, &period_type);
        write_varint_field(&mut out, 12, period as u64);
        for comment in &profile.comments {
            write_varint_field(&mut out, 13, self.text(comment));
        }
        if let Some(shown) = profile.shown {
            write_varint_field(&mut out, 14, self.text(shown));
        }
        out.append(&mut self.text_table);
        out
    }

    fn value_type(&mut self, (kind, unit): Kind) -> Vec<u8> {
        let mut out = Vec::new();
        write_varint_field(&mut out, 1, self.text(kind));
        write_varint_field(&mut out, 2, self.text(unit));
        out
    }

    fn sample(&mut self, sample: &Sample) -> Vec<u8> {
        let (mut out, mut packed) = (Vec::new(), Vec::new());
        let addresses: &[u64] = if sample.addresses.is_empty() { &[0] } else { &sample.addresses };
        for address in addresses {
            write_varint(&mut packed, self.location(*address));
        }
        write_length_field(&mut out, 1, &packed);
        packed.clear();
        for value in &sample.values {
            write_varint(&mut packed, *value as u64);
        }
        write_length_field(&mut out, 2, &packed);
        for (name, text) in &sample.labels {
            let mut label = Vec::new();
            write_varint_field(&mut label, 1, self.text(name));
            write_varint_field(&mut label, 2, self.text(text));
            write_length_field(&mut out, 3, &label);
        }
        out
    }

    fn location(&mut self, address: u64) -> u64 {
        if let Some(known) = self.locations.get(&address) {
            return *known;
        }
        let id = self.locations.len() as u64 + 1;
        self.locations.insert(address, id);
        let mut out = Vec::new();
        write_varint_field(&mut out, 1, id);
        let names = self.names;
        let beyond = [Line { function: BEYOND.to_owned(), ..Line::default() }];
        let lines: &[Line] = if address == 0 { &beyond } else { names.get(&address).map_or(&[], Vec::as_slice) };
        if let Some(mapping) = self.mappings.iter().position(|it| (it.start..it.end).contains(&address)) {
            self.named[mapping] |= !lines.is_empty();
            write_varint_field(&mut out, 2, mapping as u64 + 1);
        }
        write_varint_field(&mut out, 3, address);
        for line in lines {
            let mut field = Vec::new();
            write_varint_field(&mut field, 1, self.function(line));
            write_varint_field(&mut field, 2, u64::from(line.line));
            write_length_field(&mut out, 4, &field);
        }
        write_length_field(&mut self.tables, 4, &out);
        id
    }

    fn function(&mut self, line: &Line) -> u64 {
        let key = (line.function.clone(), line.file.clone());
        if let Some(known) = self.functions.get(&key) {
            return *known;
        }
        let id = self.functions.len() as u64 + 1;
        self.functions.insert(key, id);
        let (name, file) = (self.text(&line.function), self.text(&line.file));
        let mut out = Vec::new();
        for (number, value) in [(1, id), (2, name), (3, name), (4, file)] {
            write_varint_field(&mut out, number, value);
        }
        write_length_field(&mut self.tables, 5, &out);
        id
    }

    /// The program first, as readers expect.
    fn mapping_fields(&mut self, out: &mut Vec<u8>) {
        for (number, mapping) in std::mem::take(&mut self.mappings).into_iter().enumerate() {
            let file = self.text(&mapping.file);
            let mut field = Vec::new();
            for (key, value) in
                [(1, number as u64 + 1), (2, mapping.start), (3, mapping.end), (4, mapping.offset), (5, file)]
            {
                write_varint_field(&mut field, key, value);
            }
            // Functions, files, lines, and those that were built into others.
            for key in 7..=10 {
                write_varint_field(&mut field, key, u64::from(self.named[number]));
            }
            write_length_field(out, 3, &field);
        }
    }

    fn text(&mut self, text: &str) -> u64 {
        if let Some(known) = self.texts.get(text) {
            return *known;
        }
        let number = self.texts.len() as u64;
        self.texts.insert(text.to_owned(), number);
        write_length_field(&mut self.text_table, 6, text.as_bytes());
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    /// The parts of the message that a reader needs, as prost understands them.
    #[derive(Clone, PartialEq, Message)]
    struct Read {
        #[prost(message, repeated, tag = "2")]
        samples: Vec<ReadSample>,
        #[prost(message, repeated, tag = "3")]
        mappings: Vec<ReadMapping>,
        #[prost(message, repeated, tag = "4")]
        locations: Vec<ReadLocation>,
        #[prost(message, repeated, tag = "5")]
        functions: Vec<ReadFunction>,
        #[prost(string, repeated, tag = "6")]
        texts: Vec<String>,
        #[prost(int64, tag = "12")]
        period: i64,
        #[prost(int64, tag = "14")]
        shown: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ReadSample {
        #[prost(uint64, repeated, tag = "1")]
        locations: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        values: Vec<i64>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ReadMapping {
        #[prost(uint64, tag = "1")]
        id: u64,
        #[prost(bool, tag = "7")]
        named: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ReadLocation {
        #[prost(uint64, tag = "1")]
        id: u64,
        #[prost(uint64, tag = "2")]
        mapping: u64,
        #[prost(message, repeated, tag = "4")]
        lines: Vec<ReadLine>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ReadLine {
        #[prost(uint64, tag = "1")]
        function: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ReadFunction {
        #[prost(uint64, tag = "1")]
        id: u64,
        #[prost(int64, tag = "2")]
        name: i64,
    }

    fn profile(samples: Vec<Sample>) -> Profile {
        Profile {
            kinds: &[("samples", "count"), ("cpu", "nanoseconds")],
            shown: Some("cpu"),
            period: (("cpu", "nanoseconds"), 10),
            taken: UNIX_EPOCH,
            duration: Duration::ZERO,
            frames_dropped: None,
            comments: Vec::new(),
            samples,
        }
    }

    fn sample(addresses: &[u64], values: &[i64]) -> Sample {
        Sample {
            addresses: addresses.to_vec(),
            values: values.to_vec(),
            labels: vec![("thread", "shard-0".to_owned())],
        }
    }

    #[test]
    fn a_reader_finds_every_stack_with_its_names() {
        let line = |function: &str| Line { function: function.to_owned(), file: "a.rs".to_owned(), line: 7 };
        let names = HashMap::from([(5, vec![line("inner"), line("outer")]), (6, vec![line("outer")])]);
        let maps =
            "0-10 r-xp 00000000 00:00 0   /bin/the program\n20-30 rw-p 00000000 00:00 0\n40-50 r-xp 1000 00:00 0\n";
        let told = profile(vec![sample(&[5, 6], &[1, -2]), sample(&[6], &[3, 4]), sample(&[], &[5, 6])]);
        let read = Read::decode(&*Writer::new(&names, mappings(maps)).message(&told)).unwrap();
        let names_of = |sample: &ReadSample| {
            let ids = sample.locations.iter();
            let lines = ids.flat_map(|id| read.locations.iter().find(|it| it.id == *id).unwrap().lines.clone());
            let functions = lines.map(|line| read.functions.iter().find(|it| it.id == line.function).unwrap().name);
            functions.map(|name| read.texts[name as usize].clone()).collect::<Vec<_>>()
        };
        let seen: Vec<_> = read.samples.iter().map(|it| (names_of(it), it.values.clone())).collect();
        let expected = [
            (vec!["inner".to_owned(), "outer".to_owned(), "outer".to_owned()], vec![1, -2]),
            (vec!["outer".to_owned()], vec![3, 4]),
            (vec![BEYOND.to_owned()], vec![5, 6]),
        ];
        assert_eq!(seen, expected);
        assert_eq!(read.texts[0], "");
        assert_eq!((read.texts[read.shown as usize].as_str(), read.period), ("cpu", 10));
        assert!(read.texts.contains(&"/bin/the program".to_owned()));
        let mappings: Vec<_> = read.mappings.iter().map(|it| (it.id, it.named)).collect();
        assert_eq!(mappings, [(1, true), (2, false)]);
        assert!(read.locations.iter().all(|it| it.mapping == 1), "every address lies in the program");
    }

    #[test]
    fn the_file_is_gzip() {
        assert_eq!(profile(Vec::new()).encode()[..2], [0x1f, 0x8b]);
    }
}
