//! AMF0 (AMF0 §2), the encoding of commands and metadata.
//!
//! References and AMF3 values are not read, as no encoder uses them after a connect that was answered with object encoding 0.

/// The deepest nesting of values. `connect` has three levels, `onMetaData` with track maps four.
pub const MAX_DEPTH: usize = 16;

/// The most values in one message, including nested ones. `onMetaData` has about thirty.
pub const MAX_VALUES: usize = 4096;

/// Why bytes are no AMF0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They end inside a value.
    #[error("AMF value is cut off")]
    CutOff,
    /// Values are nested deeper than [`MAX_DEPTH`].
    #[error("AMF values are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    #[error("more than {MAX_VALUES} AMF values")]
    TooMany,
    /// A type marker that does not exist or is reserved.
    #[error("AMF type {0} does not exist")]
    Marker(u8),
    /// An array says it has more elements than bytes follow.
    #[error("AMF array is longer than its message")]
    ArrayLength,
}

/// One AMF0 value. Text that is not UTF-8 has its wrong bytes replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, or a date in milliseconds since 1970.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// Text: short, long or XML.
    String(String),
    /// An object, a typed object or an ECMA array: names and values in the order sent.
    Object(Vec<(String, Value)>),
    /// A strict array.
    Array(Vec<Value>),
    /// Null.
    Null,
    /// Undefined or unsupported.
    Undefined,
}

impl Value {
    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// The member of this name, if it is an object that has one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(members) => members.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::String(s.to_owned())
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Number(n)
    }
}

/// Builds an object.
pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(n, v)| (n.to_owned(), v)).collect())
}

mod marker {
    pub(super) const NUMBER: u8 = 0;
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const STRING: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const NULL: u8 = 5;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const REFERENCE: u8 = 7;
    pub(super) const ECMA_ARRAY: u8 = 8;
    pub(super) const OBJECT_END: u8 = 9;
    pub(super) const STRICT_ARRAY: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const LONG_STRING: u8 = 12;
    pub(super) const UNSUPPORTED: u8 = 13;
    pub(super) const XML: u8 = 15;
    pub(super) const TYPED_OBJECT: u8 = 16;
    pub(super) const AMF3: u8 = 17;
}

/// Decodes all values of a message body. What follows an AMF3 marker (17) is ignored.
///
/// # Errors
/// See [`Error`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let mut decoder = Decoder { rest: bytes, left: MAX_VALUES };
    let mut values = Vec::new();
    while let Some(&marker) = decoder.rest.first() {
        if marker == marker::AMF3 {
            break;
        }
        values.push(decoder.value(0)?);
    }
    Ok(values)
}

struct Decoder<'a> {
    rest: &'a [u8],
    left: usize,
}

impl Decoder<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth >= MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        self.left = self.left.checked_sub(1).ok_or(Error::TooMany)?;
        let [marker] = self.take::<1>()?;
        Ok(match marker {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.take()?)),
            marker::BOOLEAN => Value::Boolean(self.take::<1>()? != [0]),
            marker::STRING => Value::String(self.short_text()?),
            marker::LONG_STRING | marker::XML => {
                let length = u32::from_be_bytes(self.take()?);
                Value::String(self.text(length as usize)?)
            }
            marker::OBJECT => Value::Object(self.members(depth)?),
            marker::ECMA_ARRAY => {
                // The count is unreliable: encoders write 0 or a wrong one. The end marker ends the array.
                self.take::<4>()?;
                Value::Object(self.members(depth)?)
            }
            marker::TYPED_OBJECT => {
                self.short_text()?;
                Value::Object(self.members(depth)?)
            }
            marker::STRICT_ARRAY => Value::Array(self.elements(depth)?),
            marker::DATE => {
                let date = f64::from_be_bytes(self.take()?);
                self.take::<2>()?; // time zone: reserved, not filled (AMF0 §2.13)
                Value::Number(date)
            }
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            marker::REFERENCE => {
                self.take::<2>()?;
                Value::Undefined
            }
            other => return Err(Error::Marker(other)),
        })
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut members = Vec::new();
        loop {
            // Some encoders omit the end marker of the last object.
            if self.rest.is_empty() {
                return Ok(members);
            }
            let name = self.short_text()?;
            if name.is_empty() && self.rest.first() == Some(&marker::OBJECT_END) {
                self.take::<1>()?;
                return Ok(members);
            }
            members.push((name, self.value(depth + 1)?));
        }
    }

    fn elements(&mut self, depth: usize) -> Result<Vec<Value>, Error> {
        let count = u32::from_be_bytes(self.take()?) as usize;
        // Each element has at least its marker.
        if count > self.rest.len() {
            return Err(Error::ArrayLength);
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(self.value(depth + 1)?);
        }
        Ok(elements)
    }

    fn short_text(&mut self) -> Result<String, Error> {
        let length = u16::from_be_bytes(self.take()?);
        self.text(length as usize)
    }

    fn text(&mut self, length: usize) -> Result<String, Error> {
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Error::CutOff)?;
        self.rest = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Error::CutOff)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Appends `value` to `out`. Text above 65 535 bytes goes out as a long string; a member's name is cut there.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(n) => {
            out.push(marker::NUMBER);
            out.extend(n.to_be_bytes());
        }
        Value::Boolean(b) => out.extend([marker::BOOLEAN, u8::from(*b)]),
        Value::String(s) => encode_text(s, out),
        Value::Object(members) => {
            out.push(marker::OBJECT);
            for (name, value) in members {
                let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
                out.extend((name.len() as u16).to_be_bytes());
                out.extend(name);
                encode(value, out);
            }
            out.extend([0, 0, marker::OBJECT_END]);
        }
        Value::Array(elements) => {
            out.push(marker::STRICT_ARRAY);
            out.extend((elements.len() as u32).to_be_bytes());
            elements.iter().for_each(|e| encode(e, out));
        }
        Value::Null => out.push(marker::NULL),
        Value::Undefined => out.push(marker::UNDEFINED),
    }
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(text.len()) {
        out.push(marker::STRING);
        out.extend(length.to_be_bytes());
    } else {
        out.push(marker::LONG_STRING);
        out.extend((text.len() as u32).to_be_bytes());
    }
    out.extend(text.as_bytes());
}

/// Encodes values as a message body.
pub fn encode_all(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|v| encode(v, &mut out));
    out
}

#[cfg(test)]
mod tests;
