//! URLs without what is an id: `/users/42/orders?page=2` becomes `/users/*/orders`.
//!
//! The query goes. A part of the path stays if it is made of words: letters, `-`, `_`, `.` and spaces, and perhaps one
//! other character as its second (`v1`). Whether letters are a word or an id is a guess: a word has vowels, not too many
//! consonants in a row, and is not overlong. The Collector asks a model that was trained on words; both let an id pass
//! that sounds like one.

/// Parts of a path that are looked at; what is behind goes.
const PARTS_MAX: usize = 10;
/// Letters of the longest word, as far as this knows.
const WORD_LETTERS_MAX: usize = 32;
/// Consonants in a row that no word has.
const CONSONANTS_MAX: usize = 5;

pub(super) fn cleaned(text: &[u8]) -> Vec<u8> {
    let end = text.iter().position(|byte| matches!(byte, b'?' | b'&' | b'#')).unwrap_or(text.len());
    let mut out = Vec::with_capacity(end);
    for (place, part) in text[..end].split(|byte| *byte == b'/').take(PARTS_MAX).enumerate() {
        if place > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(if is_made_of_words(part) { part } else { b"*" });
    }
    out
}

/// Whether a part of a path may stay. Nothing at all may.
fn is_made_of_words(part: &[u8]) -> bool {
    let is_separator = |byte: u8| matches!(byte, b'-' | b'_' | b'.' | b' ');
    let is_usual = |byte: u8| byte.is_ascii_alphabetic() || is_separator(byte);
    let all_usual = part.iter().enumerate().all(|(place, byte)| place == 1 || is_usual(*byte));
    all_usual && part.split(|byte| !byte.is_ascii_alphabetic()).all(is_word)
}

fn is_word(letters: &[u8]) -> bool {
    let is_vowel = |letter: u8| matches!(letter.to_ascii_lowercase(), b'a' | b'e' | b'i' | b'o' | b'u' | b'y');
    // Short ones are abbreviations as often as not; three letters tell nobody much.
    if letters.len() <= 3 {
        return true;
    }
    let mut in_a_row = 0;
    let mut longest = 0;
    for letter in letters {
        in_a_row = if is_vowel(*letter) { 0 } else { in_a_row + 1 };
        longest = longest.max(in_a_row);
    }
    // Words of camelCase begin with a capital, and have several letters each.
    let capitals =
        letters.windows(2).filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()).count();
    let is_mixed = capitals >= 3 && letters.len() / (capitals + 1) < 3;
    let has_vowels = letters.iter().any(|letter| is_vowel(*letter));
    has_vowels && longest <= CONSONANTS_MAX && letters.len() <= WORD_LETTERS_MAX && !is_mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_queries_go_and_words_stay() {
        let cases = [
            ("", ""),
            ("/users/fdklsd/j4elk/23993/job/2", "/users/*/j4elk/*/job/*"),
            ("123", "*"),
            ("123/", "*/"),
            ("/**", "/*"),
            ("/u/2", "/u/*"),
            ("/v1/products/22j", "/v1/products/*"),
            ("/products//org/3", "/products//org/*"),
            ("/v1/k6-test-runs/1", "/v1/k6-test-runs/*"),
            ("/Benutzer/fdklsd/Arbeit/2", "/Benutzer/*/Arbeit/*"),
            ("/user_space/", "/user_space/"),
            ("/api.backup/hello.world", "/api.backup/hello.world"),
            ("GET /api/cart?sessionId=55f4&x=1", "GET /api/cart"),
            ("/attach#section-1", "/attach"),
            ("?", ""),
            ("attach12?", "*"),
            ("/1#", "/*"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/i"),
            ("https://example.com:8080/users/42?x=1", "*//*/users/*"),
            ("/api/v1/orders/ab12cd/items", "/api/v1/orders/*/items"),
            ("/static/app.min.js", "/static/app.min.js"),
            ("/qwrtzp", "/*"),
            ("/aBcDeFgHiJkL", "/*"),
            ("/getUserByName", "/getUserByName"),
            ("/user@example.com", "/*"),
            ("/strengths/xylophon", "/strengths/xylophon"),
            ("/gr\u{fc}\u{df}e", "/*"),
        ];
        for (text, expected) in cases {
            assert_eq!(String::from_utf8_lossy(&cleaned(text.as_bytes())), expected, "{text}");
        }
    }
}
