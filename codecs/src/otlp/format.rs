//! Which of OTLP's two encodings a body is in.

/// How requests, answers and errors of OTLP/HTTP are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Protobuf. gRPC knows nothing else.
    #[default]
    Protobuf,
    /// JSON as the OTLP specification has it.
    Json,
}

impl Format {
    /// The media type of bodies in this format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// The format that a `Content-Type` names, whatever its parameters and its case; `None` if OTLP has none for it.
    #[must_use]
    pub fn from_content_type(value: &str) -> Option<Self> {
        let kind = value.split(';').next().unwrap_or_default().trim();
        [Self::Protobuf, Self::Json].into_iter().find(|format| kind.eq_ignore_ascii_case(format.content_type()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_names_its_format_in_any_case_and_with_parameters() {
        let of = Format::from_content_type;
        assert_eq!(of("application/x-protobuf"), Some(Format::Protobuf));
        assert_eq!(of("Application/JSON; charset=utf-8"), Some(Format::Json));
        assert_eq!(of(" application/json ;x"), Some(Format::Json));
        for other in ["", "text/plain", "application/jsonl", "application/json2", "json", "application/protobuf"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
