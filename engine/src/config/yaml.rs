//! YAML text -> tree of nodes that remember where they were written.
//!
//! The idea: scalars keep their raw text, so that whoever knows the wanted type decides what they mean. Aliases and
//! merge keys (`<<`) are resolved here; duplicate keys, tags of one's own, several documents and anything beyond the
//! bounds below are errors. This file never knows a key.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::diagnostic::{Place, Report, SourceText, shown};
use super::scalar::{self, Meaning};

/// Largest text. The biggest configurations in the field have some 100 kB.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Deepest nesting, aliases included.
const DEPTH_MAX: usize = 64;
/// Most nodes of a text after aliases are resolved, against aliases that multiply.
const NODES_MAX: usize = 400_000;
/// Text of this length counts as one more node.
const NODE_TEXT_BYTES: usize = 64;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// The text that a whole-scalar expansion put here. Fields that want text take it instead of the value.
    pub(crate) expanded: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar's text; `plain` if its meaning is open, quoted or block text otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) plain: bool,
}

impl Scalar {
    pub(crate) fn meaning(&self) -> Meaning<'_> {
        if self.plain { scalar::meaning(&self.text) } else { Meaning::Text(&self.text) }
    }
}

/// One key of a map with its value. Keys of a map differ.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn null(place: Place) -> Node {
        Node::plain(String::new(), place)
    }

    pub(crate) fn plain(text: String, place: Place) -> Node {
        Node { value: Value::Scalar(Scalar { text, plain: true }), place, expanded: None }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    /// The value under a key of a map.
    pub(crate) fn at(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// A key of a map with its value.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries.iter().find(|entry| entry.key == key)
    }

    /// Number of nodes, a long text counting as several.
    fn weight(&self) -> usize {
        self.own_weight()
            + match &self.value {
                Value::Scalar(_) => 0,
                Value::List(items) => items.iter().map(Node::weight).sum(),
                Value::Map(entries) => entries.iter().map(|entry| entry.node.weight()).sum(),
            }
    }

    fn own_weight(&self) -> usize {
        match &self.value {
            Value::Scalar(scalar) => 1 + scalar.text.len() / NODE_TEXT_BYTES,
            Value::List(_) => 1,
            Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.key.len() / NODE_TEXT_BYTES).sum::<usize>(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.depth()).max().unwrap_or(0),
        }
    }
}

/// Reads the text of `source` from byte `start` on. `None` if its syntax is broken; the report says why. An empty text
/// is null.
pub(crate) fn parse(source: &Arc<SourceText>, start: usize, report: &Report) -> Option<Node> {
    let text = &source.text[start..];
    if text.len() > TEXT_BYTES_MAX {
        report.error(
            &Place::new(source, start..start),
            "",
            format!("the text has {} bytes, more than {TEXT_BYTES_MAX}", text.len()),
            "split it into several files, each with its own --config",
        );
        return None;
    }
    // A byte order mark is no part of the text.
    let skipped = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let text = &text[skipped..];
    let mut builder = Builder {
        report,
        source,
        positions: Positions::new(text, start + skipped),
        anchors: HashMap::new(),
        open: Vec::new(),
        nodes: 0,
        documents: 0,
        root: None,
    };
    match builder.read(&mut Parser::new_from_str(text)) {
        Ok(()) => Some(builder.root.unwrap_or_else(|| Node::null(Place::new(source, start..start)))),
        Err(Broken) => None,
    }
}

/// Syntax is broken and reported; nothing more can be read.
struct Broken;

/// The parser counts characters, places count bytes.
struct Positions {
    base: usize,
    /// Byte offset of each character, unless all are one byte long.
    offsets: Option<Vec<usize>>,
    bytes: usize,
}

impl Positions {
    fn new(text: &str, base: usize) -> Positions {
        let offsets = (!text.is_ascii()).then(|| text.char_indices().map(|(offset, _)| offset).collect());
        Positions { base, offsets, bytes: text.len() }
    }

    fn byte(&self, marker: Marker) -> usize {
        let offset = match &self.offsets {
            None => marker.index().min(self.bytes),
            Some(offsets) => offsets.get(marker.index()).copied().unwrap_or(self.bytes),
        };
        self.base + offset
    }
}

/// A collection whose end has not come yet.
enum Open {
    List { anchor: usize, place: Place, items: Vec<Node> },
    Map { anchor: usize, place: Place, entries: Vec<RawEntry>, key: Option<Node> },
}

/// A key with its value before merge keys and duplicates are looked at.
struct RawEntry {
    key: Node,
    node: Node,
}

struct Builder<'a> {
    report: &'a Report,
    source: &'a Arc<SourceText>,
    positions: Positions,
    anchors: HashMap<usize, Node>,
    open: Vec<Open>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn read(&mut self, parser: &mut Parser<'_, StrInput<'_>>) -> Result<(), Broken> {
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|error| self.syntax_error(&error))?;
            self.take(event, span)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Broken> {
        let place = Place::new(self.source, self.positions.byte(span.start)..self.positions.byte(span.end));
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.start_document(&place),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                let forced_text = self.is_text_tag(tag.as_deref(), &place)?;
                let plain = style == ScalarStyle::Plain && !forced_text;
                let node =
                    Node { value: Value::Scalar(Scalar { text: text.into_owned(), plain }), place, expanded: None };
                self.close(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_text_tag(tag.as_deref(), &place)?;
                self.check_depth(1, &place)?;
                self.open.push(Open::List { anchor, place, items: Vec::new() });
                Ok(())
            }
            Event::MappingStart(anchor, tag) => {
                self.is_text_tag(tag.as_deref(), &place)?;
                self.check_depth(1, &place)?;
                self.open.push(Open::Map { anchor, place, entries: Vec::new(), key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.end_collection(&place),
        }
    }

    fn start_document(&mut self, place: &Place) -> Result<(), Broken> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        self.report.error(
            place,
            "",
            "a second YAML document starts here; a configuration is one document",
            "remove the line `---`, or put the second part into a file of its own and give both with --config",
        );
        Err(Broken)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Broken> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            self.report.error(
                &place,
                "",
                "this alias is part of what it refers to",
                "write the value out instead of the alias",
            );
            return Err(Broken);
        };
        self.check_depth(node.depth(), &place)?;
        self.count(node.weight(), &place)?;
        self.attach(node)
    }

    /// Whether a tag says that the scalar is text; unknown tags are errors.
    fn is_text_tag(&mut self, tag: Option<&Tag>, place: &Place) -> Result<bool, Broken> {
        let Some(tag) = tag else { return Ok(false) };
        // `!` alone is YAML's own way to say "not plain".
        if tag.is_yaml_core_schema() || (tag.handle.is_empty() && tag.suffix == "!") {
            match tag.suffix.as_str() {
                "str" | "!" => return Ok(true),
                "int" | "float" | "bool" | "null" | "map" | "seq" => return Ok(false),
                _ => {}
            }
        }
        self.report.error(
            place,
            "",
            format!("the tag {} means nothing here", shown(&tag.to_string())),
            "remove the tag; quote the value if it is text",
        );
        Err(Broken)
    }

    fn check_depth(&self, added: usize, place: &Place) -> Result<(), Broken> {
        if self.open.len() + added <= DEPTH_MAX {
            return Ok(());
        }
        self.too_deep(place);
        Err(Broken)
    }

    fn too_deep(&self, place: &Place) {
        self.report.error(
            place,
            "",
            format!("nested deeper than {DEPTH_MAX} levels"),
            "no configuration needs that depth; look for brackets that are not closed",
        );
    }

    fn count(&mut self, added: usize, place: &Place) -> Result<(), Broken> {
        self.nodes += added;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        self.report.error(
            place,
            "",
            format!("more than {NODES_MAX} values once aliases are resolved"),
            "use fewer aliases of large parts",
        );
        Err(Broken)
    }

    fn end_collection(&mut self, end: &Place) -> Result<(), Broken> {
        let until = |place: Place| Place::new(self.source, place.start..end.end.max(place.start));
        match self.open.pop() {
            Some(Open::List { anchor, place, items }) => {
                let node = Node { value: Value::List(items), place: until(place), expanded: None };
                self.close(node, anchor)
            }
            Some(Open::Map { anchor, place, entries, .. }) => {
                let place = until(place);
                let node = Node { value: Value::Map(self.unite(entries)), place, expanded: None };
                self.close(node, anchor)
            }
            None => Err(Broken),
        }
    }

    /// Counts a finished node, remembers its anchor and hands it to the collection around it.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        self.count(node.own_weight(), &node.place)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.attach(node)
    }

    fn attach(&mut self, node: Node) -> Result<(), Broken> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some(key) => entries.push(RawEntry { key, node }),
                None if matches!(node.value, Value::Scalar(_)) => *key = Some(node),
                None => {
                    self.report.error(
                        &node.place,
                        "",
                        "a key must be text, and this is a list or a map",
                        "quote the key if it starts with `[` or `{`",
                    );
                    return Err(Broken);
                }
            },
        }
        Ok(())
    }

    /// A map's own keys, checked for duplicates, then those of its merge keys that it does not have itself.
    fn unite(&self, raw: Vec<RawEntry>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
        let mut positions: HashMap<String, usize> = HashMap::with_capacity(raw.len());
        let mut merges = Vec::new();
        for RawEntry { key, node } in raw {
            let Value::Scalar(scalar) = key.value else {
                continue;
            };
            if scalar.plain && scalar.text == "<<" {
                merges.push(node);
                continue;
            }
            if let Some(first) = positions.get(&scalar.text) {
                self.report.error(
                    &key.place,
                    "",
                    format!("the key {} is here for the second time", shown(&scalar.text)),
                    format!("remove one of the two; the first is in line {}", entries[*first].place.line()),
                );
                continue;
            }
            positions.insert(scalar.text.clone(), entries.len());
            entries.push(Entry { key: scalar.text, place: key.place, node });
        }
        for entry in merges.iter().flat_map(|node| self.merged(node)) {
            if !positions.contains_key(&entry.key) {
                positions.insert(entry.key.clone(), entries.len());
                entries.push(entry.clone());
            }
        }
        entries
    }

    /// The entries that a merge key brings, those that win first.
    fn merged<'n>(&self, node: &'n Node) -> Vec<&'n Entry> {
        let maps: Vec<&Node> = match &node.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut entries = Vec::new();
        for map in maps {
            match &map.value {
                Value::Map(found) => entries.extend(found),
                _ => self.report.error(
                    &map.place,
                    "",
                    "`<<` takes a map or a list of maps",
                    "write `<<: *name` where `name` is the anchor of a map",
                ),
            }
        }
        entries
    }

    fn syntax_error(&self, error: &ScanError) -> Broken {
        let at = self.positions.byte(*error.marker());
        if error.info() == "recursion limit exceeded" {
            self.too_deep(&Place::new(self.source, at..at));
            return Broken;
        }
        self.report.error(
            &Place::new(self.source, at..at),
            "",
            format!("not YAML: {}", error.info()),
            "check the indentation, quotes and brackets of this line and of the one before it; indent with spaces",
        );
        Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Diagnostic;

    fn read(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
        let source = Arc::new(SourceText { name: "f.yaml".into(), text: text.into(), order: 0 });
        let report = Report::default();
        let node = parse(&source, 0, &report);
        (node, report.finish().0)
    }

    /// A tree in one line: text in quotes, plain scalars bare.
    fn flat(node: &Node) -> String {
        match &node.value {
            Value::Scalar(Scalar { text, plain: true }) => text.clone(),
            Value::Scalar(scalar) => format!("{:?}", scalar.text),
            Value::List(items) => {
                format!("[{}]", items.iter().map(flat).collect::<Vec<_>>().join(","))
            }
            Value::Map(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|entry| format!("{}:{}", entry.key, flat(&entry.node))).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    fn check(text: &str, expected: &str) {
        let (node, diagnostics) = read(text);
        assert_eq!(diagnostics, [], "{text}");
        assert_eq!(flat(&node.unwrap()), expected, "{text}");
    }

    fn check_error(text: &str, place: &str, words: &str) {
        let (_, diagnostics) = read(text);
        let first = diagnostics.first().unwrap_or_else(|| panic!("no error for {text:?}"));
        assert!(first.message.contains(words), "{} does not say {words}", first.message);
        assert_eq!(first.place.to_string(), place, "{}: {text:.200}", first.message);
    }

    #[test]
    fn trees_keep_raw_text_and_style() {
        check("a: 0123\nb: '0123'\nc: \"x\\ty\"\nd: |\n  l\n", "{a:0123,b:\"0123\",c:\"x\\ty\",d:\"l\\n\"}");
        check("a:\nb: ~\nc: [1, {d: 2}]\n", "{a:,b:~,c:[1,{d:2}]}");
        check("", "");
        let long = "x".repeat(5000);
        check(&format!("a: {long}"), &format!("{{a:{long}}}"));
        check("\u{feff}a: 1", "{a:1}");
        check("a: !!str 12\nb: ! 12", "{a:\"12\",b:\"12\"}");
    }

    #[test]
    fn places_point_at_the_value() {
        let (node, _) = read("采样:\n  timeout: 10s # 采\n");
        let node = node.unwrap();
        let timeout = node.at("采样").unwrap().at("timeout").unwrap();
        assert_eq!(timeout.place.to_string(), "f.yaml:2:12");
        assert_eq!(&timeout.place.source.text[timeout.place.start..timeout.place.end], "10s");
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved_and_own_keys_win() {
        check("a: &x {p: 1, q: 2}\nb: *x", "{a:{p:1,q:2},b:{p:1,q:2}}");
        check("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", "{a:{p:1,q:2},b:{q:3,p:1}}");
        check("a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y], r: 3}", "{a:{p:1},b:{p:2,q:2},c:{r:3,p:1,q:2}}");
        check("'<<': 1", "{<<:1}");
    }

    #[test]
    fn what_go_yaml_refuses_is_refused_with_its_place() {
        check_error("a: 1\nb: 2\na: 3\n", "f.yaml:3:1", "second time");
        check_error("a: [1, 2\nb: 3\n", "f.yaml:2:2", "not YAML");
        check_error("a: *nowhere", "f.yaml:1:4", "not YAML");
        check_error("a: 1\n---\nb: 2\n", "f.yaml:2:1", "second YAML document");
        check_error("a: !mine 1", "f.yaml:1:4", "tag");
        check_error("? [1]\n: 2\n", "f.yaml:1:3", "key must be text");
        check_error("a: {<<: 3}", "f.yaml:1:9", "map or a list of maps");
        check_error("a: &x [*x]", "f.yaml:1:8", "part of what it refers to");
    }

    #[test]
    fn depth_and_aliases_that_multiply_are_bounded() {
        check_error(&"[".repeat(100), "f.yaml:1:65", "nested deeper");
        check_error(&"[".repeat(100_000), "f.yaml:1:256", "nested deeper");
        check_error(&"- ".repeat(100_000), "f.yaml:1:129", "nested deeper");
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        check_error(&text, "f.yaml:6:20", "once aliases are resolved");
        let long = format!("a: &a |\n  {}\nb: [{}]", "x".repeat(1 << 20), "*a, ".repeat(1000));
        check_error(&long, "f.yaml:3:97", "once aliases are resolved");
        let mut text = String::from("a0: &a0 [x]\n");
        for level in 1..100 {
            text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        check_error(&text, "f.yaml:63:12", "nested deeper");
    }
}
