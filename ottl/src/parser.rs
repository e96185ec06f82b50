//! Tokens to a tree, by recursive descent.
//!
//! ```text
//! statement  = call [ "where" or ]
//! or         = and { "or" and }          and = not { "and" not }        not = [ "not" ] comparison
//! comparison = sum [ operator sum ]      sum = product { ("+"|"-") product }
//! product    = sign { ("*"|"/") sign }   sign = [ "+"|"-" ] primary
//! primary    = literal | name | call keys | path | list | map | "(" or ")"
//! ```
//!
//! Nothing is tried twice, so that time is linear; nesting is counted, so that the stack is bounded.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::lexer::{Token, TokenKind, lex, unquote};
use crate::syntax::{Argument, Call, Comparison, Expr, ExprKind, MathOperator, Path, Segment, Statement};

/// How deep a statement may nest (parentheses, lists, maps, calls, keys): bounds the stack of parser and evaluator.
pub const DEPTH_MAX: u32 = 32;

/// Parses a whole statement.
pub(crate) fn parse_statement(text: &str) -> Result<Statement, Diagnostic> {
    let mut parser = Parser { text, tokens: lex(text)?, position: 0, depth: 0 };
    let name = parser.peek().clone();
    if name.kind == TokenKind::Upper {
        let help = "a statement is an editor such as `set(...)`, whose name is in small letters; converters only compute values";
        return Err(parser.unexpected("an editor", help));
    }
    if name.kind != TokenKind::Lower {
        return Err(parser.unexpected("an editor", "a statement is an editor such as `set(attributes[\"a\"], 1)`"));
    }
    parser.position += 1;
    if parser.peek().kind != TokenKind::ParenOpen {
        return Err(parser.unexpected("`(`", "a statement is an editor with its arguments: `set(name, \"x\")`"));
    }
    let editor = parser.call(name.at)?;
    let has_condition = parser.word() == Some("where");
    parser.position += usize::from(has_condition);
    let condition = if has_condition { Some(parser.or()?) } else { None };
    parser.end(if has_condition { "`and`, `or` or the end" } else { "`where` or the end" })?;
    Ok(Statement { editor, condition })
}

/// Parses a lone condition, as filters and the `conditions` of a group have them.
pub(crate) fn parse_condition(text: &str) -> Result<Expr, Diagnostic> {
    let mut parser = Parser { text, tokens: lex(text)?, position: 0, depth: 0 };
    let condition = parser.or()?;
    parser.end("`and`, `or` or the end")?;
    Ok(condition)
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    position: usize,
    depth: u32,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        // The last token is the end, and nothing steps over it.
        &self.tokens[self.position.min(self.tokens.len() - 1)]
    }

    fn next_kind(&self) -> TokenKind {
        self.tokens.get(self.position + 1).map_or(TokenKind::End, |token| token.kind)
    }

    /// The next token's text if it is a word in small letters.
    fn word(&self) -> Option<&str> {
        let token = self.peek();
        (token.kind == TokenKind::Lower).then(|| &self.text[token.at.clone()])
    }

    fn take(&mut self, kind: TokenKind) -> bool {
        let is_next = self.peek().kind == kind;
        self.position += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, kind: TokenKind, expected: &str, help: &str) -> Result<(), Diagnostic> {
        if self.take(kind) { Ok(()) } else { Err(self.unexpected(expected, help)) }
    }

    fn end(&self, expected: &str) -> Result<(), Diagnostic> {
        match self.peek().kind {
            TokenKind::End => Ok(()),
            TokenKind::ParenClose => Err(self.unexpected(expected, "remove the parenthesis, or open one before")),
            _ => Err(self.unexpected(expected, "one statement has one editor and one condition")),
        }
    }

    fn unexpected(&self, expected: &str, help: &str) -> Diagnostic {
        let token = self.peek();
        let found = match token.kind {
            TokenKind::End => "the end of the statement".to_owned(),
            _ => format!("`{}`", shortened(&self.text[token.at.clone()])),
        };
        Diagnostic::expected(token.at.clone(), expected, &found, help)
    }

    /// Everything since the token at `start` until the last one taken.
    fn since(&self, start: usize) -> Range<usize> {
        start..self.tokens[self.position.saturating_sub(1)].at.end
    }

    /// Runs `inner` one level deeper.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Diagnostic>) -> Result<T, Diagnostic> {
        if self.depth == DEPTH_MAX {
            let message = format!("expected at most {DEPTH_MAX} levels of nesting, found one more");
            return Err(Diagnostic::new(
                self.peek().at.clone(),
                message,
                "compute parts into `cache` in statements of their own",
            ));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn or(&mut self) -> Result<Expr, Diagnostic> {
        self.chain(TokenKind::Or, Self::and, ExprKind::Or)
    }

    fn and(&mut self) -> Result<Expr, Diagnostic> {
        self.chain(TokenKind::And, Self::not, ExprKind::And)
    }

    fn chain(
        &mut self,
        between: TokenKind,
        part: fn(&mut Self) -> Result<Expr, Diagnostic>,
        join: fn(Vec<Expr>) -> ExprKind,
    ) -> Result<Expr, Diagnostic> {
        let start = self.peek().at.start;
        let first = part(self)?;
        if self.peek().kind != between {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take(between) {
            parts.push(part(self)?);
        }
        Ok(Expr { at: self.since(start), kind: join(parts) })
    }

    fn not(&mut self) -> Result<Expr, Diagnostic> {
        let start = self.peek().at.start;
        if !self.take(TokenKind::Not) {
            return self.comparison();
        }
        let inner = self.comparison()?;
        Ok(Expr { at: self.since(start), kind: ExprKind::Not(Box::new(inner)) })
    }

    fn comparison(&mut self) -> Result<Expr, Diagnostic> {
        let start = self.peek().at.start;
        let left = self.sum()?;
        let token = self.peek().clone();
        let operator = match &self.text[token.at] {
            _ if token.kind == TokenKind::Equal => {
                return Err(self.unexpected("an operator such as `==`", "equality is written `==`"));
            }
            _ if token.kind != TokenKind::Comparison => return Ok(left),
            "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            _ => Comparison::GreaterOrEqual,
        };
        self.position += 1;
        let right = self.sum()?;
        if self.peek().kind == TokenKind::Comparison {
            return Err(self.unexpected("`and`, `or` or the end", "comparisons do not chain: write `a < b and b < c`"));
        }
        Ok(Expr { at: self.since(start), kind: ExprKind::Compare(operator, Box::new((left, right))) })
    }

    fn sum(&mut self) -> Result<Expr, Diagnostic> {
        let operators = [(TokenKind::Plus, MathOperator::Add), (TokenKind::Minus, MathOperator::Subtract)];
        self.math(operators, Self::product)
    }

    fn product(&mut self) -> Result<Expr, Diagnostic> {
        let operators = [(TokenKind::Star, MathOperator::Multiply), (TokenKind::Slash, MathOperator::Divide)];
        self.math(operators, Self::sign)
    }

    fn math(
        &mut self,
        operators: [(TokenKind, MathOperator); 2],
        part: fn(&mut Self) -> Result<Expr, Diagnostic>,
    ) -> Result<Expr, Diagnostic> {
        let start = self.peek().at.start;
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(kind, _)| *kind == self.peek().kind) {
            self.position += 1;
            rest.push((*operator, part(self)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expr { at: self.since(start), kind: ExprKind::Math(Box::new(first), rest) })
    }

    fn sign(&mut self) -> Result<Expr, Diagnostic> {
        let start = self.peek().at.start;
        if self.take(TokenKind::Plus) {
            return self.primary();
        }
        if !self.take(TokenKind::Minus) {
            return self.primary();
        }
        // The smallest integer has no positive twin, so a sign belongs to its number.
        let token = self.peek().clone();
        if token.kind == TokenKind::Int {
            let value = self.integer(&token.at, "-")?;
            return Ok(Expr { at: self.since(start), kind: ExprKind::Int(value) });
        }
        let inner = self.primary()?;
        let kind = match inner.kind {
            ExprKind::Double(value) => ExprKind::Double(-value),
            _ => ExprKind::Negate(Box::new(inner)),
        };
        Ok(Expr { at: self.since(start), kind })
    }

    fn primary(&mut self) -> Result<Expr, Diagnostic> {
        self.nested(Self::primary_inside)
    }

    fn primary_inside(&mut self) -> Result<Expr, Diagnostic> {
        let token = self.peek().clone();
        let at = token.at.clone();
        let kind = match token.kind {
            TokenKind::Int => ExprKind::Int(self.integer(&at, "")?),
            TokenKind::ParenOpen => {
                self.position += 1;
                let inner = self.or()?;
                self.expect(TokenKind::ParenClose, "`)`", "close the parenthesis")?;
                return Ok(Expr { at: self.since(at.start), kind: inner.kind });
            }
            TokenKind::BracketOpen => self.list()?,
            TokenKind::BraceOpen => self.map()?,
            TokenKind::Upper | TokenKind::Lower if self.next_kind() == TokenKind::ParenOpen => {
                self.position += 1;
                ExprKind::Call(self.call(at.clone())?)
            }
            TokenKind::Lower => ExprKind::Path(self.path()?),
            kind => {
                let literal = self.literal(kind, &at)?;
                self.position += 1;
                literal
            }
        };
        Ok(Expr { at: self.since(at.start), kind })
    }

    fn literal(&self, kind: TokenKind, at: &Range<usize>) -> Result<ExprKind, Diagnostic> {
        let text = &self.text[at.clone()];
        Ok(match kind {
            TokenKind::Nil => ExprKind::Nil,
            TokenKind::True => ExprKind::Bool(true),
            TokenKind::False => ExprKind::Bool(false),
            TokenKind::Double => ExprKind::Double(self.float(at)?),
            TokenKind::Text => ExprKind::Text(unquote(self.text, at)?),
            TokenKind::Bytes => ExprKind::Bytes(self.bytes(at)?),
            TokenKind::Upper => ExprKind::Name(text.to_owned()),
            TokenKind::Underscore | TokenKind::Arrow => {
                return Err(self.unexpected("a value", "functions written in place (`x => ...`) are not supported"));
            }
            TokenKind::Not => return Err(self.unexpected("a value", "put the negated condition in parentheses")),
            _ => return Err(self.unexpected("a value", "a value is a literal, a path, a function call or arithmetic")),
        })
    }

    fn integer(&mut self, at: &Range<usize>, sign: &str) -> Result<i64, Diagnostic> {
        let digits = &self.text[at.clone()];
        match format!("{sign}{digits}").parse() {
            Ok(value) => {
                self.position += 1;
                Ok(value)
            }
            Err(_) => Err(self.unexpected("an integer of 64 bits", "write it as a float: add `.0`")),
        }
    }

    fn float(&self, at: &Range<usize>) -> Result<f64, Diagnostic> {
        match self.text[at.clone()].parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.unexpected("a float of 64 bits", "the largest is about 1.8e308")),
        }
    }

    fn bytes(&self, at: &Range<usize>) -> Result<Vec<u8>, Diagnostic> {
        let digits = &self.text.as_bytes()[at.start + 2..at.end];
        if digits.len() % 2 == 1 {
            return Err(self.unexpected("two digits per byte", "add a leading zero behind `0x`"));
        }
        // The lexer took hexadecimal digits only.
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
        Ok(digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect())
    }

    fn list(&mut self) -> Result<ExprKind, Diagnostic> {
        self.position += 1;
        let mut items = Vec::new();
        while !self.take(TokenKind::BracketClose) {
            if !items.is_empty() {
                self.expect(TokenKind::Comma, "`,` or `]`", "items of a list are separated by commas")?;
            }
            items.push(self.sum()?);
        }
        Ok(ExprKind::List(items))
    }

    fn map(&mut self) -> Result<ExprKind, Diagnostic> {
        self.position += 1;
        let mut items = Vec::new();
        while !self.take(TokenKind::BraceClose) {
            let key = self.peek().clone();
            if !self.take(TokenKind::Text) {
                return Err(self.unexpected("a key in double quotes or `}`", "a map is written `{\"key\": value}`"));
            }
            self.expect(TokenKind::Colon, "`:`", "a map is written `{\"key\": value}`")?;
            items.push((unquote(self.text, &key.at)?, self.sum()?));
            if !self.take(TokenKind::Comma) && self.peek().kind != TokenKind::BraceClose {
                return Err(self.unexpected("`,` or `}`", "entries of a map are separated by commas"));
            }
        }
        Ok(ExprKind::Map(items))
    }

    /// A call whose name at `name_at` was taken; its parenthesis comes next.
    fn call(&mut self, name_at: Range<usize>) -> Result<Call, Diagnostic> {
        self.position += 1;
        let mut arguments = Vec::new();
        while !self.take(TokenKind::ParenClose) {
            if !arguments.is_empty() {
                self.expect(TokenKind::Comma, "`,` or `)`", "arguments are separated by commas and closed by `)`")?;
            }
            arguments.push(self.argument()?);
        }
        let name = self.text[name_at.clone()].to_owned();
        let keys = self.keys()?;
        Ok(Call { at: self.since(name_at.start), name, name_at, arguments, keys })
    }

    fn argument(&mut self) -> Result<Argument, Diagnostic> {
        let token = self.peek().clone();
        let is_named = token.kind == TokenKind::Lower && self.next_kind() == TokenKind::Equal;
        self.position += if is_named { 2 } else { 0 };
        let name = is_named.then(|| (self.text[token.at.clone()].to_owned(), token.at));
        let value = self.sum()?;
        Ok(Argument { name, value })
    }

    fn path(&mut self) -> Result<Path, Diagnostic> {
        let mut segments = Vec::new();
        loop {
            let at = self.peek().at.clone();
            if self.word().is_none() {
                return Err(self.unexpected("a field", "a path is written `span.attributes[\"key\"]`"));
            }
            self.position += 1;
            let keys = self.keys()?;
            segments.push(Segment { name: self.text[at.clone()].to_owned(), at, keys });
            if !self.take(TokenKind::Dot) {
                return Ok(Path { segments });
            }
        }
    }

    fn keys(&mut self) -> Result<Vec<Expr>, Diagnostic> {
        let mut keys = Vec::new();
        while self.take(TokenKind::BracketOpen) {
            keys.push(self.sum()?);
            self.expect(TokenKind::BracketClose, "`]`", "a key is written `[\"key\"]`, an index `[0]`")?;
        }
        Ok(keys)
    }
}

fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(end, _)| end);
    &text[..end]
}
