//! Just enough protobuf to write a request once, before the run. It appends to a buffer and never reads.

/// Appends a base-128 varint.
pub(crate) fn varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

/// Appends a length-delimited field.
pub(crate) fn bytes(buffer: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(buffer, u64::from(field) << 3 | 2);
    varint(buffer, value.len() as u64);
    buffer.extend_from_slice(value);
}

/// Appends an integer field, also when it is 0: a patched field needs its place.
pub(crate) fn integer(buffer: &mut Vec<u8>, field: u32, value: u64) {
    varint(buffer, u64::from(field) << 3);
    varint(buffer, value);
}

/// Appends a fixed64 field.
pub(crate) fn fixed64(buffer: &mut Vec<u8>, field: u32, value: u64) {
    varint(buffer, u64::from(field) << 3 | 1);
    buffer.extend_from_slice(&value.to_le_bytes());
}

/// Appends a fixed32 field.
pub(crate) fn fixed32(buffer: &mut Vec<u8>, field: u32, value: u32) {
    varint(buffer, u64::from(field) << 3 | 5);
    buffer.extend_from_slice(&value.to_le_bytes());
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `string_value`.
    Text(String),
    /// `int_value`.
    Int(u64),
    /// `bool_value`.
    Bool(bool),
}

/// Appends a `KeyValue` (opentelemetry-proto, common/v1) as field number `field`.
pub(crate) fn attribute(buffer: &mut Vec<u8>, field: u32, key: &str, value: &Value) {
    let mut any = Vec::with_capacity(64);
    match value {
        Value::Text(text) => bytes(&mut any, 1, text.as_bytes()),
        Value::Bool(flag) => integer(&mut any, 2, u64::from(*flag)),
        Value::Int(number) => integer(&mut any, 3, *number),
    }
    let mut pair = Vec::with_capacity(128);
    bytes(&mut pair, 1, key.as_bytes());
    bytes(&mut pair, 2, &any);
    bytes(buffer, field, &pair);
}
