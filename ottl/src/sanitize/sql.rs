//! SQL without literals: `WHERE id = 42` becomes `WHERE id = ?`.
//!
//! Words, operators and spaces stay, digits within names become `?`, comments go. Dialects differ in what quotes, escapes
//! and comments mean: what one of them could read as a value hides, if need be with everything behind it.

pub(super) fn cleaned(text: &[u8], system: &[u8]) -> Vec<u8> {
    let mut reader = Reader { rest: text, out: Vec::with_capacity(text.len()) };
    // Here double quotes are quotes of strings; who does not say what it is, may be one of these.
    let quotes_twice = matches!(system, b"" | b"mysql" | b"mariadb" | b"sqlite");
    while let Some(byte) = reader.rest.first() {
        match byte {
            b'\'' => reader.string(b'\''),
            b'"' if quotes_twice => reader.string(b'"'),
            b'"' | b'`' => reader.quoted_name(*byte),
            b'-' if reader.rest.starts_with(b"--") => reader.line_comment(),
            b'#' if quotes_twice => reader.line_comment(),
            b'/' if reader.rest.starts_with(b"/*") => reader.block_comment(),
            b'$' => reader.dollar(),
            b'.' if reader.rest.get(1).is_some_and(u8::is_ascii_digit) => reader.number(),
            b'0'..=b'9' => reader.number(),
            byte if is_name_byte(*byte) => reader.word(),
            _ => reader.keep(1),
        }
    }
    reader.out.trim_ascii().to_vec()
}

fn is_name_byte(byte: u8) -> bool {
    byte == b'_' || byte == b'@' || byte >= 0x80 || byte.is_ascii_alphanumeric()
}

struct Reader<'t> {
    rest: &'t [u8],
    out: Vec<u8>,
}

impl Reader<'_> {
    fn keep(&mut self, length: usize) {
        let (kept, rest) = self.rest.split_at(length);
        self.out.extend_from_slice(kept);
        self.rest = rest;
    }

    /// A value of `length` bytes.
    fn hide(&mut self, length: usize) {
        self.out.push(b'?');
        self.rest = &self.rest[length..];
    }

    /// Up to the next quote. Some dialects quote a quote by a backslash, others do not: then all that is left hides. A
    /// quote that is doubled makes it two values, which hides both halves in any dialect.
    fn string(&mut self, quote: u8) {
        let end = self.rest[1..].iter().position(|byte| *byte == quote).map(|place| place + 1);
        match end {
            Some(end) if self.rest[end - 1] != b'\\' => self.hide(end + 1),
            _ => self.hide(self.rest.len()),
        }
    }

    /// A name in quotes, with digits hidden; one that does not end hides.
    fn quoted_name(&mut self, quote: u8) {
        match self.rest[1..].iter().position(|byte| *byte == quote) {
            None => self.hide(self.rest.len()),
            Some(length) => self.name(length + 2),
        }
    }

    fn name(&mut self, length: usize) {
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        let mut was_digit = false;
        for byte in name {
            let is_digit = byte.is_ascii_digit();
            if !is_digit {
                self.out.push(*byte);
            } else if !was_digit {
                self.out.push(b'?');
            }
            was_digit = is_digit;
        }
    }

    fn line_comment(&mut self) {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        self.rest = &self.rest[end.unwrap_or(self.rest.len())..];
    }

    /// Some dialects nest comments: what stands behind the first end of one that does, may be comment still.
    fn block_comment(&mut self) {
        let inside = &self.rest[2..];
        let end = inside.windows(2).position(|pair| pair == b"*/");
        let end = end.filter(|end| !inside[..*end].windows(2).any(|pair| pair == b"/*"));
        self.rest = end.map_or(&[], |end| &inside[end + 2..]);
    }

    /// `$1`, or `$tag$ .. $tag$`.
    fn dollar(&mut self) {
        let tag = self.rest[1..].iter().take_while(|byte| is_name_byte(**byte)).count();
        if self.rest.get(1 + tag) != Some(&b'$') {
            return if tag == 0 { self.keep(1) } else { self.hide(1 + tag) };
        }
        let mark = &self.rest[..tag + 2];
        let inside = &self.rest[mark.len()..];
        match inside.windows(mark.len()).position(|found| found == mark) {
            Some(end) => self.hide(mark.len() + end + mark.len()),
            None => self.hide(self.rest.len()),
        }
    }

    /// Digits with all that can belong to a number: `0xff`, `1.5e-3`, and also `2ndname`.
    fn number(&mut self) {
        let mut length = 0;
        while let Some(byte) = self.rest.get(length) {
            let is_sign = matches!(byte, b'+' | b'-') && length > 0 && matches!(self.rest[length - 1], b'e' | b'E');
            if !(is_name_byte(*byte) || *byte == b'.' || is_sign) {
                break;
            }
            length += 1;
        }
        self.hide(length);
    }

    fn word(&mut self) {
        let length = self.rest.iter().take_while(|byte| is_name_byte(**byte)).count();
        let word = &self.rest[..length];
        let is = |one: &[u8]| word.eq_ignore_ascii_case(one);
        if is(b"true") || is(b"false") || is(b"null") {
            return self.hide(length);
        }
        // Oracle's q'[it's]' ends at a mark of its own.
        if (is(b"q") || is(b"nq")) && self.rest.get(length) == Some(&b'\'') {
            return self.hide(self.rest.len());
        }
        self.name(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(system: &str, text: &str, expected: &str) {
        let found = cleaned(text.as_bytes(), system.as_bytes());
        assert_eq!(String::from_utf8_lossy(&found), expected, "{system}: {text}");
    }

    #[test]
    fn literals_go_and_the_shape_stays() {
        check(
            "mysql",
            "SELECT name, \"Ann\" FROM users_2024 WHERE id=42 AND name='O''Brien' -- hi 5\n",
            "SELECT name, ? FROM users_? WHERE id=? AND name=??",
        );
        check(
            "mysql",
            "INSERT INTO t VALUES (1, -2.5e-3, 0xff, NULL, true) # 9",
            "INSERT INTO t VALUES (?, -?, ?, ?, ?)",
        );
        check("mysql", "SELECT `t1`.`col2` FROM t1", "SELECT `t?`.`col?` FROM t?");
        check(
            "postgresql",
            "SELECT $1, \"Col1\" FROM a.b_c WHERE x=$$secret$$ and y=$tag$z$tag$ and w::int=:name",
            "SELECT ?, \"Col?\" FROM a.b_c WHERE x=? and y=? and w::int=:name",
        );
        check("", "select \"Ann\", .5", "select ?, ?");
        check("oracle", "  SELECT   1 ;  ", "SELECT   ? ;");
    }

    #[test]
    fn what_can_be_read_in_two_ways_hides() {
        check("mysql", r"select 'a\'b', secret", "select ?");
        check("postgresql", r"select 'c:\' , 'secret'", "select ?");
        check("mysql", "select 'unclosed secret", "select ?");
        check("postgresql", "select \"unclosed secret", "select ?");
        check("postgresql", "select $x$ secret", "select ?");
        check("oracle", "select q'[it's secret]' from dual", "select ?");
        check("postgresql", "a /* b /* c */ secret */ d", "a");
        check("mysql", "a /* user=ann */ b -- secret", "a  b");
        check("mysql", "a /* unclosed secret", "a");
    }
}
